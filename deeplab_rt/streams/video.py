"""Frames from a video file, by PyAV; and live video, by OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np

from deeplab_rt.errors import FrameError, StreamError
from deeplab_rt.frame import MAX_PIXELS, Frame, check_size
from deeplab_rt.streams.base import Recording, Selection, check_image_size
from deeplab_rt.streams.containers import missing_bytes

_REFERS = "what it refers to cannot be decoded"
_CUT_OFF = 0.02  # of a video's length may be missing without a word; headers round


class VideoFile(Recording):
    """Every frame of a video, stamped with the container's own timestamps (the first is near 0).

    Frames that cannot be decoded, or that refer to some that could not, are counted in ``dropped``.
    """

    def __init__(self, path: Path, selection: Selection | None = None) -> None:
        """Open the video and decode its first frame.

        Args:
            path: of the file.
            selection: which frames.

        Raises:
            StreamError: it is empty, no video, cut off before its index, or of an unknown codec.
        """
        if path.stat().st_size == 0:
            raise StreamError(f"{path}: the file is empty")
        self._path = path
        self._selection = selection or Selection()
        self._container: Any = None
        self._awaited: set[int] = set()  # times of packets whose frames have not come
        self._errors: list[str] = []  # of packets, that no missing frame accounts for yet
        self._discarded = 0  # packets that the container says not to show
        self._broken = False  # frames up to the next key frame refer to one that is lost
        super().__init__(str(path), None, None)
        try:
            self._stream = self._open()
            self._decoded = self._decode()
            self._first = next(self._decoded, None)
            if self._first is None:
                raise StreamError(self._undecodable("it gives no frame"))
        except BaseException as error:
            self.close()
            if isinstance(error, (av.FFmpegError, FrameError)):
                raise StreamError(self._undecodable(str(error))) from None
            raise

    def _undecodable(self, reason: str) -> str:
        reason = self.warnings[0] if self.warnings else " ".join(reason.split())
        return (
            f"{self._path}: cannot be decoded as a video ({reason}); `ffmpeg -i {self._path} -c:v "
            "libx264 NEW.mp4` converts it if anything does"
        )

    def _open(self) -> Any:
        """The video stream, ready at the first frame of the selection."""
        # As a file even where the name looks like a protocol; and nothing beyond files is opened.
        container = self._container = av.open(
            f"file:{self._path.absolute()}",
            metadata_errors="ignore",
            options={"protocol_whitelist": "file,crypto,data"},
        )
        if not container.streams.video:
            raise StreamError(self._undecodable("it has no video stream"))
        stream = container.streams.video[0]
        context = stream.codec_context
        if context is None:
            raise StreamError(self._undecodable("of a codec that PyAV lacks"))
        if context.width and context.height:
            check_size(context.height, context.width)
        context.options = {"max_pixels": str(MAX_PIXELS)}
        stream.thread_type = "AUTO"
        rate = float(stream.average_rate or 0)
        self.fps = rate if 0 < rate < 1e4 else None
        assert stream.time_base is not None  # of every stream that was opened
        self._start_s = float((stream.start_time or 0) * stream.time_base)
        self._length_s = self._length(stream)
        self.total = self._count(stream)
        if self._selection.start_s:
            with suppress(av.FFmpegError):  # no index: then it is decoded from the front
                ticks = (self._start_s + self._selection.start_s) / float(stream.time_base)
                container.seek(int(ticks), stream=stream)
        return stream

    def _length(self, stream: Any) -> float | None:
        if stream.duration:
            return float(stream.duration * stream.time_base)
        return self._container.duration / 1e6 if self._container.duration else None

    def _count(self, stream: Any) -> int | None:
        """How many frames the selection has, as far as the header tells."""
        count: int = stream.frames
        if not count and self._length_s and self.fps:
            count = round(self._length_s * self.fps)
        start, stop = self._selection.start_s, self._selection.stop_s
        if (start or stop is not None) and self.fps:
            count = min(count, round((stop or 1e9) * self.fps)) - round(start * self.fps)
        return -(-count // self._selection.every) if count > 0 else None

    def __iter__(self) -> Iterator[Frame]:
        if self._first is not None:
            first, self._first = self._first, None
            yield first
            yield from self._decoded

    def _decode(self) -> Iterator[Frame]:
        period_ns = round(1e9 / (self.fps or 30.0))
        index, stamp_ns = 0, -period_ns
        for item, seconds in self._images():
            # A stream without timestamps: then the rate makes the stamps.
            time_ns = -1 if seconds is None else round(1e9 * seconds)
            if not isinstance(item, FrameError) or seconds is not None:
                stamp_ns = time_ns if time_ns > stamp_ns else stamp_ns + period_ns
            where = self._selection.position(stamp_ns / 1e9)
            if where > 0:
                return
            if where < 0:
                continue
            place, index = index, index + 1
            if not self._selection.takes(place):
                continue
            try:
                if isinstance(item, FrameError):
                    raise item
                image = _upright(item)
                check_image_size(image)
            except FrameError as error:
                self.skip(place, f"{error} (at {stamp_ns / 1e9:.3f} s)")
                continue
            yield Frame(image, place, stamp_ns)
        self._note_missing(index, (stamp_ns + period_ns) / 1e9)

    def _images(self) -> Iterator[tuple[Any, float | None]]:
        """Each decoded frame, or why there is none, with its time in seconds."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                self.warnings.append(f"{self.name}: cannot be read further: {error.strerror}")
                packet = av.Packet()  # gives what the decoder still holds
                packets = iter(())
            if packet is None:
                return
            if packet.size and packet.is_discard:
                self._discarded += 1
            elif packet.size and packet.pts is not None:
                self._awaited.add(packet.pts)
            try:
                frames = self._stream.codec_context.decode(packet if packet.size else None)
            except av.FFmpegError as error:
                self._errors += [f"cannot be decoded: {error.strerror}"] if packet.size else []
                frames = []
            for frame in frames:
                yield from self._lost_before(frame.pts)
                self._awaited.discard(frame.pts)
                if frame.key_frame:
                    self._broken = False
                if frame.is_corrupt or self._broken:
                    yield FrameError(_REFERS), self._seconds(frame)
                else:
                    yield frame, self._seconds(frame)
            if not packet.size:
                yield from self._lost_before(None)

    def _lost_before(self, pts: int | None) -> Iterator[tuple[FrameError, float | None]]:
        """The frames that should have come before a time (or None, the end) and could not be decoded.

        The decoder's threads tell errors later, and not of which packet: that shows by what is missing.
        """
        missing = sorted(time for time in self._awaited if pts is None or time < pts)
        self._awaited.difference_update(missing)
        for time in missing:
            if self._errors or self._broken:  # else it is a packet that shows nothing, as some are
                self._broken = True
                reason = self._errors.pop(0) if self._errors else _REFERS
                yield FrameError(reason), float(time * self._stream.time_base) - self._start_s
        while pts is None and self._errors:
            yield FrameError(self._errors.pop(0)), None

    def _seconds(self, timed: Any) -> float | None:
        if timed.pts is None:
            return None
        return float(timed.pts * self._stream.time_base) - self._start_s

    def _note_missing(self, count: int, end_s: float) -> None:
        """Tell where a file ends before its header says: ``count`` frames, lost ones included."""
        if self._selection.stop_s is not None:
            return
        # By the header's count, where it has one: an .avi that was cut off tells the length of the rest.
        declared = self._stream.frames - self._discarded
        if not self._selection.start_s and declared > count:
            self.warnings.append(
                f"{self.name}: ends after {count} of the {declared} frames that its header promises; "
                "the file seems to be cut off"
            )
            return
        if self._length_s is None or self.fps is None:
            return
        missing = self._length_s - end_s
        if missing > max(3 / self.fps, _CUT_OFF * self._length_s):
            self.warnings.append(
                f"{self.name}: ends after {count} frames, {missing:.1f} s before the length that its "
                "header promises; the file seems to be cut off"
            )
        elif lost := missing_bytes(self._path):
            self.warnings.append(
                f"{self.name}: cut off: {lost} bytes fewer than its header says; {count} frames are there"
            )

    def close(self) -> None:
        container, self._container = self._container, None
        if container is not None:
            container.close()


def _upright(frame: Any) -> np.ndarray:
    """uint8 [H, W, 3] BGR of a decoded frame, turned as its display matrix says."""
    image: np.ndarray = frame.to_ndarray(format="bgr24")
    turns = round(frame.rotation / 90) % 4  # counter-clockwise
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
