"""The drivable mask projected to the ground: which cells are free, which are blocked, which unseen.

Pure: imports nothing of ROS. Ground coordinates are metres, x ahead of the camera, y left, z up
(REP 103), the origin on the ground below the camera; the camera's own are x right, y down, z ahead.
Cell values are those of ``nav_msgs/OccupancyGrid``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from deeplab_rt.camera.calibration import crop_of
from deeplab_rt.errors import FrameError
from deeplab_rt.masks import Masks

FREE, OCCUPIED, UNKNOWN = 0, 100, -1
# Distortion models of sensor_msgs/distortion_models.hpp, and how many coefficients they may have.
_COEFFICIENTS = {
    "": (0, 4, 5),
    "plumb_bob": (0, 4, 5),
    "rational_polynomial": (0, 8, 12, 14),
    "equidistant": (4,),
}
_MIN_DEPTH = 0.05  # metres in front of the camera; nearer than this nothing is seen


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


@dataclass(frozen=True)
class Mounting:
    """Where the camera stands over the ground.

    Attributes:
        height: of its optical centre, metres.
        rotation: ground coordinates to the camera's, row by row.
    """

    height: float
    rotation: tuple[float, ...]

    @classmethod
    def from_pitch(cls, height: float, pitch_deg: float) -> Mounting:
        """Level but for the pitch, positive when the camera looks down."""
        sin, cos = math.sin(math.radians(pitch_deg)), math.cos(math.radians(pitch_deg))
        return cls(height, (0, -1, 0, -sin, 0, -cos, cos, 0, -sin))


def mounting_from_pose(
    rotation: np.ndarray, translation: np.ndarray
) -> tuple[Mounting, tuple[float, float, float]]:
    """From the transform of a frame whose plane z = 0 is the ground to the camera's optical frame.

    Args:
        rotation: float [3, 3].
        translation: float [3], metres.

    Returns:
        The mounting, and the pose (x, y, yaw) in that frame of the ground origin below the camera.

    Raises:
        FrameError: the camera is not above the ground.
    """
    x, y, height = -rotation.T @ translation
    if height <= 0:
        raise FrameError(f"the camera is {height:.2f} m above the ground plane; expected above 0")
    ahead = rotation[2]
    yaw = math.atan2(ahead[1], ahead[0])
    sin, cos = math.sin(yaw), math.cos(yaw)
    turned = rotation @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    return Mounting(float(height), tuple(turned.ravel().tolist())), (float(x), float(y), yaw)


def rotation_of(x: float, y: float, z: float, w: float) -> np.ndarray:
    """Rotation matrix of a unit quaternion, float64 [3, 3]."""
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


@dataclass(frozen=True)
class Extent:
    """The piece of ground: ``length`` ahead of the camera, ``width`` with the camera in its middle."""

    resolution: float
    length: float
    width: float

    @property
    def shape(self) -> tuple[int, int]:
        """(cells across, cells ahead): the rows and columns of the grid."""
        return max(1, round(self.width / self.resolution)), max(
            1, round(self.length / self.resolution)
        )


def drivable_grid(masks: Masks, lens: Lens, mounting: Mounting, extent: Extent) -> np.ndarray:
    """The grid of one frame.

    A cell is free if all that is seen of it is drivable. Where, going up a column of the picture,
    drivable ground ends or an object begins, something touches the ground: that cell is occupied.
    What comes after it is hidden, or of unknown height: unknown, as is what lies outside the
    picture.

    Args:
        masks: of the size that ``lens`` is for.
        lens: the camera; rolled by a few degrees at most, so that columns of the picture go outwards.
        mounting: how it looks at the ground.
        extent: which piece of ground.

    Returns:
        int8 [rows, columns]: row 0 at the right, y = -width / 2; column 0 below the camera, x = 0.
    """
    kinds = np.where(masks.objects > 0, np.uint8(2), (masks.drivable == 0).view(np.uint8))
    # One more, which index -1 finds, for what is not seen.
    samples = np.append(kinds.ravel(), np.uint8(3))[_lookup(lens, mounting, extent)]
    seen = samples[0] < 3
    blocked = ((samples > 0) & (samples < 3)).any(axis=0)
    grid = np.where(seen & ~blocked, FREE, UNKNOWN).astype(np.int8)
    below = np.vstack([kinds[1:], np.zeros((1, kinds.shape[1]), np.uint8)])
    row, column = np.nonzero(kinds > below)
    row, column = _cells(lens, mounting, extent, np.column_stack([column, row]))
    grid[row, column] = OCCUPIED
    return grid


@lru_cache(maxsize=8)
def _lookup(lens: Lens, mounting: Mounting, extent: Extent) -> np.ndarray:
    """Flat pixel index of five points of every cell, the middle first, -1 where one is not seen.

    Returns:
        int32 [5, rows, columns].
    """
    rows, columns = extent.shape
    x = (np.arange(columns) + 0.5) * extent.resolution
    y = (np.arange(rows) + 0.5) * extent.resolution - extent.width / 2
    middle = np.stack(np.meshgrid(x, y), axis=-1)
    offsets = np.array([(0, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)]) * 0.4 * extent.resolution
    return np.stack([_pixels(lens, mounting, middle + offset) for offset in offsets])


def _cells(
    lens: Lens, mounting: Mounting, extent: Extent, pixels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the cells that pixels [N, 2] (column, row) show, of those that show one."""
    rays = np.column_stack([_undistort(pixels.astype(np.float64), lens), np.ones(len(pixels))])
    ground = rays @ np.array(mounting.rotation).reshape(3, 3)
    ground = ground[ground[:, 2] < -1e-6]  # those that look down
    ground *= -mounting.height / ground[:, 2:]
    column = np.floor(ground[:, 0] / extent.resolution)
    row = np.floor((ground[:, 1] + extent.width / 2) / extent.resolution)
    rows, columns = extent.shape
    inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    return row[inside].astype(int), column[inside].astype(int)


