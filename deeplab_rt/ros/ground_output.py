"""The ground as messages, and the camera's pose over it: from the parameters or from tf2."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from nav_msgs.msg import OccupancyGrid
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo

from deeplab_rt.camera.ground_grid import (
    Extent,
    Lens,
    Mounting,
    drivable_grid,
    mounting_from_pose,
    rotation_of,
)
from deeplab_rt.errors import FrameError, StreamError
from deeplab_rt.masks import Masks
from deeplab_rt.ros.parameters import Settings

Pose = tuple[Mounting, tuple[float, float, float]]


class PoseSource(Protocol):
    """Where the camera of an image stands over the ground."""

    def camera_in(self, frame: str, header: Any) -> Pose:
        """Mounting and pose (x, y, yaw) of the camera of a header in a frame, at the header's time.

        Raises:
            FrameError: it is not known.
        """

    def close(self) -> None:
        """Free what it holds."""


class ParameterPose:
    """The camera stands above the origin of the frame and looks along its x axis."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings

    def camera_in(self, frame: str, header: Any) -> Pose:
        settings = self._settings()
        mounting = Mounting.from_pitch(settings.camera_height_m, settings.camera_pitch_deg)
        return mounting, (0.0, 0.0, 0.0)

    def close(self) -> None:
        """Nothing is held."""


class TransformPose:
    """The transforms of /tf, for all cameras; needs the package tf2_ros."""

    def __init__(self, node: LifecycleNode) -> None:
        """Listen.

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
        self._error = tf2_ros.TransformException
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def camera_in(self, frame: str, header: Any) -> Pose:
        try:
            found = self._buffer.lookup_transform(header.frame_id, frame, header.stamp)
        except self._error as error:
            raise FrameError(f"no transform: {error}") from None
        t, q = found.transform.translation, found.transform.rotation
        return mounting_from_pose(rotation_of(q.x, q.y, q.z, q.w), np.array([t.x, t.y, t.z]))

    def close(self) -> None:
        """Stop listening."""
        self._listener.unregister()


def grid_message(
    masks: Masks, header: Any, info: CameraInfo, settings: Settings, poses: PoseSource
) -> OccupancyGrid:
    """One frame's masks on the ground, stamped as the frame.

    Raises:
        FrameError: the camera is not calibrated, or its pose is not known.
    """
    lens = Lens.from_info(info, masks.size)
    extent = Extent(settings.grid_resolution_m, settings.grid_length_m, settings.grid_width_m)
    mounting, (x, y, yaw) = poses.camera_in(settings.grid_frame, header)
    grid = drivable_grid(masks, lens, mounting, extent)
    message = OccupancyGrid()
    message.header.stamp = header.stamp
    message.header.frame_id = settings.grid_frame
    message.info.map_load_time = header.stamp
    message.info.resolution = extent.resolution
    message.info.height, message.info.width = grid.shape
    # The grid's first cell lies half its width to the right of the point below the camera.
    message.info.origin.position.x = x + math.sin(yaw) * extent.width / 2
    message.info.origin.position.y = y - math.cos(yaw) * extent.width / 2
    message.info.origin.orientation.z = math.sin(yaw / 2)
    message.info.origin.orientation.w = math.cos(yaw / 2)
    message.data = array("b", grid.tobytes())
    return message
