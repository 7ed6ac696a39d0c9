"""Augmentation: image and labels move together, and a seed fixes everything."""

from __future__ import annotations

import numpy as np
import pytest

from deeplab_rt.training.augment import AugmentOptions, photometric, warp
from deeplab_rt.training.data import IGNORE

STILL = {"rotation": 0.0, "stretch": 0.0, "scale": (1.0, 1.0)}


def scene(height: int = 60, width: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """Blocks whose colour is a function of their label."""
    rows, columns = np.mgrid[:height, :width]
    groups = ((rows // 10 + columns // 10) % 5).astype(np.uint8)
    image = np.repeat((groups * 50)[..., None], 3, axis=2)
    return image, groups


@pytest.mark.parametrize("seed", range(8))
def test_image_and_labels_stay_aligned(seed: int) -> None:
    image, groups = scene()
    options = AugmentOptions(crop=(96, 128), frame=(120, 160), scale=(0.5, 2.0))
    out, out_groups = warp(image, groups, options, np.random.default_rng(seed))
    assert out.shape == (96, 128, 3)
    assert out_groups.shape == (96, 128)
    assert out.dtype == out_groups.dtype == np.uint8
    inside = out_groups != IGNORE
    assert inside.mean() > 0.2
    # Away from block boundaries, where colours blend, the colour is the label's.
    same = out[..., 0] == out_groups.astype(int) * 50
    assert same[inside].mean() > 0.6
    assert np.abs(out[..., 0][inside] - 50.0 * out_groups[inside]).mean() < 25


def test_without_change_the_frame_comes_back_or_its_mirror() -> None:
    image, groups = scene()
    options = AugmentOptions(crop=(60, 80), frame=(60, 80), **STILL)
    seen = set()
    for seed in range(12):
        out, out_groups = warp(image, groups, options, np.random.default_rng(seed))
        mirrored = not np.array_equal(out_groups, groups)
        seen.add(mirrored)
        assert np.array_equal(out_groups, groups[:, ::-1] if mirrored else groups)
        assert np.array_equal(out, image[:, ::-1] if mirrored else image)
    assert seen == {True, False}


def test_outside_is_grey_and_ignored() -> None:
    image, groups = scene()
    options = AugmentOptions(crop=(60, 80), frame=(60, 80), **STILL | {"scale": (0.5, 0.5)})
    out, out_groups = warp(image, groups, options, np.random.default_rng(0))
    assert (out_groups == IGNORE).mean() == pytest.approx(0.75, abs=0.05)
    assert out_groups[0, 0] == IGNORE
    assert out[0, 0].tolist() == [127, 127, 127]


@pytest.mark.parametrize("seed", range(6))
def test_a_crop_holds_its_focus(seed: int) -> None:
    image, groups = scene()
    groups[:] = 0
    groups[7, 70] = groups[6:9, 69:72] = 3
    options = AugmentOptions(crop=(40, 40), frame=(120, 160), **STILL)
    _, out_groups = warp(image, groups, options, np.random.default_rng(seed), focus=(7, 70))
    assert (out_groups == 3).any()


def test_photometric_keeps_shape_and_is_a_function_of_the_seed() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    changed = 0
    for seed in range(20):
        out = photometric(image, np.random.default_rng(seed), 0.9)
        again = photometric(image, np.random.default_rng(seed), 0.9)
        assert out.shape == image.shape
        assert out.dtype == np.uint8
        assert np.array_equal(out, again)
        changed += not np.array_equal(out, image)
    assert changed >= 18
    assert np.array_equal(photometric(image, np.random.default_rng(0), 0.0), image)
