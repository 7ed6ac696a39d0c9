"""Frames from a video file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from deeplab_rt.errors import FrameError, StreamError
from deeplab_rt.frame import Frame
from deeplab_rt.streams.base import Recording, check_image_size


class VideoFile(Recording):
    """Every frame of a video, stamped with the container's own timestamps (the first is near 0)."""

    def __init__(self, path: Path) -> None:
        """Open the video and decode its first frame.

        Raises:
            StreamError: it is empty, no video, cut off before its index, or of an unknown codec.
        """
        if path.stat().st_size == 0:
            raise StreamError(f"{path}: the file is empty")
        self._capture, first = open_capture(str(path), cv2.CAP_FFMPEG)
        if first is None:
            self._capture.release()
            raise StreamError(
                f"{path}: cannot be decoded as a video: cut off, or of a codec that OpenCV lacks; "
                f"`ffmpeg -i {path} -c:v libx264 NEW.mp4` converts it if anything does"
            )
        try:
            check_image_size(first)
        except FrameError as error:
            self._capture.release()
            raise StreamError(f"{path}: {error}") from None
        self._first = first
        count = round(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        super().__init__(str(path), count if count > 0 else None, fps if 0 < fps < 1e4 else None)

    def __iter__(self) -> Iterator[Frame]:
        period_ns = round(1e9 / (self.fps or 30.0))
        index, stamp_ns = 0, -period_ns
        image: np.ndarray | None = self._first
        while image is not None:
            # A stream without timestamps reports 0 for ever: then the rate makes the stamps.
            position_ns = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
            stamp_ns = position_ns if position_ns > stamp_ns else stamp_ns + period_ns
            yield Frame(image, index, stamp_ns)
            index += 1
            read, image = self._capture.read()
            image = image if read else None
        # By time, not by count: a container that holds no count multiplies its length by its rate.
        if self.total is not None and self.fps is not None:
            missing = self.total / self.fps - (stamp_ns + period_ns) / 1e9
            if missing > max(3 / self.fps, 0.02 * self.total / self.fps):
                self.warnings.append(
                    f"{self.name}: ends after {index} frames, {missing:.1f} s before the length that "
                    "its header promises; the file seems to be cut off"
                )

    def close(self) -> None:
        self._capture.release()


def open_capture(
    name: str | int, api: int, options: Sequence[int] = ()
) -> tuple[cv2.VideoCapture, np.ndarray | None]:
    """Open a video or a camera, without what OpenCV and FFmpeg say of it on stderr.

    Args:
        name: file, URL, device path or camera number.
        api: ``cv2.CAP_FFMPEG`` or another.
        options: pairs of a ``cv2.CAP_PROP_*`` and its value.

    Returns:
        The capture, and its first frame (uint8 [H, W, 3] BGR), or None where it gives none.
    """
    # What is wrong is told in one line of our own. FFmpeg's level is read at the first opening.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        capture = cv2.VideoCapture(name, api, list(options))
        read, first = capture.read() if capture.isOpened() else (False, None)
    finally:
        cv2.utils.logging.setLogLevel(level)
    return capture, first if read else None
