"""Which source an input is."""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from deeplab_rt.errors import StreamError
from deeplab_rt.files import expand_user
from deeplab_rt.frame import Frame
from deeplab_rt.streams.base import FrameSource, ReadOptions, Recording


def open_source(
    uri: str | Path, topic: str | None = None, options: ReadOptions | None = None
) -> FrameSource:
    """Open an input by what it is.

    Args:
        uri: a camera (number, /dev path, URL), a bag of ROS 2 or ROS 1 (directory, .mcap, .db3,
            .bag), an image folder, an image, a video file, or ``street``, the drive that the package
            ships.
        topic: the image topic, for a bag that has several; those of the options if None.
        options: how a recording is read; a camera has none.

    Raises:
        StreamError: there is no such input, or it cannot be read; the message says why.
    """
    from deeplab_rt.streams import bag_reader, folder, live_camera, street, video

    if live_camera.is_camera(str(uri)):
        return live_camera.LiveCamera(str(uri))
    path = street.FOLDER / street.VIDEO if street.is_street(uri) else expand_user(uri)
    selection = (options or ReadOptions()).selection
    try:
        status = path.stat()
        if not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
            raise StreamError(
                f"{path}: a pipe, socket or device; expected a file or a folder (a camera's device "
                "lies under /dev)"
            )
        if bag_reader.is_bag(path):
            return bag_reader.BagImages(path, topic, options)
        if path.is_dir() or path.suffix.lower() in folder.SUFFIXES:
            return folder.ImageFolder(path, selection)
        return video.VideoFile(path, selection)
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError):  # a NUL in the name
            raise StreamError(f"{str(path)!r}: is no name of a file: {error}") from None
        if error.errno == errno.ENOENT:
            raise StreamError(
                f"{path}: no such input; expected a bag, a video, an image folder, a camera or "
                "`street`"
            ) from None
        raise StreamError(f"{path}: cannot be read: {error.strerror}") from None


def open_recordings(
    uris: Sequence[str | Path], topic: str | None = None, options: ReadOptions | None = None
) -> FrameSource:
    """Open one or several recordings as one source, one after the other.

    All are opened at once, so that a wrong name shows before any work is done.

    Raises:
        StreamError: as :func:`open_source`, or an input is a camera.
    """
    sources: list[FrameSource] = []
    try:
        for uri in uris:
            sources.append(open_source(uri, topic, options))
            if sources[-1].live:
                raise StreamError(
                    f"{uri}: a camera, not a recording; take `deeplab_rt webcam --device {uri}`"
                )
    except BaseException:
        for source in sources:
            source.close()
        raise
    return sources[0] if len(sources) == 1 else _Chain(sources)


class _Chain(Recording):
    """Recordings one after the other; indices go on counting."""

    def __init__(self, sources: Sequence[FrameSource]) -> None:
        totals = [source.total for source in sources]
        total = None if None in totals else sum(n for n in totals if n is not None)
        super().__init__(", ".join(source.name for source in sources), total, sources[0].fps)
        self._sources = sources
        for source in sources:
            self.warnings += source.warnings
            source.warnings = self.warnings  # one list, so that none is late

    def __iter__(self) -> Iterator[Frame]:
        offset = 0
        for source in self._sources:
            count, dropped = 0, self.dropped
            for frame in source:
                self.dropped = dropped + source.dropped
                yield replace(frame, index=offset + frame.index)
                count += 1
            self.dropped = dropped + source.dropped
            offset += count + source.dropped
            source.close()

    def close(self) -> None:
        for source in self._sources:
            source.close()
