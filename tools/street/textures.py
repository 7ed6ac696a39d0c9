"""Textures with labels, and the noise that they are made of."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from deeplab_rt.labels import load_label_set

ID = {name: index + 1 for index, name in enumerate(load_label_set("camvid11").names)}

Color = Sequence[float]  # (blue, green, red), 0 to 255


class Texture:
    """An image with labels, and smaller copies of it for the distance.

    Attributes:
        levels: BGR uint8 [h, w, 3] for an opaque texture, else BGRA uint8 [h, w, 4] with colours
            premultiplied by alpha; each level half the size of the one before.
        labels: uint8 [h, w] of level 0: label ids, 0 where the texture does not cover (or casts a
            shadow only).
        opaque: whether it covers all of its rectangle.
    """

    def __init__(
        self, bgr: np.ndarray, labels: np.ndarray | int, alpha: np.ndarray | None = None
    ) -> None:
        """Build the levels.

        Args:
            bgr: [h, w, 3], 0 to 255.
            labels: uint8 [h, w], or one id for all that ``alpha`` covers by half or more.
            alpha: float [h, w], 0 to 1; None for opaque.
        """
        self.opaque = alpha is None
        bgr = np.clip(bgr, 0, 255).astype(np.float32)
        if alpha is None:
            picture = bgr
        else:
            alpha = np.clip(alpha, 0, 1).astype(np.float32)[..., None]
            picture = np.concatenate([bgr * alpha, 255 * alpha], axis=2)
        if isinstance(labels, int):
            covered = np.ones(bgr.shape[:2], bool) if alpha is None else alpha[..., 0] >= 0.5
            labels = np.where(covered, labels, 0)
        self.labels = np.ascontiguousarray(labels, np.uint8)
        self.levels = [picture.astype(np.uint8)]
        while min(self.levels[-1].shape[:2]) >= 4:
            height, width = self.levels[-1].shape[:2]
            half = (width // 2, height // 2)
            smaller = cv2.resize(self.levels[-1], half, interpolation=cv2.INTER_AREA)
            self.levels.append(np.asarray(smaller, np.uint8))


def cloud(
    rng: np.random.Generator, height: int, width: int, coarse: int, fine: int = 1
) -> np.ndarray:
    """Fractal noise, float32 [height, width], mean about 0, deviation about 1.

    Args:
        rng: where the noise comes from.
        height: in pixels.
        width: in pixels.
        coarse: size of the largest blobs in pixels.
        fine: size of the smallest.
    """
    total = np.zeros((height, width), np.float32)
    weight, size = 1.0, coarse
    while size >= fine:
        small = rng.standard_normal((height // size + 2, width // size + 2), np.float32)
        total += weight * cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        weight, size = weight * 0.65, size // 2
    return total / max(float(total.std()), 1e-6)


def plain(height: int, width: int, color: Color) -> np.ndarray:
    """float32 [height, width, 3] of one colour."""
    return np.full((height, width, 3), color, np.float32)


def draw_line(mask: np.ndarray, start: np.ndarray, end: np.ndarray, thickness: float) -> None:
    """Draw a line of ones, all lengths in texels."""
    a, b = (tuple(round(float(v)) for v in point) for point in (start, end))
    cv2.line(mask, a, b, 1.0, max(1, round(thickness)), cv2.LINE_AA)
