"""A camera for ROS 2: publishes any source of frames as ``image`` and ``camera_info`` at a rate.

The executable ``camera_node``; run it beside the node where no camera driver is: a webcam, a video,
a folder, a bag, or the drive that the package ships. Recordings are stamped when they are published,
as if the camera stood there now; live cameras keep their own stamps.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image

from deeplab_rt.camera.calibration import fill_camera_info, read_calibration
from deeplab_rt.camera.encodings import fill_image
from deeplab_rt.errors import DeeplabError, StreamError
from deeplab_rt.files import write_atomically
from deeplab_rt.frame import Frame, Size
from deeplab_rt.ros.spin import GuardedSpin
from deeplab_rt.streams.base import FrameSource
from deeplab_rt.streams.sources import open_source
from deeplab_rt.streams.street import CALIBRATION, FOLDER, STREET, is_street

PRELOAD_BYTES = 400_000_000
MAX_RATE = 1000.0
DEFAULT_RATE = 30.0  # of a recording that does not know its own
SETTLE_S = 0.5  # both ends of a connection see it, and the last message is out, after this

_PARAMETERS: dict[str, tuple[object, str]] = {
    "input": (
        STREET,
        "Camera number, device path or URL, bag, video, image folder, or `street`, a rendered drive.",
    ),
    "topic": ("", "The image topic, for a bag that has several."),
    "rate": (0.0, "Frames per second; 0 for the source's own. A live camera keeps its own."),
    "size": ("", "Bring the images to this size, as WxH; empty for the source's own."),
    "calibration": (
        "",
        "Calibration file as camera_calibration writes it, of the source's size; `street` has its own.",
    ),
    "frame_id": ("camera", "Coordinate frame of the images, where the source names none."),
    "loop": (True, "Begin a recording anew when it has ended."),
    "preload": (False, "Decode a recording (its first 400 MB) beforehand, so that the rate holds."),
    "wait_for_subscriber": (False, "Publish nothing before somebody listens."),
    "frames": (0, "End after so many frames; 0 for never."),
    "log": ("", "File for the index and the stamp (ns) of every frame published, one line each."),
}


class CameraNode(Node):
    """Node ``camera``: topics ``image`` and ``camera_info``, reliable, so that anybody can connect."""

    def __init__(self, parameters: Sequence[Parameter[Any]] = ()) -> None:
        """Declare the parameters and make the publishers; :meth:`run` opens the source.

        Args:
            parameters: values that take the place of the defaults.
        """
        super().__init__("camera", parameter_overrides=list(parameters))
        for name, (default, description) in _PARAMETERS.items():
            descriptor = ParameterDescriptor(description=description, read_only=True)
            self.declare_parameter(name, default, descriptor)
        profile = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
        self._image = self.create_publisher(Image, "image", profile)
        self._info = self.create_publisher(CameraInfo, "camera_info", profile)
        self._published = 0
        self._log: list[tuple[int, int]] = []  # (index, stamp) of each, where a log is asked for

    def run(self, stop: threading.Event) -> int:
        """Publish until the source ends, ``frames`` are out, or ``stop`` is set.

        Returns:
            How many frames were published.

        Raises:
            StreamError: the source cannot be opened or read, or gives no frame; a parameter is out
                of its bounds.
        """
        for name, most in (("rate", MAX_RATE), ("frames", 2**31)):
            if not 0 <= self._value(name) <= most:  # a NaN is refused too
                raise StreamError(
                    f"parameter {name} is {self._value(name)}, expected 0 to {most:g}"
                )
        size, calibration = self._size(), self._calibration()
        with self._open() as source:
            live, rate = source.live, self._value("rate") or source.fps or DEFAULT_RATE
            messages = self._messages(source, size, stop)
            first = next(messages, None)
            if first is None and stop.is_set():
                return 0
            if first is None:
                raise StreamError(f"{source.name}: gives no frame")
            self.get_logger().info(
                f"{source.name}: {first[1].width}x{first[1].height} {first[1].encoding}, "
                + ("live" if live else f"{rate:g} Hz")
            )
            try:
                if self._wait_for_subscriber(stop):
                    period = None if live else 1 / rate
                    self._publish_all(first, messages, calibration, period, stop)
            finally:
                self._write_log()
            for warning in source.warnings:
                self.get_logger().warning(warning)
        stop.wait(SETTLE_S)
        return self._published

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _open(self) -> FrameSource:
        return open_source(str(self._value("input")), self._value("topic") or None)

    def _size(self) -> Size | None:
        text = str(self._value("size"))
        try:
            return Size.parse(text) if text else None
        except ValueError as error:
            raise StreamError(f"parameter size: {error}") from None

    def _calibration(self) -> CameraInfo:
        """The camera's calibration, of the source's own size.

        Where nothing is known it is a matrix of zeros, which says "not calibrated"
        (sensor_msgs/CameraInfo).
        """
        info = CameraInfo()
        path = str(self._value("calibration"))
        if not path and is_street(str(self._value("input"))):
            path = str(FOLDER / CALIBRATION)
        if path:
            read_calibration(Path(path), info)
        return info

    def _messages(
        self, source: FrameSource, size: Size | None, stop: threading.Event
    ) -> Iterator[tuple[int, Image, int]]:
        """(index in the source, message, stamp in ns) of every frame, again and again if asked to."""
        if source.live:
            yield from (self._message(frame, size) for frame in source)
            return
        again = bool(self._value("loop"))
        if self._value("preload"):
            kept, kept_bytes = [], 0
            for frame in source:
                kept.append(self._message(frame, size))
                kept_bytes += len(kept[-1][1].data)
                if stop.is_set():
                    return
                if kept_bytes > PRELOAD_BYTES:
                    self.get_logger().info(f"{source.name}: only the first {len(kept)} frames")
                    break
                if len(kept) == self._value("frames"):
                    break
            while kept:
                yield from kept
                if not again:
                    return
        else:
            yield from (self._message(frame, size) for frame in source)
            while again and not stop.is_set():
                with self._open() as anew:
                    yield from (self._message(frame, size) for frame in anew)

    def _message(self, frame: Frame, size: Size | None) -> tuple[int, Image, int]:
        image = frame.image
        if size is not None and size != frame.size:
            image = np.asarray(cv2.resize(image, (size.width, size.height)), np.uint8)
        message = Image()
        fill_image(message, image, f"{frame.channels}8")
        message.header.frame_id = frame.frame_id or str(self._value("frame_id"))
        return frame.index, message, frame.stamp_ns

    def _wait_for_subscriber(self, stop: threading.Event) -> bool:
        """Wait if asked to; False if stopped meanwhile."""
        if self._value("wait_for_subscriber"):
            while not self._image.get_subscription_count() and not stop.wait(0.05):
                pass
            stop.wait(SETTLE_S)
        return not stop.is_set()

    def _publish_all(
        self,
        first: tuple[int, Image, int],
        rest: Iterator[tuple[int, Image, int]],
        calibration: CameraInfo,
        period: float | None,
        stop: threading.Event,
    ) -> None:
        limit, logged = int(self._value("frames")), bool(self._value("log"))
        item: tuple[int, Image, int] | None = first
        deadline = time.monotonic()
        while item is not None and not stop.is_set():
            index, message, stamp_ns = item
            if period is not None:
                deadline = max(deadline, time.monotonic() - period)  # do not run after lost time
                if stop.wait(deadline - time.monotonic()):
                    return
                deadline += period
                stamp_ns = self.get_clock().now().nanoseconds
            message.header.stamp = Time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
            self._image.publish(message)
            info = _camera_info(calibration, message)
            info.header = message.header
            self._info.publish(info)
            self._published += 1
            if logged:
                self._log.append((index, stamp_ns))
            if self._published == limit:
                return
            item = next(rest, None)

    def _write_log(self) -> None:
        path = str(self._value("log"))
        if path:
            text = "".join(f"{index},{stamp}\n" for index, stamp in self._log)
            write_atomically(Path(path), text.encode())


def _camera_info(calibration: CameraInfo, image: Image) -> CameraInfo:
    """The calibration at the image's size; nothing but the size where it is unknown."""
    if not calibration.width:
        return CameraInfo(width=image.width, height=image.height)
    info = CameraInfo()
    fill_camera_info(info, calibration, (image.height, image.width))
    return info


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until its source ends, or SIGINT or SIGTERM.

    Returns:
        0, or 1 with one line on stderr.
    """
    # Our own handlers: rclpy's would end the context in the middle of a publish.
    rclpy.init(
        args=list(args) if args is not None else None,
        signal_handler_options=SignalHandlerOptions.NO,
    )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    node = CameraNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    # For the parameter services; publishing needs no executor.
    spin = GuardedSpin(executor, node.get_logger())
    spinning = threading.Thread(target=_spin, args=(spin, stop), name="spin", daemon=True)
    spinning.start()
    try:
        node.run(stop)
        return 0
    except DeeplabError as error:
        print(f"camera_node: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    finally:
        stop.set()
        executor.wake()
        spinning.join()
        node.destroy_node()
        rclpy.shutdown()


def _spin(spin: GuardedSpin, stop: threading.Event) -> None:
    while not stop.is_set():
        spin.once(0.5)


if __name__ == "__main__":
    sys.exit(main())
