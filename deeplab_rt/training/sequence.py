"""Flicker: how many pixels change their label from frame to frame where the image does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deeplab_rt.labels import LabelSet

WIDTH = 480
"""Frames are compared at this width at most: optical flow costs what it costs."""

ROUND_TRIP = 1.0
"""Pixels that forward and backward flow may disagree by."""

BRIGHTNESS = 12.0
"""Grey levels that a pixel and its successor may differ by."""


_UNUSED: Any = None
"""The second map of ``cv2.remap``, where the first holds x and y."""


@dataclass
class Flicker:
    """What was counted over a sequence.

    Attributes:
        frames: Frames seen.
        pixels: Pixels of all frames but the first.
        followed: Those whose place in the frame before is certain.
        changed: Of the followed, those with another label than there.
        drivable: Of the followed, those that are drivable in one of the two frames only.
    """

    frames: int = 0
    pixels: int = 0
    followed: int = 0
    changed: int = 0
    drivable: int = 0

    def summary(self) -> dict[str, Any]:
        """Shares, rounded to five digits."""
        followed = max(self.followed, 1)
        return {
            "frames": self.frames,
            "followed": round(self.followed / max(self.pixels, 1), 5),
            "flicker": round(self.changed / followed, 5),
            "drivable_flicker": round(self.drivable / followed, 5),
        }


def _flow(dis: cv2.DISOpticalFlow, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> Any:
    return dis.calc(a, b, None)  # type: ignore[call-overload]


def correspondence(
    before: NDArray[np.uint8], now: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where each pixel of a frame was in the frame before.

    Args:
        before: Grey, uint8 [H, W].
        now: Likewise.

    Returns:
        The places, float32 [H, W, 2] (x, y), and where they are certain: inside the frame, the flow
        there leads back (:data:`ROUND_TRIP`), and the brightness is the same (:data:`BRIGHTNESS`).
    """
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    back, forth = _flow(dis, now, before), _flow(dis, before, now)
    height, width = now.shape
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=2).astype(np.float32)
    places = grid + back
    returned = cv2.remap(forth, places, _UNUSED, cv2.INTER_LINEAR)
    moved = cv2.remap(before, places, _UNUSED, cv2.INTER_LINEAR)
    inside = (places >= 0).all(2) & (places[..., 0] < width) & (places[..., 1] < height)
    closed = np.square(back + returned).sum(2) < ROUND_TRIP**2
    alike = cv2.absdiff(moved, now) < BRIGHTNESS
    return places.astype(np.float32), inside & closed & alike


def measure_flicker(
    frames: Iterable[NDArray[np.uint8]],
    predict: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
    labels: LabelSet,
) -> Flicker:
    """Run a predictor over frames in order and count changes of label.

    Args:
        frames: uint8 [H, W, 3] RGB, all of one size.
        predict: A frame to class indices, uint8 [H, W].
        labels: The classes.
    """
    result = Flicker()
    drivable = np.array([name in labels.group("drivable") for name in labels.names] + [False] * 256)
    before: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None
    for frame in frames:
        classes = predict(frame)
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        if grey.shape[1] > WIDTH:
            size = (WIDTH, round(grey.shape[0] * WIDTH / grey.shape[1]))
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
            classes = cv2.resize(classes, size, interpolation=cv2.INTER_NEAREST).astype(np.uint8)
        result.frames += 1
        now = grey.astype(np.uint8, copy=False)
        if before is not None and before[0].shape == now.shape:
            places, certain = correspondence(before[0], now)
            old = cv2.remap(before[1], places, _UNUSED, cv2.INTER_NEAREST)
            result.pixels += now.size
            result.followed += int(certain.sum())
            result.changed += int((certain & (old != classes)).sum())
            result.drivable += int((certain & (drivable[old] != drivable[classes])).sum())
        before = (now, classes)
    return result
