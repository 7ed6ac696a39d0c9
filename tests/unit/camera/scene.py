"""A street whose image and ground are known by formula: a straight road with boxes on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deeplab_rt.camera.ground import Lens, Mounting
from deeplab_rt.labels import LabelSet

Box = tuple[float, float, float, float, float]
"""x from, x to, y from, y to, height; metres in the ground frame, and above the ground."""


@dataclass(frozen=True)
class Scene:
    """Flat ground, road where |y - middle| < half, pavement beside it, boxes (vehicles) upon it.

    Attributes:
        middle: of the road, metres to the left of the x axis, along which it runs.
        half: half the width of the road, metres.
        boxes: what stands on it.
    """

    middle: float
    half: float
    boxes: tuple[Box, ...] = ()

    def is_road(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Whether points of the ground are road, whatever stands on them."""
        return np.asarray(np.abs(y - self.middle) < self.half) & np.isfinite(x)

    def labels(self, lens: Lens, mounting: Mounting, label_set: LabelSet) -> np.ndarray:
        """uint8 [H, W]: label ids, by cutting the ray of every pixel with the ground and the boxes."""
        height, width = lens.size
        v, u = np.mgrid[:height, :width].astype(float)
        pixels = np.stack([u, v, np.ones_like(u)], -1)
        rays = pixels @ np.linalg.inv(np.array(lens.matrix).reshape(3, 3)).T
        rays = rays @ mounting.matrix  # x ahead, y left, z up
        with np.errstate(divide="ignore", invalid="ignore"):
            eye = np.array(mounting.position)
            ground = np.where(rays[..., 2] < 0, -eye[2] / rays[..., 2], np.inf)
            x, y = rays[..., 0] * ground + eye[0], rays[..., 1] * ground + eye[1]
            box = np.full((height, width), np.inf)
            for x0, x1, y0, y1, top in self.boxes:
                low, high = np.array([x0, y0, 0.0]) - eye, np.array([x1, y1, top]) - eye
                near, far = np.sort(np.stack([low / rays, high / rays]), axis=0)
                enter, leave = near.max(axis=-1), far.min(axis=-1)
                box = np.minimum(box, np.where((enter > 0) & (enter <= leave), enter, np.inf))
        ids = {name: label_set.index(name) + 1 for name in ("sky", "road", "sidewalk", "vehicle")}
        labels = np.where(self.is_road(x, y), ids["road"], ids["sidewalk"])
        labels = np.where(np.isinf(ground), ids["sky"], labels)
        return np.where(box <= ground, ids["vehicle"], labels).astype(np.uint8)

    def free_range(self, angles: np.ndarray) -> np.ndarray:
        """How far the road is free from the origin in each direction, metres; [N]."""
        cos, sin = np.cos(angles), np.sin(angles)
        with np.errstate(divide="ignore", invalid="ignore"):
            sides = [(self.middle + side * self.half) / sin for side in (-1, 1)]
            far = np.min([np.where(side > 0, side, np.inf) for side in sides], axis=0)
            for x0, x1, y0, y1, _ in self.boxes:
                x, y = np.sort([x0 / cos, x1 / cos], axis=0), np.sort([y0 / sin, y1 / sin], axis=0)
                enter, leave = np.maximum(x[0], y[0]), np.minimum(x[1], y[1])
                far = np.minimum(far, np.where((enter > 0) & (enter <= leave), enter, np.inf))
        return np.asarray(far)
