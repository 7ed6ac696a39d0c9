"""A street whose image and ground are known by formula: a straight road with boxes on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deeplab_rt.camera.ground_grid import Lens, Mounting
from deeplab_rt.labels import LabelSet

Box = tuple[float, float, float, float, float]
"""x from, x to, y from, y to, height; metres ahead of the camera, to the left, above the ground."""


@dataclass(frozen=True)
class Scene:
    """Flat ground, road where |y - middle| < half, pavement beside it, boxes (vehicles) upon it.

    Attributes:
        middle: of the road, metres to the left of the camera.
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
        rays = rays @ np.array(mounting.rotation).reshape(3, 3)  # x ahead, y left, z up
        with np.errstate(divide="ignore", invalid="ignore"):
            ground = np.where(rays[..., 2] < 0, -mounting.height / rays[..., 2], np.inf)
            x, y = rays[..., 0] * ground, rays[..., 1] * ground
            box = np.full((height, width), np.inf)
            for x0, x1, y0, y1, top in self.boxes:
                low = np.array([x0, y0, -mounting.height])
                high = np.array([x1, y1, top - mounting.height])
                near, far = np.sort(np.stack([low / rays, high / rays]), axis=0)
                enter, leave = near.max(axis=-1), far.min(axis=-1)
                box = np.minimum(box, np.where((enter > 0) & (enter <= leave), enter, np.inf))
        ids = {name: label_set.index(name) + 1 for name in ("sky", "road", "sidewalk", "vehicle")}
        labels = np.where(self.is_road(x, y), ids["road"], ids["sidewalk"])
        labels = np.where(np.isinf(ground), ids["sky"], labels)
        return np.where(box <= ground, ids["vehicle"], labels).astype(np.uint8)
