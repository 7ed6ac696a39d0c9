"""Stride-4 logits to label map and masks at any size, exactly.

Bilinear interpolation is a convex combination, so where the four grid points around a pixel agree
on the winning class, so does every pixel between them: only the cells at label boundaries need
arithmetic, and there only the classes that can win at all. The result equals
``interpolate(logits, size, mode="bilinear", align_corners=False)`` followed by ``argmax`` (the first
of equal classes wins) in float32, without ever making the full-size logits.

The inner loops are compiled by Numba on first use and cached on disk.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numba
import numpy as np

from deeplab_rt.errors import FrameError
from deeplab_rt.frame import MAX_SIDE
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.parallel import parallel_rows

SHARED_PIXELS = 1_500_000
"""From here on labels are made on several threads; at 1280x720 handing work over costs what it saves."""


def masks_from_logits(
    logits: np.ndarray, size: tuple[int, int], labels: LabelSet, confidence: bool = False
) -> Masks:
    """Label map and masks of one frame.

    Args:
        logits: float32 [C, h, w].
        size: (height, width) of the masks in pixels; any ratio to (h, w), smaller ones too.
        labels: C labels with their groups.
        confidence: whether to make the confidence mask (costs several times the rest).

    Raises:
        FrameError: the shapes do not fit, or ``size`` is out of bounds.
    """
    if logits.ndim != 3 or logits.shape[0] != len(labels) or 0 in logits.shape:
        raise FrameError(
            f"logits of shape {list(logits.shape)} do not fit {len(labels)} labels: expected [C, h, w]"
        )
    height, width = size
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise FrameError(f"mask size {width}x{height} is out of bounds (1 to {MAX_SIDE} a side)")
    logits = np.ascontiguousarray(logits, np.float32)
    rows, cols = _axis(logits.shape[1], height), _axis(logits.shape[2], width)
    # One block for the three: freed one by one, malloc gives each back to the system, and the next
    # frame's pay a page fault for every 4 kB (two of eleven milliseconds at 1920x1080).
    out = np.empty((3, *size), np.uint8)
    winner = _winners(logits)
    luts = labels.drivable_lut, labels.objects_lut

    def label_cells(first: int, end: int) -> None:
        _label_cells(first, end, logits, winner, *rows, *cols, *luts, *out)

    parallel_rows(
        label_cells, logits.shape[1], threads=1 if height * width < SHARED_PIXELS else None
    )
    probability = None
    if confidence:
        probability = np.empty(size, np.uint8)
        sources = *_sources(rows), *_sources(cols)
        parallel_rows(
            lambda first, end: _confidence(first, end, logits, *sources, probability), height
        )
    return Masks(out[0], out[1], out[2], probability, label_set=labels)


Axis = tuple[np.ndarray, np.ndarray]


@lru_cache(maxsize=64)
def _axis(grid: int, pixels: int) -> Axis:
    """Where the pixels of one axis lie on the grid, as PyTorch computes it (half-pixel centres).

    Returns:
        starts: int64 [grid + 1]; the pixels of cell i (between grid points i and i + 1) are
            ``starts[i]`` to ``starts[i + 1] - 1``.
        weights: float32 [pixels]; weight of grid point i + 1.
    """
    scale = np.float32(grid) / np.float32(pixels)
    position = scale * (np.arange(pixels, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    position = np.maximum(position, np.float32(0))
    cell = np.minimum(position.astype(np.int64), grid - 1)
    weights = np.minimum(position - cell.astype(np.float32), np.float32(1))
    starts = np.searchsorted(cell, np.arange(grid + 1))
    return starts, weights


def _sources(axis: Axis) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every pixel of an axis: the grid point before it, the one after it, the latter's weight."""
    starts, weights = axis
    grid = len(starts) - 1
    before = np.repeat(np.arange(grid), np.diff(starts))
    return before, np.minimum(before + 1, grid - 1), weights


_jit: Any = numba.njit(cache=True, nogil=True, error_model="numpy")


@_jit
def _winners(logits: np.ndarray) -> np.ndarray:
    classes, grid_h, grid_w = logits.shape
    best = np.empty(grid_w, np.float32)
    winner = np.empty((grid_h, grid_w), np.uint8)
    for y in range(grid_h):
        for x in range(grid_w):
            best[x] = logits[0, y, x]
            winner[y, x] = 0
        for c in range(1, classes):
            for x in range(grid_w):
                value = logits[c, y, x]
                better = value > best[x]
                best[x] = value if better else best[x]
                winner[y, x] = np.uint8(c) if better else winner[y, x]
    return winner


