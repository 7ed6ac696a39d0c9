"""Overlays for people: the label colours over the frame, a legend under it, as an H.264 video."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from deeplab_rt.errors import StreamError
from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks, overlay
from deeplab_rt.streams.outputs import check_new_file, check_space, writing

CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
# As sharp as preset veryfast at crf 21 (42.5 dB on a street), in files half as large again, for a
# third of its time, which a CPU that runs the network has to spare.
_ENCODER = {"preset": "superfast", "crf": "23", "x264-params": "bframes=0:subme=0:weightp=0"}
_TICKS = 90_000  # per second, the clock of the video
_LONGEST_S = 2.0  # a longer pause between two frames (another input, a gap) is not sat through
_LINE = 22  # height in pixels of one line of the legend
_FONT, _FONT_SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.42
_INK, _PAPER = (235, 235, 235), (24, 24, 24)


def frame_overlay(frame: Frame, masks: Masks, labels: LabelSet, alpha: float = 0.5) -> np.ndarray:
    """The overlay of a frame of either channel order, uint8 [H, W, 3] BGR."""
    return overlay(frame.bgr, masks, labels, alpha)


def legend(labels: LabelSet, width: int) -> np.ndarray:
    """A strip that names the colours, in as many lines as they need.

    Returns:
        uint8 [H, width, 3] BGR; drivable classes are marked with a bar under their name.
    """
    places: list[tuple[int, int]] = []
    x, line = 6, 0
    for name in labels.names:
        needed = 20 + _text_width(name) + 12
        if x > 6 and x + needed > width:
            x, line = 6, line + 1
        places.append((x, line * _LINE))
        x += needed
    strip = np.full(((line + 1) * _LINE, width, 3), _PAPER, np.uint8)
    drivable = labels.group("drivable")
    for label, (left, top) in zip(labels.labels, places, strict=True):
        cv2.rectangle(strip, (left, top + 5), (left + 14, top + 17), label.color[::-1], cv2.FILLED)
        cv2.putText(
            strip, label.name, (left + 20, top + 15), _FONT, _FONT_SIZE, _INK, 1, cv2.LINE_AA
        )
        if label.name in drivable:
            end = left + 20 + _text_width(label.name)
            cv2.line(strip, (left + 20, top + 19), (end, top + 19), _INK, 1)
    return strip


def _text_width(text: str) -> int:
    return int(cv2.getTextSize(text, _FONT, _FONT_SIZE, 1)[0][0])


@contextmanager
def _encoding(path: Path) -> Iterator[None]:
    """As :func:`~deeplab_rt.streams.outputs.writing`, for what the encoder refuses too."""
    with writing(path):
        try:
            yield
        except av.FFmpegError as error:
            if isinstance(error, OSError):
                raise
            raise StreamError(f"{path}: cannot be encoded: {error}") from None


class OverlayVideo:
    """An H.264 video of the overlays, in real time by the frames' stamps.

    The first frame's size is the video's; later frames of other sizes are scaled to it. The file
    takes its name when it is closed.
    """

    def __init__(self, path: Path, labels: LabelSet, overwrite: bool = False) -> None:
        """Check the name; the file is begun with the first frame.

        Args:
            path: ends in .mp4, .mov or .mkv.
            labels: of the masks.
            overwrite: whether a file of this name is replaced.

        Raises:
            StreamError: it exists and may not be replaced, or ends otherwise.
        """
        if path.suffix.lower() not in CONTAINERS:
            raise StreamError(f"{path}: expected a name that ends in {', '.join(CONTAINERS)}")
        check_new_file(path, overwrite)
        self.path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._labels = labels
        self._container: Any = None
        self._stream: Any = None
        self._canvas = np.empty((0, 0, 3), np.uint8)
        self._size = (0, 0)  # (height, width) of the frames in the canvas
        self._stamp_ns = 0
        self._time = 0  # of the newest frame, in ticks
        self._step = _TICKS // 30

    def write(self, frame: Frame, masks: Masks) -> None:
        """Encode one frame.

        Raises:
            StreamError: the disk is full or gone, or the encoder refuses the frame.
        """
        check_space(self.path)
        picture = self.picture(frame, masks)
        with _encoding(self.path):
            if self._container is None:
                self._begin(picture)
            else:
                self._time += self._ticks_since_last(frame.stamp_ns)
            self._stamp_ns = frame.stamp_ns
            height, width = self._size
            if picture.shape[:2] != self._size:
                picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
            self._canvas[:height, :width] = picture
            planes = np.asarray(cv2.cvtColor(self._canvas, cv2.COLOR_BGR2YUV_I420), np.uint8)
            encoded = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            encoded.pts, encoded.time_base = self._time, Fraction(1, _TICKS)
            self._container.mux(self._stream.encode(encoded))

    def picture(self, frame: Frame, masks: Masks) -> np.ndarray:
        """What is shown of a frame, uint8 [H, W, 3] BGR; for a subclass to show something else."""
        return frame_overlay(frame, masks, self._labels)

    def close(self) -> None:
        container, self._container = self._container, None
        if container is None:
            return
        try:
            with _encoding(self.path):
                container.mux(self._stream.encode())
                container.close()
                self._partial.replace(self.path)
        finally:
            self._partial.unlink(missing_ok=True)

    def _begin(self, picture: np.ndarray) -> None:
        self._size = (picture.shape[0], picture.shape[1])
        strip = legend(self._labels, max(self._size[1], 320))
        # H.264 with colours at half resolution takes even sides only.
        height = self._size[0] + strip.shape[0] + self._size[0] % 2
        width = strip.shape[1] + strip.shape[1] % 2
        self._canvas = np.full((height, width, 3), _PAPER, np.uint8)
        self._canvas[height - strip.shape[0] :, : strip.shape[1]] = strip
        container_format = CONTAINERS[self.path.suffix.lower()]
        self._container = av.open(str(self._partial), "w", format=container_format)
        self._stream = self._container.add_stream("libx264", rate=30)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = _ENCODER
        self._stream.codec_context.time_base = Fraction(1, _TICKS)

    def _ticks_since_last(self, stamp_ns: int) -> int:
        """At least 1. Where the stamps tell nothing usable, as long as the frame before it."""
        seconds = (stamp_ns - self._stamp_ns) / 1e9
        if 0 < seconds <= _LONGEST_S:
            self._step = max(1, round(seconds * _TICKS))
        return self._step
