"""Frames from a live camera: a number, a device path or a URL."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import cv2
import numpy as np

from deeplab_rt.errors import FrameError, StreamError
from deeplab_rt.frame import Frame
from deeplab_rt.streams.base import FrameSource, check_image_size
from deeplab_rt.streams.video import open_capture

CONNECT_S = 5.0  # how long a network camera may take to answer, or to send its next frame
RECONNECT_S = 5.0  # how long a camera that stopped is tried again before the stream ends


def is_camera(uri: str) -> bool:
    """Whether a name is that of a camera: a number, a path under /dev, or a URL."""
    return uri.isdecimal() or uri.startswith("/dev/") or "://" in uri


class LiveCamera:
    """The newest frame of a camera, never an older one that waited.

    A thread of its own reads the camera as fast as it delivers. A frame that nobody took before the
    next one came is replaced and counted in ``dropped``. Frames are stamped with this machine's
    clock when they arrive. A camera that stops is opened again; if it stays silent the stream ends
    with a warning.
    """

    live = True
    total: int | None = None

    def __init__(
        self, uri: str, connect_s: float = CONNECT_S, reconnect_s: float = RECONNECT_S
    ) -> None:
        """Open the camera and start reading.

        Args:
            uri: ``0``, ``/dev/video0``, or a URL that FFmpeg reads (http, rtsp ...).
            connect_s: the longest wait for an answer or for the next frame.
            reconnect_s: how long a camera that stopped is tried again.

        Raises:
            StreamError: there is no such camera, or it gives no frame.
        """
        self.name = uri
        self.dropped = 0
        self.warnings: list[str] = []
        self._connect_s, self._reconnect_s = connect_s, reconnect_s
        capture = self._connect()
        if capture is None:
            raise StreamError(
                f"camera {uri}: no such camera, or it gives no frame; expected a number (`ls "
                "/dev/video*` shows those there are), a device path or a URL, not in use elsewhere"
            )
        fps = capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1e4 else None
        self._changed = threading.Condition()
        self._slot: tuple[np.ndarray, int] | None = None
        self._ended = False
        self._closed = threading.Event()
        self._thread = threading.Thread(
            target=self._read, args=(capture,), name=f"camera {uri}", daemon=True
        )
        self._thread.start()

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._slot is not None or self._ended)
                if self._slot is None:
                    return
                (image, stamp_ns), self._slot = self._slot, None
            yield Frame(image, index, stamp_ns)
            index += 1

    def close(self) -> None:
        self._closed.set()
        # A read that hangs ends by its own time limit; the thread is a daemon, so nobody waits long.
        self._thread.join(timeout=1.0)

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _connect(self) -> cv2.VideoCapture | None:
        """The camera, once it has given a frame; that one is old by then and is let go."""
        if self.name.isdecimal() or self.name.startswith("/dev/"):
            device = int(self.name) if self.name.isdecimal() else self.name
            capture, first = open_capture(device, cv2.CAP_V4L2)
        else:
            limit = round(1e3 * self._connect_s)
            options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit]
            capture, first = open_capture(self.name, cv2.CAP_FFMPEG, options)
        if first is None:
            capture.release()
            return None
        return capture

    def _read(self, capture: cv2.VideoCapture) -> None:
        """The reading thread: every frame into the slot, until the camera is silent or closed."""
        camera: cv2.VideoCapture | None = capture
        try:
            while camera is not None and not self._closed.is_set():
                try:
                    read, image = camera.read()
                except cv2.error:  # what it sent is no picture: as good as silence
                    read = False
                if read:
                    self._put(image)
                else:
                    camera.release()
                    camera = self._reconnect()
        finally:
            if camera is not None:
                camera.release()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, image: np.ndarray) -> None:
        stamp_ns = time.time_ns()
        try:
            check_image_size(image)
        except FrameError as error:
            self.dropped += 1
            if self.dropped == 1:
                self.warnings.append(f"camera {self.name}: {error}")
            return
        with self._changed:
            if self._slot is not None:
                self.dropped += 1
            self._slot = (image, stamp_ns)
            self._changed.notify_all()

    def _reconnect(self) -> cv2.VideoCapture | None:
        deadline = time.monotonic() + self._reconnect_s
        while not self._closed.wait(0.2) and time.monotonic() < deadline:
            capture = self._connect()
            if capture is not None:
                self.warnings.append(f"camera {self.name}: stopped and was opened again")
                return capture
        if not self._closed.is_set():
            self.warnings.append(
                f"camera {self.name}: stopped, and gave no frame for {self._reconnect_s:g} s more"
            )
        return None
