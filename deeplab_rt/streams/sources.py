"""Which source an input is."""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable
from pathlib import Path

from deeplab_rt.errors import StreamError
from deeplab_rt.files import expand_user
from deeplab_rt.streams.base import FrameSource, ReadOptions, Selection


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


def opener(uri: str | Path) -> Callable[[float], FrameSource]:
    """What opens a recording so many seconds after its beginning, for a player."""
    return lambda start_s: open_recording(
        uri, options=ReadOptions(selection=Selection(start_s=start_s))
    )


def open_recording(
    uri: str | Path, topic: str | None = None, options: ReadOptions | None = None
) -> FrameSource:
    """Open an input that is no camera; arguments as :func:`open_source`'s.

    Raises:
        StreamError: as :func:`open_source`, or it is a camera.
    """
    source = open_source(uri, topic, options)
    if source.live:
        source.close()
        raise StreamError(
            f"{uri}: a camera, not a recording; take `deeplab_rt webcam --device {uri}`"
        )
    return source
