"""The ground as messages, and the camera's pose over it: from the parameters or from tf2."""

from __future__ import annotations

import queue
import threading
import time
import traceback
from array import array
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from nav_msgs.msg import OccupancyGrid
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from rclpy.time import Time
from sensor_msgs.msg import LaserScan

from deeplab_rt.camera.encodings import stamp_ns_of
from deeplab_rt.camera.ground import Mounting, rotation_of
from deeplab_rt.camera.ground_view import Area, Bearings, GroundView
from deeplab_rt.errors import FrameError, StreamError, one_line
from deeplab_rt.ros.parameters import Settings

SCAN_BEARINGS = 720  # over the full circle: half a degree each
SCAN_NEAREST_M = 0.1
POLL_S = 0.005
MAX_WAITING = 30  # frames that wait for their transform


class PoseSource(Protocol):
    """Where the camera of an image stands over the ground."""

    patient: bool
    """Whether :meth:`find` may take a while."""

    def find(self, header: Any) -> tuple[Mounting, bool]:
        """The mounting of the camera of a header in ``grid_frame``.

        Returns:
            The mounting, and whether it is that of the header's time.

        Raises:
            FrameError: it is not known.
        """

    def close(self) -> None:
        """Free what it holds."""


class ParameterPose:
    """The camera stands above the origin of the frame and looks along its x axis."""

    patient = False

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings

    def find(self, header: Any) -> tuple[Mounting, bool]:
        settings = self._settings()
        angles = settings.camera_pitch_deg, settings.camera_roll_deg
        return Mounting.from_angles(settings.camera_height_m, *angles), True

    def close(self) -> None:
        """Nothing is held."""


class TransformPose:
    """The transforms of a tf2 buffer.

    That of a frame's time comes after the frame, by up to the period of who sends it: it is waited for.
    If it does not come within ``grid_tf_tolerance_ms``, the newest one that is no further off is taken.
    """

    patient = True

    def __init__(
        self, buffer: Any, error: type[Exception], settings: Callable[[], Settings]
    ) -> None:
        """Nothing is asked yet.

        Args:
            buffer: with the ``lookup_transform`` of ``tf2_ros.Buffer``.
            error: what it raises.
            settings: gives the parameters of now.
        """
        self._buffer = buffer
        self._error = error
        self._settings = settings
        self._closed = threading.Event()

    def find(self, header: Any) -> tuple[Mounting, bool]:
        settings, stamp_ns = self._settings(), stamp_ns_of(header)
        if stamp_ns < 0:
            raise FrameError("no transform: the frame's stamp is before 1970")
        stamp = Time(nanoseconds=stamp_ns)
        frame, tolerance = settings.grid_frame, settings.grid_tf_tolerance_ms
        deadline = time.monotonic() + tolerance / 1e3
        while True:
            try:
                return self._mounting(header.frame_id, frame, stamp)[0], True
            except self._error as error:
                reason = one_line(error)
            if time.monotonic() >= deadline or self._closed.wait(POLL_S):
                break
        try:
            mounting, newest_ns = self._mounting(header.frame_id, frame, Time())
        except self._error as error:
            raise FrameError(f"no transform: {' '.join(str(error).split())}") from None
        off = abs(stamp_ns - newest_ns) / 1e6
        if off > tolerance:
            raise FrameError(
                f"no transform: {reason}; the newest is {off:.0f} ms off, more than "
                f"grid_tf_tolerance_ms {tolerance:g}"
            )
        return mounting, False

    def close(self) -> None:
        """Wait for nothing any more."""
        self._closed.set()

    def _mounting(self, camera: str, frame: str, when: Time) -> tuple[Mounting, int]:
        """The mounting, and the time of the transform in nanoseconds."""
        found = self._buffer.lookup_transform(camera, frame, when)
        t, q = found.transform.translation, found.transform.rotation
        rotation = rotation_of(q.x, q.y, q.z, q.w)
        mounting = Mounting.from_transform(rotation, np.array([t.x, t.y, t.z]))
        return mounting, stamp_ns_of(found.header)


def listen_to_transforms(
    node: LifecycleNode, settings: Callable[[], Settings]
) -> tuple[TransformPose, Callable[[], None]]:
    """The transforms of /tf and /tf_static, and what ends the listening.

    Raises:
        StreamError: tf2_ros is not installed.
    """
    try:
        import tf2_ros
    except ImportError as error:
        raise StreamError(
            f"grid_tf needs tf2_ros ({error}): install it (`apt install ros-$ROS_DISTRO-tf2-ros-py`"
            "), or set grid_tf to false and camera_height_m and camera_pitch_deg"
        ) from None
    buffer = tf2_ros.Buffer(cache_time=Duration(seconds=10))
    listener = tf2_ros.TransformListener(buffer, node)
    return TransformPose(buffer, tf2_ros.TransformException, settings), listener.unregister


class GroundThread:
    """Does in order, in a thread of its own, what may have to wait for a transform."""

    def __init__(self, log: Callable[[str], Any]) -> None:
        """Start it.

        Args:
            log: takes a line about work that failed; the next goes on.
        """
        self._log = log
        self._waiting: queue.Queue[Callable[[], None] | None] = queue.Queue(MAX_WAITING)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="ground", daemon=True)
        self._thread.start()

    def put(self, work: Callable[[], None]) -> bool:
        """Have it done; False if too much waits already."""
        try:
            self._waiting.put_nowait(work)
        except queue.Full:
            return False
        return True

    def close(self) -> None:
        """End it after what it does now; what waits is left out."""
        self._closed = True
        while self._thread.is_alive():
            try:
                self._waiting.put_nowait(None)
                break
            except queue.Full:
                self._waiting.get_nowait()
        self._thread.join()

    def _run(self) -> None:
        while (work := self._waiting.get()) is not None and not self._closed:
            try:
                work()
            except Exception:
                self._log(traceback.format_exc())


def grid_message(view: GroundView, header: Any, settings: Settings) -> OccupancyGrid:
    """One frame's grid, stamped as the frame.

    Its rows and columns lie along the axes of ``grid_frame``: Nav2's static layer reads the origin's
    position and not its orientation.
    """
    area = Area.seen_by(
        view.mounting,
        settings.grid_resolution_m,
        settings.grid_length_m,
        settings.grid_width_m,
    )
    message = OccupancyGrid()
    message.header.stamp = header.stamp
    message.header.frame_id = settings.grid_frame
    message.info.map_load_time = header.stamp
    message.info.resolution = area.resolution
    message.info.height, message.info.width = area.rows, area.columns
    message.info.origin.position.x, message.info.origin.position.y = area.x, area.y
    message.info.origin.orientation.w = 1.0
    message.data = array("b", view.grid(area).tobytes())
    return message


def scan_message(view: GroundView, header: Any, settings: Settings) -> LaserScan:
    """How far the ground is free around the origin of ``grid_frame``, stamped as the frame."""
    farthest = settings.free_space_range_m
    bearings = Bearings.around(view.mounting, SCAN_BEARINGS, SCAN_NEAREST_M, farthest)
    message = LaserScan()
    message.header.stamp = header.stamp
    message.header.frame_id = settings.grid_frame
    message.angle_min = bearings.first
    message.angle_max = bearings.first + (bearings.count - 1) * bearings.step
    message.angle_increment = bearings.step
    message.range_min, message.range_max = SCAN_NEAREST_M, farthest
    message.ranges = array("f", view.ranges(bearings).tobytes())
    return message
