"""Overlays for people: the label colours over the frame, and a legend."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from deeplab_rt.frame import Frame
from deeplab_rt.labels import GROUPS, LabelSet
from deeplab_rt.masks import Masks, colorize

DARK, LIGHT = (24, 24, 24), (235, 235, 235)  # BGR, of the legend's ground and text
_WIDEST = 960  # pixels of either half of a side-by-side view
_LINE = 22  # height in pixels of one line of the legend
_FONT, _FONT_SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.42
_NEIGHBOURS = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class OverlayStyle:
    """How an overlay is drawn.

    Attributes:
        alpha: weight of the label colours, 0 (the frame alone) to 1.
        only: ``drivable`` or ``objects`` to colour that group alone; None for every class.
        contours: whether to draw the borders of the classes in their full colours.
        side_by_side: whether to show the frame to the left of its overlay.

    Raises:
        ValueError: ``alpha`` or ``only`` is none of these.
    """

    alpha: float = 0.5
    only: str | None = None
    contours: bool = False
    side_by_side: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha {self.alpha:g} is not a weight; expected 0 to 1")
        if self.only not in (None, *GROUPS):
            raise ValueError(f"only {self.only!r} is no group; expected {' or '.join(GROUPS)}")


def frame_overlay(frame: Frame, masks: Masks, labels: LabelSet, alpha: float = 0.5) -> np.ndarray:
    """The overlay of a frame of either channel order, uint8 [H, W, 3] BGR."""
    return draw_overlay(frame, masks, labels, OverlayStyle(alpha))


def draw_overlay(frame: Frame, masks: Masks, labels: LabelSet, style: OverlayStyle) -> np.ndarray:
    """A frame with its label colours.

    Args:
        frame: of either channel order.
        masks: of any size; labels are brought to the frame's size without blending them.
        labels: of the masks.
        style: how to draw them.

    Returns:
        uint8 [H, W, 3] BGR, a new array: of the frame's size, or twice its width (at most 1920
        pixels) side by side.
    """
    image = frame.bgr
    height, width = image.shape[:2]
    label_map = masks.objects if style.only == "objects" else masks.labels
    if style.only == "drivable":
        label_map = np.where(masks.drivable != 0, masks.labels, np.uint8(0))
    if label_map.shape != (height, width):
        label_map = cv2.resize(label_map, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    colors = colorize(label_map, labels)
    drawn = cv2.addWeighted(image, 1 - style.alpha, colors, style.alpha, 0)
    if style.only is not None:
        drawn = cv2.copyTo(drawn, label_map, image.copy())
    if style.contours:
        borders = cv2.morphologyEx(label_map, cv2.MORPH_GRADIENT, _NEIGHBOURS)
        if style.only is not None:
            borders = cv2.bitwise_and(borders, label_map)
        drawn = cv2.copyTo(colors, borders, drawn)
    if style.side_by_side:
        drawn = _at_most(np.hstack([image, drawn]), 2 * _WIDEST)
    return np.asarray(drawn, np.uint8)


def _at_most(image: np.ndarray, width: int) -> np.ndarray:
    if image.shape[1] <= width:
        return image
    size = (width, max(1, round(image.shape[0] * width / image.shape[1])))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def legend(labels: LabelSet, width: int) -> np.ndarray:
    """A strip that names the colours, in as many lines as they need.

    Returns:
        uint8 [H, width, 3] BGR; drivable classes are marked with a bar under their name.
    """
    places: list[tuple[int, int]] = []
    x, line = 6, 0
    for name in labels.names:
        needed = 20 + _text_width(name) + 12
        if x > 6 and x + needed > width:
            x, line = 6, line + 1
        places.append((x, line * _LINE))
        x += needed
    strip = np.full(((line + 1) * _LINE, width, 3), DARK, np.uint8)
    drivable = labels.group("drivable")
    for label, (left, top) in zip(labels.labels, places, strict=True):
        cv2.rectangle(strip, (left, top + 5), (left + 14, top + 17), label.color[::-1], cv2.FILLED)
        cv2.putText(
            strip, label.name, (left + 20, top + 15), _FONT, _FONT_SIZE, LIGHT, 1, cv2.LINE_AA
        )
        if label.name in drivable:
            end = left + 20 + _text_width(label.name)
            cv2.line(strip, (left + 20, top + 19), (end, top + 19), LIGHT, 1)
    return strip


def _text_width(text: str) -> int:
    return int(cv2.getTextSize(text, _FONT, _FONT_SIZE, 1)[0][0])
