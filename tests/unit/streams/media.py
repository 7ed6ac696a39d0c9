"""Recordings and a camera that tests make for themselves, with frames that tell their number."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from deeplab_rt.streams.messages import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, header, typestore

START_NS = 1_700_000_000_123_456_789
PERIOD_NS = 33_333_333


def numbered(index: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A flat picture, uint8 [H, W, 3] BGR, from which :func:`number_of` reads the index (0 to 46)."""
    return np.full((*size, 3), 20 + 5 * index, np.uint8)


def number_of(image: np.ndarray) -> int:
    """The index of a numbered picture, after lossy compression too."""
    return int((float(np.median(image)) - 16) // 5)


def stamp_of(index: int) -> int:
    return START_NS + index * PERIOD_NS


def image_message(
    image: np.ndarray, stamp_ns: int, encoding: str = "bgr8", frame_id: str = "front_camera"
) -> Any:
    return typestore().types[IMAGE](
        header=header(stamp_ns, frame_id),
        height=image.shape[0],
        width=image.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=image.shape[1] * image.shape[2],
        data=image.reshape(-1),
    )


def compressed_message(image: np.ndarray, stamp_ns: int, suffix: str = ".jpg") -> Any:
    return typestore().types[COMPRESSED_IMAGE](
        header=header(stamp_ns, "front_camera"),
        format=suffix[1:],
        data=cv2.imencode(suffix, image)[1].reshape(-1),
    )


def camera_info(index: int) -> Any:
    """A CameraInfo for :func:`numbered` images, with a focal length of 100 pixels."""
    types = typestore().types
    region = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    return types[CAMERA_INFO](
        header=header(stamp_of(index), "front_camera"),
        height=48,
        width=64,
        distortion_model="plumb_bob",
        d=np.full(5, index, np.float64),
        k=np.diag([100.0, 100, 1]).ravel(),
        r=np.eye(3).ravel(),
        p=np.eye(3, 4).ravel() * 100,
        binning_x=0,
        binning_y=0,
        roi=region,
    )


def write_bag(
    path: Path,
    messages: dict[str, Sequence[Any]],
    storage: str = "mcap",
    compression: str | None = None,
    delay_ns: int = 5_000_000,
) -> Path:
    """A rosbag2 directory; every message is recorded ``delay_ns`` after its header's stamp.

    Messages may be bytes, which are written as they are, in the place of an Image.
    """
    with_mode = {None: CompressionMode.NONE, "message": CompressionMode.MESSAGE}
    with_mode |= {"file": CompressionMode.FILE, "chunk": CompressionMode.STORAGE}
    writer = Writer(path, version=8, storage_plugin=StoragePlugin[storage.upper()])
    writer.set_compression(with_mode[compression], CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for topic, items in messages.items():
            known = [item.__msgtype__ for item in items if not isinstance(item, bytes)]
            kind = known[0] if known else IMAGE
            connections[topic] = writer.add_connection(topic, kind, typestore=typestore())
        count = max((len(items) for items in messages.values()), default=0)
        for index in range(count):
            for topic, items in messages.items():
                if index < len(items):
                    item = items[index]
                    data = (
                        item
                        if isinstance(item, bytes)
                        else typestore().serialize_cdr(item, item.__msgtype__)
                    )
                    writer.write(connections[topic], stamp_of(index) + delay_ns, data)
    return path


def numbered_messages(count: int) -> list[Any]:
    return [image_message(numbered(index), stamp_of(index)) for index in range(count)]


def write_video(
    path: Path, count: int, stamps_ms: Sequence[int] | None = None, size: tuple[int, int] = (48, 64)
) -> Path:
    """A video of numbered pictures in H.264, at 25 Hz or with the given timestamps."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"g": "5", "bf": "0", "crf": "4", "preset": "ultrafast"}
        stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(numbered(index % 47, size), format="bgr24")
            frame.pts = stamps_ms[index] if stamps_ms else 40 * index
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


class HttpCamera:
    """A live camera on loopback: motion JPEG over HTTP, frame after frame at a given rate.

    Attributes:
        sent: how many frames went out.
    """

    def __init__(self, fps: float = 60.0, size: tuple[int, int] = (48, 64)) -> None:
        self.sent = 0
        self.connections = 0
        self._running = threading.Event()
        self._running.set()
        self._period = 1 / fps
        self._jpegs = [
            cv2.imencode(".jpg", numbered(index, size))[1].tobytes() for index in range(47)
        ]
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera._serve(self)

            def log_message(self, format: str, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/stream.mjpg"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        if not self._running.is_set():
            handler.send_error(503)
            return
        self.connections += 1
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        try:
            while self._running.is_set():
                jpeg = self._jpegs[self.sent % len(self._jpegs)]
                handler.wfile.write(
                    f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    "".encode()
                )
                handler.wfile.write(jpeg + b"\r\n")
                self.sent += 1
                time.sleep(self._period)
        except ConnectionError:
            return

    def stop(self) -> None:
        """End the stream; new connections are refused until :meth:`resume`."""
        self._running.clear()

    def resume(self) -> None:
        self._running.set()

    def __enter__(self) -> HttpCamera:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