def _pixels(lens: Lens, mounting: Mounting, ground: np.ndarray) -> np.ndarray:
    """Flat index of the pixel that shows each ground point [..., 2], -1 where none does."""
    flat = ground.reshape(-1, 2)
    points = np.column_stack([flat, np.full(len(flat), -mounting.height)])
    camera = points @ np.array(mounting.rotation).reshape(3, 3).T
    ahead = camera[:, 2] > _MIN_DEPTH
    rays = camera[:, :2] / np.where(ahead, camera[:, 2], 1)[:, None]
    image = _distort(rays, lens)
    # A polynomial turns back on itself outside the lens's view: such a pixel shows another point.
    seen = ahead & (np.abs(_undistort(image, lens) - rays).max(axis=1) < 1e-2)
    column, row = np.rint(np.clip(np.nan_to_num(image, nan=-1), -1, 1e6)).astype(np.int64).T
    height, width = lens.size
    seen = seen & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return np.where(seen, row * width + column, -1).astype(np.int32).reshape(ground.shape[:-1])


def _distort(rays: np.ndarray, lens: Lens) -> np.ndarray:
    """Pixels of rays (x/z, y/z) [N, 2] through the lens."""
    matrix, distortion = np.array(lens.matrix).reshape(3, 3), np.array(lens.distortion)
    if lens.fisheye:
        return np.asarray(cv2.fisheye.distortPoints(rays[:, None], matrix, distortion)[:, 0])
    points = np.column_stack([rays, np.ones(len(rays))])
    pixels, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, distortion)
    return np.asarray(pixels[:, 0])


def _undistort(pixels: np.ndarray, lens: Lens) -> np.ndarray:
    """Rays (x/z, y/z) that pixels [N, 2] show."""
    if not len(pixels):
        return pixels
    matrix, distortion = np.array(lens.matrix).reshape(3, 3), np.array(lens.distortion)
    undistort = cv2.fisheye.undistortPoints if lens.fisheye else cv2.undistortPoints
    return np.asarray(undistort(pixels[:, None], matrix, distortion)[:, 0])