@_jit
def _label_cells(
    first: int,
    end: int,
    logits: np.ndarray,
    winner: np.ndarray,
    row_starts: np.ndarray,
    row_weights: np.ndarray,
    col_starts: np.ndarray,
    col_weights: np.ndarray,
    drivable_lut: np.ndarray,
    objects_lut: np.ndarray,
    labels: np.ndarray,
    drivable: np.ndarray,
    objects: np.ndarray,
) -> None:
    classes, grid_h, grid_w = logits.shape
    one = np.float32(1)
    candidates = np.zeros(classes, np.int64)
    corners = np.empty((classes, 4), np.float32)
    above, below = np.empty(classes, np.float32), np.empty(classes, np.float32)
    for y0 in range(first, end):
        row_from, row_to = row_starts[y0], row_starts[y0 + 1]
        if row_from == row_to:
            continue
        y1 = min(y0 + 1, grid_h - 1)
        x0 = 0
        while x0 < grid_w:
            x1 = min(x0 + 1, grid_w - 1)
            win = winner[y0, x0]
            if winner[y0, x1] == win and winner[y1, x0] == win and winner[y1, x1] == win:
                # Extend over all the cells to the right that agree on the same class: one fill.
                last = x0
                while (
                    last + 1 < grid_w
                    and winner[y0, min(last + 2, grid_w - 1)] == win
                    and winner[y1, min(last + 2, grid_w - 1)] == win
                ):
                    last += 1
                col_from, col_to = col_starts[x0], col_starts[last + 1]
                label = np.uint8(win + 1)
                for y in range(row_from, row_to):
                    labels[y, col_from:col_to] = label
                    drivable[y, col_from:col_to] = drivable_lut[label]
                    objects[y, col_from:col_to] = objects_lut[label]
                x0 = last + 1
                continue

            # A class whose largest corner is below another's smallest corner cannot win in this cell.
            floor = np.float32(-np.inf)
            for c in range(classes):
                a, b = logits[c, y0, x0], logits[c, y0, x1]
                d, e = logits[c, y1, x0], logits[c, y1, x1]
                floor = max(floor, min(min(a, b), min(d, e)))
            count = 0
            for c in range(classes):
                a, b = logits[c, y0, x0], logits[c, y0, x1]
                d, e = logits[c, y1, x0], logits[c, y1, x1]
                if max(max(a, b), max(d, e)) >= floor:
                    candidates[count] = c
                    corners[count, 0] = a
                    corners[count, 1] = b
                    corners[count, 2] = d
                    corners[count, 3] = e
                    count += 1
            for x in range(col_starts[x0], col_starts[x0 + 1]):
                wx1 = col_weights[x]
                wx0 = one - wx1
                # Who wins at the upper and at the lower end of a column of pixels wins between.
                highest_above = highest_below = np.float32(-np.inf)
                top_above = top_below = 0
                for k in range(count):
                    above[k] = wx0 * corners[k, 0] + wx1 * corners[k, 1]
                    below[k] = wx0 * corners[k, 2] + wx1 * corners[k, 3]
                    if above[k] > highest_above:
                        highest_above = above[k]
                        top_above = k
                    if below[k] > highest_below:
                        highest_below = below[k]
                        top_below = k
                if top_above == top_below:
                    label = np.uint8(candidates[top_above] + 1)
                    is_drivable, is_object = drivable_lut[label], objects_lut[label]
                    for y in range(row_from, row_to):
                        labels[y, x] = label
                        drivable[y, x] = is_drivable
                        objects[y, x] = is_object
                    continue
                for y in range(row_from, row_to):
                    wy1 = row_weights[y]
                    wy0 = one - wy1
                    top_value = np.float32(-np.inf)
                    top = 0
                    for k in range(count):
                        value = wy0 * above[k] + wy1 * below[k]
                        if value > top_value:
                            top_value = value
                            top = k
                    label = np.uint8(candidates[top] + 1)
                    labels[y, x] = label
                    drivable[y, x] = drivable_lut[label]
                    objects[y, x] = objects_lut[label]
            x0 += 1


@_jit
def _confidence(
    first: int,
    end: int,
    logits: np.ndarray,
    row_before: np.ndarray,
    row_after: np.ndarray,
    row_weights: np.ndarray,
    col_before: np.ndarray,
    col_after: np.ndarray,
    col_weights: np.ndarray,
    out: np.ndarray,
) -> None:
    classes, _, grid_w = logits.shape
    width = out.shape[1]
    one = np.float32(1)
    row = np.empty(grid_w, np.float32)
    values = np.empty((classes, width), np.float32)
    top = np.empty(width, np.float32)
    total = np.empty(width, np.float32)
    for y in range(first, end):
        y0, y1, wy1 = row_before[y], row_after[y], row_weights[y]
        wy0 = one - wy1
        top[:] = -np.inf
        total[:] = 0
        for c in range(classes):
            for x in range(grid_w):
                row[x] = wy0 * logits[c, y0, x] + wy1 * logits[c, y1, x]
            for x in range(width):
                wx1 = col_weights[x]
                value = (one - wx1) * row[col_before[x]] + wx1 * row[col_after[x]]
                values[c, x] = value
                top[x] = max(top[x], value)
        for c in range(classes):
            for x in range(width):
                # exp(z) as (1 + z / 1024) ** 1024: ten multiplications that become vector code,
                # within 0.1 % where it counts, an eighth of one step of the mask.
                z = max(values[c, x] - top[x], np.float32(-16))
                power = one + z * np.float32(1 / 1024)
                for _ in range(10):
                    power *= power
                total[x] += power
        for x in range(width):
            out[y, x] = np.uint8(np.float32(255) / total[x] + np.float32(0.5))


def warm_up() -> None:
    """Compile (or load from the cache) the inner loops, so that the first frame is not late."""
    labels = LabelSet.from_list(
        [{"id": i, "name": str(i), "color": [0, 0, 0], "groups": []} for i in (1, 2)]
    )
    masks_from_logits(np.zeros((2, 1, 1), np.float32), (2, 2), labels, confidence=True)
