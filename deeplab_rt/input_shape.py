"""The size of the network's input for a camera: its shape, the model's number of pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable

from deeplab_rt.frame import Size
from deeplab_rt.models import SIZE_MULTIPLE

LEAST_SHARE = 0.8
"""Of the pixel budget; a rectangle nearer to the camera's shape is not worth more pixels than that."""
MOST_SIDE = 4096


def shape_for(frame: tuple[int, int], budget: tuple[int, int]) -> Size:
    """The rectangle of multiples of 32 that is nearest to a frame's aspect ratio.

    Args:
        frame: (height, width) of the camera's frames in pixels.
        budget: (height, width) of the model's own input; its pixels are not exceeded.

    Returns:
        (height, width) of the network's input; the model's own where the frame has its aspect ratio.
    """
    most = budget[0] * budget[1]
    candidates = []
    for height in range(SIZE_MULTIPLE, min(most // SIZE_MULTIPLE, MOST_SIDE) + 1, SIZE_MULTIPLE):
        widest = min(most // height, MOST_SIDE)
        for width in range(SIZE_MULTIPLE, widest + 1, SIZE_MULTIPLE):
            candidates.append(Size(height, width))
    large = [size for size in candidates if size.height * size.width >= LEAST_SHARE * most]

    # Of equally near ones the larger, and the model's own before another of as many pixels.
    return min(
        large or candidates,
        key=lambda size: (_off(frame, size), -size.height * size.width, size != tuple(budget)),
    )


def nearest_shape(frame: tuple[int, int], shapes: Iterable[Size]) -> Size:
    """Of given input sizes the one nearest to a frame's aspect ratio, the largest of equal ones."""
    return min(shapes, key=lambda size: (_off(frame, size), -size.height * size.width))


def _off(frame: tuple[int, int], size: Size) -> float:
    """How far apart two aspect ratios are, by their logarithms."""
    return round(abs(math.log(size.width / size.height * frame[0] / frame[1])), 9)
