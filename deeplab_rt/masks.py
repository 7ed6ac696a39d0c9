"""What comes back of a frame: label map and masks, views of them, and their overlay for people."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np

from deeplab_rt.frame import Frame, Size, as_frame
from deeplab_rt.labels import LabelSet


@dataclass
class Masks:
    """The masks of one frame, all of one size.

    Attributes:
        labels: uint8 [H, W], label id (class index + 1) of every pixel.
        drivable: uint8 [H, W], 255 drivable, 0 not.
        objects: uint8 [H, W], label id of an object class, 0 none.
        confidence: uint8 [H, W], softmax probability of the winner x 255, or None if not asked for.
        timings: stage -> milliseconds; ``preprocess``, ``network``, ``labels`` at least.
        label_set: names and colours of the label ids; None where the masks were made without one.
    """

    labels: np.ndarray
    drivable: np.ndarray
    objects: np.ndarray
    confidence: np.ndarray | None = None
    timings: dict[str, float] = field(default_factory=dict)
    label_set: LabelSet | None = None

    @property
    def size(self) -> Size:
        """(height, width) in pixels."""
        return Size.of(self.labels)

    @property
    def is_drivable(self) -> np.ndarray:
        """bool [H, W], made when asked for."""
        mask: np.ndarray = self.drivable != 0
        return mask

    @property
    def class_ids(self) -> np.ndarray:
        """uint8 [H, W], the network's class index of every pixel (label id - 1), made when asked for."""
        ids: np.ndarray = self.labels - np.uint8(1)
        return ids

    def overlay(self, image: Frame | np.ndarray, alpha: float = 0.5) -> np.ndarray:
        """The image with the label colours laid over it.

        Args:
            image: the frame, or its uint8 [H, W, 3] BGR image.
            alpha: weight of the colours, 0 to 1.

        Returns:
            uint8 [H, W, 3] BGR, a new array.

        Raises:
            ValueError: these masks came without a label set.
        """
        if self.label_set is None:
            raise ValueError("these masks have no label set; take overlay(image, masks, labels)")
        return overlay(as_frame(image).bgr, self, self.label_set, alpha)

    def __repr__(self) -> str:
        share = float(np.count_nonzero(self.drivable)) / self.drivable.size
        ids = np.flatnonzero(np.bincount(self.labels.ravel(), minlength=256))
        names = self.label_set.names if self.label_set else ()
        found = [names[i - 1] if 0 < i <= len(names) else str(i) for i in ids]
        return f"Masks({self.size}, {share:.0%} drivable, {', '.join(found)})"


def colorize(label_map: np.ndarray, labels: LabelSet) -> np.ndarray:
    """uint8 [H, W] of label ids to an image, uint8 [H, W, 3] BGR."""
    return cv2.applyColorMap(label_map, _palette_bgr(labels))


def overlay(
    frame_bgr: np.ndarray, masks: Masks, labels: LabelSet, alpha: float = 0.5
) -> np.ndarray:
    """The frame with the label colours laid over it, for people.

    Args:
        frame_bgr: uint8 [H, W, 3].
        masks: of any size; the label map is brought to the frame's size without blending labels.
        alpha: weight of the colours, 0 to 1.

    Returns:
        uint8 [H, W, 3] BGR, a new array.
    """
    height, width = frame_bgr.shape[:2]
    label_map = masks.labels
    if masks.size != (height, width):
        label_map = cv2.resize(label_map, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return cv2.addWeighted(frame_bgr, 1 - alpha, colorize(label_map, labels), alpha, 0)


@lru_cache(maxsize=16)
def _palette_bgr(labels: LabelSet) -> np.ndarray:
    return np.ascontiguousarray(labels.palette[:, ::-1]).reshape(256, 1, 3)
