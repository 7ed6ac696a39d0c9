"""One frame's masks on the ground: the grid of what is free, and how far it is free in each direction.

Both rest on where things touch the ground. Going outwards from the camera over the image, that is where
drivable ground ends, or where an object begins: what comes after it is hidden or of unknown height.
Grid values are those of ``nav_msgs/OccupancyGrid``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np

from deeplab_rt.camera.ground import Lens, Mounting, ground_of, pixels_of
from deeplab_rt.masks import Masks

FREE, OCCUPIED, UNKNOWN = 0, 100, -1
# What a pixel shows.
_DRIVABLE, _OTHER, _OBJECT, _UNSEEN = range(4)
_STEP = 16  # pixels between those at which the way to the camera is worked out
_SAMPLES = 64  # ground points of a bearing that are looked at


@dataclass(frozen=True)
class Area:
    """A piece of ground in cells, along the axes of its frame.

    Attributes:
        x: of its corner of least x and y, metres.
        y: likewise.
        resolution: side of a cell, metres.
        rows: cells along y.
        columns: cells along x.
    """

    x: float
    y: float
    resolution: float
    rows: int
    columns: int

    @classmethod
    def seen_by(cls, mounting: Mounting, resolution: float, length: float, width: float) -> Area:
        """What holds ``length`` ahead of the camera, of ``width`` with the camera in its middle."""
        sin, cos = math.sin(mounting.yaw), math.cos(mounting.yaw)
        corners = [
            (mounting.position[0] + a * cos - b * sin, mounting.position[1] + a * sin + b * cos)
            for a in (0.0, length)
            for b in (-width / 2, width / 2)
        ]
        (x, y), (right, top) = np.min(corners, axis=0), np.max(corners, axis=0)
        rows, columns = (
            max(1, math.ceil(span / resolution - 1e-6)) for span in (top - y, right - x)
        )
        return cls(float(x), float(y), resolution, rows, columns)


@dataclass(frozen=True)
class Bearings:
    """Directions around the origin of the ground frame, as of ``sensor_msgs/LaserScan``.

    Attributes:
        first: the first one, in radians from the x axis to the left.
        count: how many there are, evenly over the full circle.
        nearest: the least range, metres.
        farthest: the greatest range, metres.
    """

    first: float
    count: int
    nearest: float
    farthest: float

    @classmethod
    def around(cls, mounting: Mounting, count: int, nearest: float, farthest: float) -> Bearings:
        """A full circle that begins behind the camera."""
        return cls(mounting.yaw - math.pi, count, nearest, farthest)

    @property
    def step(self) -> float:
        return 2 * math.pi / self.count


class GroundView:
    """Masks seen as ground."""

    def __init__(
        self, masks: Masks, lens: Lens, mounting: Mounting, ego: np.ndarray | None = None
    ) -> None:
        """Nothing is computed yet.

        Args:
            masks: of the size that ``lens`` is for.
            lens: the camera.
            mounting: how it looks at the ground.
            ego: bool [H, W], where the camera sees the vehicle itself; None for nowhere.
        """
        self.lens = lens
        self.mounting = mounting
        self._masks = masks
        self._ego = ego

    @cached_property
    def _kinds(self) -> np.ndarray:
        """uint8 [H * W + 1]: what each pixel shows, and one that is not seen."""
        height, width = self.lens.size
        kinds = np.empty(height * width + 1, np.uint8)
        image = kinds[:-1].reshape(height, width)
        np.equal(self._masks.drivable, 0, out=image.view(bool))
        objects = (self._masks.objects != 0).view(np.uint8)
        np.maximum(image, objects + objects, out=image)  # _OBJECT is 2
        if self._ego is not None:
            image[self._ego] = _UNSEEN
        kinds[-1] = _UNSEEN
        return kinds

    @cached_property
    def contacts(self) -> np.ndarray:
        """float64 [N, 2]: x and y of the ground points where drivable ground ends or objects begin."""
        height, width = self.lens.size
        kinds = self._kinds
        if self._ego is not None:
            # Before what is not seen (the vehicle itself) nothing is known to stand.
            kinds = np.where(kinds == _UNSEEN, np.uint8(_DRIVABLE), kinds)
        image = kinds[:-1].reshape(height, width)
        steps = _steps_to_camera(self.lens, self.mounting)
        if steps is None:
            contact = np.empty((height, width), bool)
            np.greater(image[:-1], image[1:], out=contact[:-1])
            np.greater(image[-1], _DRIVABLE, out=contact[-1])
        else:
            nearer = np.append(kinds[:-1], np.uint8(_DRIVABLE)).take(steps)
            contact = image > nearer
        found = cv2.findNonZero(contact.view(np.uint8))  # (column, row) of each
        pixels = np.empty((0, 2)) if found is None else found.reshape(-1, 2).astype(np.float64)
        points = ground_of(pixels, self.lens, self.mounting)
        return np.asarray(points[np.isfinite(points[:, 0])])

    def _first_contacts(self) -> np.ndarray:
        """The contacts with nothing before them, seen from the camera.

        The upright edges of an object lean in the image, so that here and there a pixel of it has
        ground below: a contact that is none, behind the object's own.
        """
        x, y = (self.contacts - np.array(self.mounting.position[:2])).T
        distance, bins = np.hypot(x, y), max(360, int(2 * math.pi * self.lens.matrix[0]))
        index = np.floor((np.arctan2(y, x) / (2 * math.pi) + 0.5) * (bins - 1)).astype(int)
        nearest = np.full(bins, np.inf)
        np.minimum.at(nearest, index, distance)
        nearest = np.min([np.roll(nearest, shift) for shift in (-1, 0, 1)], axis=0)
        return np.asarray(self.contacts[distance <= 1.1 * nearest[index]])

    def grid(self, area: Area) -> np.ndarray:
        """Which cells are free.

        Returns:
            int8 [rows, columns]: FREE if all that is seen of a cell is drivable, OCCUPIED where
            something touches the ground, UNKNOWN for the rest.
        """
        samples = self._kinds[_cell_pixels(self.lens, self.mounting, area)]
        free = (samples[0] == _DRIVABLE) & ((samples == _DRIVABLE) | (samples == _UNSEEN)).all(
            axis=0
        )
        grid = np.where(free, FREE, UNKNOWN).astype(np.int8)
        cells = np.floor((self.contacts - (area.x, area.y)) / area.resolution)
        column, row = cells[(np.abs(cells) < 1e6).all(axis=1)].astype(int).T
        inside = (column >= 0) & (column < area.columns) & (row >= 0) & (row < area.rows)
        grid[row[inside], column[inside]] = OCCUPIED
        return grid

    def ranges(self, bearings: Bearings) -> np.ndarray:
        """How far the ground is drivable in each direction.

        Returns:
            float32 [count], metres: the nearest contact; infinity where all ground that the camera
            sees up to the greatest range is drivable and is seen without a gap; NaN where neither is
            known.
        """
        table = _bearing_pixels(self.lens, self.mounting, bearings)
        kinds = self._kinds[table]
        begun = np.logical_or.accumulate(kinds != _UNSEEN, axis=1)
        clear = begun[:, -1] & (~begun | (kinds == _DRIVABLE)).all(axis=1)
        ranges = np.where(clear, np.float32(np.inf), np.float32(np.nan))
        x, y = self._first_contacts().T
        distance = np.hypot(x, y)
        near = distance <= bearings.farthest
        index = np.rint((np.arctan2(y, x)[near] - bearings.first) / bearings.step).astype(int)
        nearest = np.full(bearings.count, np.inf, np.float32)
        np.minimum.at(nearest, index % bearings.count, distance[near].astype(np.float32))
        return np.where(
            np.isfinite(nearest), np.maximum(nearest, np.float32(bearings.nearest)), ranges
        )


@lru_cache(maxsize=8)
def _cell_pixels(lens: Lens, mounting: Mounting, area: Area) -> np.ndarray:
    """Flat pixel index of five points of every cell, the middle first: int32 [5, rows, columns]."""
    x = area.x + (np.arange(area.columns) + 0.5) * area.resolution
    y = area.y + (np.arange(area.rows) + 0.5) * area.resolution
    middle = np.stack(np.meshgrid(x, y), axis=-1)
    offsets = np.array([(0, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)]) * 0.4 * area.resolution
    return np.stack([pixels_of(middle + offset, lens, mounting) for offset in offsets])


@lru_cache(maxsize=8)
def _bearing_pixels(lens: Lens, mounting: Mounting, bearings: Bearings) -> np.ndarray:
    """Flat pixel index of ground points of every bearing, outwards: int32 [count, _SAMPLES]."""
    angles = bearings.first + np.arange(bearings.count) * bearings.step
    near, far, half = bearings.nearest, bearings.farthest, _SAMPLES // 2
    # One half evenly on the ground, one evenly in the image (which is evenly in one over the range).
    ranges = np.sort(
        np.concatenate([np.linspace(near, far, half), 1 / np.linspace(1 / near, 1 / far, half)])
    )
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    return pixels_of(directions[:, None] * ranges[:, None], lens, mounting)


@lru_cache(maxsize=8)
def _steps_to_camera(lens: Lens, mounting: Mounting) -> np.ndarray | None:
    """The neighbour of every pixel that shows ground nearer to the camera.

    Returns:
        int32 [H, W], flat index, H * W beyond the image's edge. None if it is the one below everywhere.
    """
    height, width = lens.size
    rows, columns = np.arange(0, height, _STEP), np.arange(0, width, _STEP)
    pixels = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2).astype(np.float64)
    # Nearer ground is where a ray leads that is bent down a little.
    down = mounting.matrix @ np.array([0.0, 0.0, -1.0])
    rays = np.column_stack([lens.undistort(pixels), np.ones(len(pixels))]) + 0.01 * down
    way = lens.distort(rays[:, :2] / rays[:, 2:]) - pixels
    eighth = np.rint(np.arctan2(way[:, 1], way[:, 0]) / (math.pi / 4)).astype(int) % 8
    if (eighth == 2).all():
        return None
    shape = (len(rows), len(columns))
    step_x = np.array([1, 1, 0, -1, -1, -1, 0, 1])[eighth]
    step_y = np.array([0, 1, 1, 1, 0, -1, -1, -1])[eighth]

    def fill(steps: np.ndarray) -> np.ndarray:
        wide = np.repeat(np.repeat(steps.reshape(shape), _STEP, axis=0), _STEP, axis=1)
        return wide[:height, :width]

    row = np.arange(height)[:, None] + fill(step_y)
    column = np.arange(width) + fill(step_x)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return np.where(inside, row * width + column, height * width).astype(np.int32)
