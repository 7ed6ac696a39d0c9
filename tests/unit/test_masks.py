"""The exact labels: equal to full interpolation + argmax, at any size, ties included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_rt.errors import FrameError
from deeplab_rt.frame import MAX_SIDE
from deeplab_rt.labels import Label, LabelSet
from deeplab_rt.masks import Masks, colorize, overlay
from deeplab_rt.upsample import masks_from_logits


def label_set(classes: int) -> LabelSet:
    """Every third class drivable, every second an object."""
    labels = []
    for index in range(classes):
        groups = [g for g, n in (("drivable", 3), ("objects", 2)) if index % n == 0]
        labels.append(Label(index + 1, f"c{index}", (index, 0, 255 - index), frozenset(groups)))
    return LabelSet(tuple(labels))


def interpolated(logits: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    tensor = torch.from_numpy(logits)[None]
    return torch.nn.functional.interpolate(tensor, size, mode="bilinear", align_corners=False)[0]


def assert_exact(logits: np.ndarray, size: tuple[int, int], allowed_gap: float) -> None:
    """Labels equal the reference's, save where the reference itself is within rounding of a tie."""
    labels = label_set(len(logits))
    masks = masks_from_logits(logits, size, labels)
    full = interpolated(logits, size)
    expected = full.argmax(0).numpy() + 1
    wrong = masks.labels != expected
    if wrong.any():
        chosen = full.gather(0, torch.from_numpy(masks.labels.astype(np.int64) - 1)[None])[0]
        gap = (full.max(0).values - chosen).numpy()
        assert gap[wrong].max() <= allowed_gap
    assert np.array_equal(masks.drivable, labels.drivable_lut[masks.labels])
    assert np.array_equal(masks.objects, labels.objects_lut[masks.labels])


grids = st.tuples(st.integers(2, 21), st.integers(1, 12), st.integers(1, 12))
sizes = st.tuples(st.integers(1, 67), st.integers(1, 67))


@settings(deadline=None, max_examples=150)
@given(grids, sizes, st.integers(0, 2**32 - 1))
def test_equals_full_interpolation_and_argmax(
    grid: tuple[int, int, int], size: tuple[int, int], seed: int
) -> None:
    logits = np.random.default_rng(seed).normal(size=grid).astype(np.float32)
    assert_exact(logits, size, allowed_gap=2e-6)


@settings(deadline=None, max_examples=150)
@given(grids, sizes, st.integers(0, 2**32 - 1))
def test_first_of_equal_classes_wins(
    grid: tuple[int, int, int], size: tuple[int, int], seed: int
) -> None:
    """Whole-number logits of few values tie everywhere, within cells and between their corners."""
    logits = np.random.default_rng(seed).integers(-1, 2, grid).astype(np.float32)
    assert_exact(logits, size, allowed_gap=2e-6)


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 21), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_ties_are_exact_at_stride_4(classes: int, h: int, w: int, seed: int) -> None:
    """At a ratio of 4 all weights are eighths: float32 is exact, so not one pixel may differ."""
    logits = np.random.default_rng(seed).integers(-2, 3, (classes, h, w)).astype(np.float32)
    size = (4 * h, 4 * w)
    expected = interpolated(logits, size).argmax(0).numpy() + 1
    assert np.array_equal(masks_from_logits(logits, size, label_set(classes)).labels, expected)


def test_smooth_logits_at_video_sizes() -> None:
    """What a network gives: large areas and thin borders, where most cells take the short way."""
    coarse = torch.from_numpy(
        np.random.default_rng(0).normal(size=(1, 11, 8, 10)).astype(np.float32)
    )
    logits = torch.nn.functional.interpolate(coarse, (120, 160), mode="bicubic")[0].numpy()
    for size in [(480, 640), (1080, 1920), (361, 479), (60, 80)]:
        assert_exact(logits, size, allowed_gap=2e-6)


def test_confidence_is_the_winners_probability() -> None:
    logits = 3 * np.random.default_rng(1).normal(size=(7, 9, 11)).astype(np.float32)
    masks = masks_from_logits(logits, (50, 61), label_set(7), confidence=True)
    expected = 255 * interpolated(logits, (50, 61)).softmax(0).max(0).values.numpy()
    assert masks.confidence is not None
    assert np.abs(masks.confidence - expected).max() <= 1  # half a step of rounding, and exp's own


@pytest.mark.parametrize("shape", [(3, 4, 4), (2, 0, 4), (2, 4)])
def test_logits_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(FrameError, match="do not fit 2 labels"):
        masks_from_logits(np.zeros(shape, np.float32), (8, 8), label_set(2))


@pytest.mark.parametrize("size", [(0, 8), (8, -1), (MAX_SIDE + 1, 8)])
def test_mask_size_is_bounded(size: tuple[int, int]) -> None:
    with pytest.raises(FrameError, match="out of bounds"):
        masks_from_logits(np.zeros((2, 2, 2), np.float32), size, label_set(2))


def test_not_a_number_does_not_escape_the_label_set() -> None:
    logits = np.full((3, 4, 4), np.nan, np.float32)
    logits[:, :2] = 1
    assert set(np.unique(masks_from_logits(logits, (16, 16), label_set(3)).labels)) <= {1, 2, 3}


def test_overlay_blends_the_colours_at_the_frames_size() -> None:
    labels = label_set(2)
    label_map = np.array([[1, 2]], np.uint8)
    masks = Masks(label_map, np.zeros_like(label_map), np.zeros_like(label_map))
    frame = np.full((2, 4, 3), 100, np.uint8)
    picture = overlay(frame, masks, labels, alpha=0.5)
    assert picture.shape == frame.shape
    assert picture[0, 0].tolist() == [178, 50, 50]  # half of BGR (255, 0, 0) and half of 100
    assert colorize(label_map, labels)[0, 1].tolist() == [254, 0, 1]
