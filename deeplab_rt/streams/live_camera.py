"""Frames from a live camera: a number, a device path, a URL or a GStreamer pipeline."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import urlsplit

import cv2
import numpy as np

from deeplab_rt.errors import FrameError, StreamError
from deeplab_rt.frame import Frame
from deeplab_rt.frame_buffer import LatestFrameBuffer
from deeplab_rt.streams.base import FrameSource, check_image_size

Transport = Literal["tcp", "udp"]
TRANSPORTS: tuple[Transport, ...] = get_args(Transport)
_FFMPEG_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"  # read by OpenCV at every opening
_opening = threading.Lock()  # of that variable
_RETRY_S = 0.2


@dataclass(frozen=True)
class CameraOptions:
    """How a camera is opened, and how long it is waited for.

    Attributes:
        connect_s: the longest wait for an answer, or for the next frame, of a network camera.
        reconnect_s: how long a camera that stopped is tried again before the stream ends; None for
            ever, at the start too.
        rtsp_transport: what carries the frames of an RTSP camera.
    """

    connect_s: float = 5.0
    reconnect_s: float | None = 5.0
    rtsp_transport: Transport = "tcp"


def is_camera(uri: str) -> bool:
    """Whether a name is that of a camera: a number, a path under /dev, a URL, or a pipeline."""
    return uri.isdecimal() or uri.startswith("/dev/") or "://" in uri or is_pipeline(uri)


def is_pipeline(uri: str) -> bool:
    """Whether a name is a GStreamer pipeline, as in ``v4l2src ! videoconvert ! appsink``."""
    return " ! " in uri


def _is_rtsp(uri: str) -> bool:
    return uri.partition("://")[0].lower() in ("rtsp", "rtsps")


def public_name(uri: str) -> str:
    """The name without the password that a URL may hold."""
    try:
        password = urlsplit(uri).password
    except ValueError:  # no URL after all
        return uri
    return uri.replace(f":{password}@", ":***@", 1) if password else uri


class LiveCamera:
    """The newest frame of a camera, never an older one that waited.

    A thread of its own reads the camera as fast as it delivers. A frame that nobody took before the
    next one came is replaced and counted in ``dropped``. Frames are stamped with this machine's
    clock when they arrive. A camera that stops is opened again; if it stays silent the stream ends
    with a warning, and ``lost`` is set.
    """

    live = True
    total: int | None = None

    def __init__(self, uri: str, options: CameraOptions = CameraOptions()) -> None:  # frozen
        """Open the camera and start reading.

        Args:
            uri: ``0``, ``/dev/video0``, a URL that FFmpeg reads (http, rtsp ...), or a GStreamer
                pipeline that ends in appsink.
            options: how to open it.

        Raises:
            StreamError: there is no such camera, or it gives no frame; or this OpenCV has no
                GStreamer.
        """
        self.name = public_name(uri)
        self.dropped = 0
        self.warnings: list[str] = []
        self.lost = False
        self.status = ""  # what is wrong at the moment, in words
        self._uri, self._options = uri, options
        if is_pipeline(uri) and not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
            raise StreamError(
                f"camera {self.name}: a GStreamer pipeline, and this OpenCV is built without "
                "GStreamer; take the distribution's (`apt install python3-opencv`) in place of "
                "opencv-python, or a device path or URL"
            )
        capture = self._connect()
        if capture is None and options.reconnect_s is not None:
            raise StreamError(self._no_frame())
        fps = 0.0 if capture is None else capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1e4 else None
        self._frames: LatestFrameBuffer[tuple[np.ndarray, int]] = LatestFrameBuffer(1)
        self._ended = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(
            target=self._read, args=(capture,), name=f"camera {self.name}", daemon=True
        )
        self._thread.start()

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        while True:
            # Once the reading thread has ended nothing wakes us; what it left is taken as it is.
            ended = self._ended.is_set()
            for _, (image, stamp_ns) in self._frames.clear() if ended else self._frames.take(1):
                yield Frame(image, index, stamp_ns)
                index += 1
            if ended:
                return

    def close(self) -> None:
        self._closed.set()
        # A read that hangs ends by its own time limit; the thread is a daemon, so nobody waits long.
        self._thread.join(timeout=1.0)

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _no_frame(self) -> str:
        transport = self._options.rtsp_transport
        if _is_rtsp(self._uri):
            other = TRANSPORTS[1 - TRANSPORTS.index(transport)]
            return (
                f"camera {self.name}: no answer, or no frame over {transport} within "
                f"{self._options.connect_s:g} s; `--rtsp-transport {other}` takes the other transport"
            )
        if is_pipeline(self._uri):
            return (
                f"camera {self.name}: the pipeline gives no frame; expected one that ends in `! "
                "videoconvert ! video/x-raw,format=BGR ! appsink` (gst-launch-1.0 tells more)"
            )
        return (
            f"camera {self.name}: no such camera, or it gives no frame; expected a number (`ls "
            "/dev/video*` shows those there are), a device path or a URL, not in use elsewhere; "
            "`webcam --wait` waits for it"
        )

    def _connect(self) -> cv2.VideoCapture | None:
        """The camera, once it has given a frame; that one is old by then and is let go."""
        uri = self._uri
        if is_pipeline(uri):
            capture, first = _open_capture(uri, cv2.CAP_GSTREAMER)
        elif uri.isdecimal() or uri.startswith("/dev/"):
            device = int(uri) if uri.isdecimal() and len(uri) < 10 else uri
            capture, first = _open_capture(device, cv2.CAP_V4L2)
        else:
            limit = round(1e3 * self._options.connect_s)
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit]
            with _rtsp_transport(uri, self._options.rtsp_transport):
                capture, first = _open_capture(uri, cv2.CAP_FFMPEG, limits)
        if first is None:
            capture.release()
            return None
        return capture

    def _read(self, capture: cv2.VideoCapture | None) -> None:
        """The reading thread: every frame into the buffer, until the camera is silent or closed."""
        camera = capture if capture is not None else self._reconnect()
        try:
            while camera is not None and not self._closed.is_set():
                try:
                    read, image = camera.read()
                except cv2.error:  # what it sent is no image: as good as silence
                    read = False
                if read:
                    self._put(image)
                else:
                    camera.release()
                    camera = self._reconnect()
        finally:
            if camera is not None:
                camera.release()
            self._ended.set()
            self._frames.wake()

    def _put(self, image: np.ndarray) -> None:
        stamp_ns = time.time_ns()
        try:
            check_image_size(image)
        except FrameError as error:
            self.dropped += 1
            if self.dropped == 1:
                self.warnings.append(f"camera {self.name}: {error}")
            return
        if self._frames.put(0, (image, stamp_ns)) is not None:
            self.dropped += 1

    def _reconnect(self) -> cv2.VideoCapture | None:
        begun, limit_s = time.monotonic(), self._options.reconnect_s
        while not self._closed.wait(_RETRY_S):
            silent_s = time.monotonic() - begun
            if limit_s is not None and silent_s >= limit_s:
                self.lost = True
                self.warnings.append(
                    f"camera {self.name}: stopped, and gave no frame for {limit_s:g} s more; "
                    "`webcam --wait` waits for it"
                )
                return None
            self.status = f"camera {self.name} gives no frame; trying again for {silent_s:.0f} s"
            capture = self._connect()
            if capture is not None:
                self.status = ""
                warning = f"camera {self.name}: stopped and was opened again"
                if warning not in self.warnings:  # once: a camera may come and go for days
                    self.warnings.append(warning)
                return capture
        return None


@contextmanager
def _rtsp_transport(uri: str, transport: Transport) -> Iterator[None]:
    """Have FFmpeg take this transport for what is opened inside; the user's own variable wins."""
    if not _is_rtsp(uri) or _FFMPEG_OPTIONS in os.environ:
        yield
        return
    with _opening:
        os.environ[_FFMPEG_OPTIONS] = f"rtsp_transport;{transport}"
        try:
            yield
        finally:
            del os.environ[_FFMPEG_OPTIONS]


def _open_capture(
    name: str | int, api: int, options: Sequence[int] = ()
) -> tuple[cv2.VideoCapture, np.ndarray | None]:
    """Open a camera, without what OpenCV and FFmpeg say of it on stderr.

    Args:
        name: URL, pipeline, device path or camera number.
        api: ``cv2.CAP_FFMPEG`` or another.
        options: pairs of a ``cv2.CAP_PROP_*`` and its value.

    Returns:
        The capture, and its first frame (uint8 [H, W, 3] BGR), or None where it gives none.
    """
    # What is wrong is told in one line of our own. FFmpeg's level is read at the first opening.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    logging = getattr(cv2.utils, "logging", None)  # Debian's OpenCV 4.6 has none
    level = logging.getLogLevel() if logging else 0
    if logging:
        logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        capture = cv2.VideoCapture(name, api, list(options))
        read, first = capture.read() if capture.isOpened() else (False, None)
    finally:
        if logging:
            logging.setLogLevel(level)
    return capture, first if read else None
