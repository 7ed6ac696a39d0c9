"""The camera over flat ground: which pixel shows which point of it.

Ground coordinates are those of a frame whose plane z = 0 is the ground: metres, x forward, y left, z up
(REP 103). The camera's own are x right, y down, z ahead. No angle is assumed to be small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from deeplab_rt.camera.calibration import crop_of
from deeplab_rt.errors import FrameError

# Distortion models of sensor_msgs/distortion_models.hpp, and how many coefficients they may have.
_COEFFICIENTS = {
    "": (0, 4, 5),
    "plumb_bob": (0, 4, 5),
    "rational_polynomial": (0, 8, 12, 14),
    "equidistant": (4,),
}
_MIN_DEPTH = 0.05  # metres in front of the camera; nearer than this nothing is seen
_MIN_SLOPE = 1e-6  # of a ray that meets the ground


@dataclass(frozen=True)
class Lens:
    """A calibrated camera at one image size; hashable, so that lookups can be kept.

    Attributes:
        size: (height, width) in pixels.
        matrix: K, row by row; pixel centres lie at whole numbers.
        distortion: its coefficients, as CameraInfo's ``d``; empty for none.
        fisheye: whether they are of the equidistant model.
    """

    size: tuple[int, int]
    matrix: tuple[float, ...]
    distortion: tuple[float, ...] = ()
    fisheye: bool = False

    @classmethod
    def from_info(cls, info: Any, size: tuple[int, int]) -> Lens:
        """From a CameraInfo, for masks of ``size`` (height, width).

        Raises:
            FrameError: not calibrated, of a distortion model that is not known, or with numbers that
                are none of it.
        """
        model, distortion = info.distortion_model, tuple(info.d)
        if model not in _COEFFICIENTS:
            known = ", ".join(filter(None, _COEFFICIENTS))
            raise FrameError(f"camera_info has distortion model {model[:40]!r}; known: {known}")
        matrix = tuple(crop_of(info, size).apply(info.k, 3).ravel().tolist())
        if (
            len(distortion) not in _COEFFICIENTS[model]
            or not np.isfinite(matrix + distortion).all()
        ):
            raise FrameError(
                f"camera_info of model {model!r} has {len(distortion)} coefficients, or numbers that "
                f"are not finite; expected {' or '.join(map(str, _COEFFICIENTS[model]))} coefficients"
            )
        return cls(size, matrix, distortion, model == "equidistant")

    def distort(self, rays: np.ndarray) -> np.ndarray:
        """Pixels (column, row) [N, 2] that show rays (x/z, y/z) [N, 2]."""
        matrix, distortion = np.array(self.matrix).reshape(3, 3), np.array(self.distortion)
        if self.fisheye:
            return np.asarray(cv2.fisheye.distortPoints(rays[:, None], matrix, distortion)[:, 0])
        if not any(self.distortion):
            return np.asarray(rays @ matrix[:2, :2].T + matrix[:2, 2])
        points = np.column_stack([rays, np.ones(len(rays))])
        pixels, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, distortion)
        return np.asarray(pixels[:, 0])

    def undistort(self, pixels: np.ndarray) -> np.ndarray:
        """Rays (x/z, y/z) [N, 2] that pixels (column, row) [N, 2] show."""
        if not len(pixels):
            return pixels
        matrix, distortion = np.array(self.matrix).reshape(3, 3), np.array(self.distortion)
        undistort = cv2.fisheye.undistortPoints if self.fisheye else cv2.undistortPoints
        return np.asarray(undistort(pixels[:, None], matrix, distortion)[:, 0])


@dataclass(frozen=True)
class Mounting:
    """Where the camera stands in a frame whose plane z = 0 is the ground; hashable.

    Attributes:
        position: (x, y, height) of its optical centre, metres.
        rotation: the frame's coordinates to the camera's, row by row.
    """

    position: tuple[float, float, float]
    rotation: tuple[float, ...]

    @classmethod
    def from_angles(cls, height: float, pitch_deg: float, roll_deg: float = 0.0) -> Mounting:
        """Above the frame's origin, looking along its x axis.

        Args:
            height: metres.
            pitch_deg: positive when the camera looks down.
            roll_deg: positive when its right side is lower.
        """
        sin, cos = math.sin(math.radians(pitch_deg)), math.cos(math.radians(pitch_deg))
        level = np.array([(0, -1, 0), (-sin, 0, -cos), (cos, 0, -sin)], np.float64)
        sin, cos = math.sin(math.radians(roll_deg)), math.cos(math.radians(roll_deg))
        rolled = np.array([(cos, sin, 0), (-sin, cos, 0), (0, 0, 1)]) @ level
        return cls((0.0, 0.0, height), tuple(rolled.ravel().tolist()))

    @classmethod
    def from_transform(cls, rotation: np.ndarray, translation: np.ndarray) -> Mounting:
        """From the transform of the frame to the camera's optical frame.

        Args:
            rotation: float [3, 3].
            translation: float [3], metres.

        Raises:
            FrameError: the camera is not above the ground, or the numbers are none.
        """
        if not np.isfinite(rotation).all() or not np.isfinite(translation).all():
            raise FrameError("the transform to the camera has numbers that are not finite")
        x, y, height = (-rotation.T @ translation).tolist()
        if height <= 0:
            raise FrameError(
                f"the camera is {height:.2f} m above the ground plane; expected above 0"
            )
        return cls((x, y, height), tuple(rotation.ravel().tolist()))

    @property
    def matrix(self) -> np.ndarray:
        """The frame's coordinates to the camera's, float64 [3, 3]."""
        return np.array(self.rotation).reshape(3, 3)

    @property
    def yaw(self) -> float:
        """Bearing of what the camera looks at, in radians from the x axis to the left.

        Of a camera that looks straight down: the bearing of the image's upper edge.
        """
        matrix = self.matrix
        ahead = matrix[2] if math.hypot(*matrix[2, :2]) > 1e-3 else -matrix[1]
        return math.atan2(ahead[1], ahead[0])


def rotation_of(x: float, y: float, z: float, w: float) -> np.ndarray:
    """Rotation matrix of a quaternion, float64 [3, 3].

    Raises:
        FrameError: it is of length 0, or not finite.
    """
    length = math.sqrt(x * x + y * y + z * z + w * w)
    if not length > 1e-6 or not math.isfinite(length):
        raise FrameError(f"the quaternion ({x:g}, {y:g}, {z:g}, {w:g}) is no rotation")
    x, y, z, w = x / length, y / length, z / length, w / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def pixels_of(points: np.ndarray, lens: Lens, mounting: Mounting) -> np.ndarray:
    """The pixels that show ground points.

    Args:
        points: float [..., 2], x and y in metres.
        lens: the camera.
        mounting: how it stands.

    Returns:
        int32 [...], flat index into an image of ``lens.size``; its length for what is not seen.
    """
    flat = points.reshape(-1, 2)
    from_camera = np.column_stack([flat, np.zeros(len(flat))]) - np.array(mounting.position)
    camera = from_camera @ mounting.matrix.T
    ahead = camera[:, 2] > _MIN_DEPTH
    rays = camera[:, :2] / np.where(ahead, camera[:, 2], 1)[:, None]
    image = lens.distort(rays)
    seen = ahead
    if lens.fisheye or any(lens.distortion):
        # A polynomial turns back on itself outside the lens's view: such a pixel shows another point.
        seen = seen & (np.abs(lens.undistort(image) - rays).max(axis=1) < 1e-2)
    column, row = np.rint(np.clip(np.nan_to_num(image, nan=-1), -1, 1e6)).astype(np.int64).T
    height, width = lens.size
    seen = seen & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    index = np.where(seen, row * width + column, height * width)
    return index.astype(np.int32).reshape(points.shape[:-1])


def ground_of(pixels: np.ndarray, lens: Lens, mounting: Mounting) -> np.ndarray:
    """The ground points that pixels show.

    Args:
        pixels: float [N, 2], column and row.
        lens: the camera.
        mounting: how it stands.

    Returns:
        float64 [N, 2], x and y in metres; NaN for pixels that look above the horizon.
    """
    rays = np.column_stack([lens.undistort(pixels), np.ones(len(pixels))]) @ mounting.matrix
    down = rays[:, 2] < -_MIN_SLOPE
    scale = np.where(down, -mounting.position[2] / np.where(down, rays[:, 2], -1), np.nan)
    return np.asarray(rays[:, :2] * scale[:, None] + np.array(mounting.position[:2]))
