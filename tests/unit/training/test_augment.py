"""Augmentation: image and labels move together, and a seed fixes everything."""

from __future__ import annotations

import numpy as np
import pytest

from deeplab_rt.training.augment import AugmentOptions, darken, photometric, warp
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
    options = AugmentOptions(crops=((96, 128),), frame=(120, 160), scale=(0.5, 2.0))
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
    options = AugmentOptions(crops=((60, 80),), frame=(60, 80), **STILL)
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
    options = AugmentOptions(crops=((60, 80),), frame=(60, 80), **STILL | {"scale": (0.5, 0.5)})
    out, out_groups = warp(image, groups, options, np.random.default_rng(0))
    assert (out_groups == IGNORE).mean() == pytest.approx(0.75, abs=0.05)
    assert out_groups[0, 0] == IGNORE
    assert out[0, 0].tolist() == [127, 127, 127]


@pytest.mark.parametrize("seed", range(6))
def test_a_crop_holds_its_focus(seed: int) -> None:
    image, groups = scene()
    groups[:] = 0
    groups[7, 70] = groups[6:9, 69:72] = 3
    options = AugmentOptions(crops=((40, 40),), frame=(120, 160), **STILL)
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


@pytest.mark.parametrize("seed", range(6))
def test_the_image_covers_the_sample_as_asked(seed: int) -> None:
    image, groups = scene()
    options = AugmentOptions(
        crops=((40, 120),), frame=(60, 80), cover=1.0, **STILL | {"scale": (0.5, 0.5)}
    )
    _, out_groups = warp(image, groups, options, np.random.default_rng(seed))
    assert (out_groups == IGNORE).mean() < 0.03


def test_a_wide_frame_keeps_its_aspect_unless_it_is_squeezed() -> None:
    # A disc of 20 pixels in a 2:1 frame, at the pixel budget of a 4:3 input.
    image = np.zeros((60, 120, 3), np.uint8)
    groups = np.zeros((60, 120), np.uint8)
    rows, columns = np.mgrid[:60, :120]
    groups[np.hypot(rows - 30, columns - 60) < 10] = 1
    for squeeze, same in ((0.0, True), (1.0, False)):
        options = AugmentOptions(crops=((60, 120),), frame=(60, 80), squeeze=squeeze, **STILL)
        aspects = []
        for seed in range(8):
            _, out = warp(image, groups, options, np.random.default_rng(seed))
            places = np.argwhere(out == 1)
            tall, wide = places.max(0) - places.min(0) + 1
            aspects.append(wide / tall)
        assert (min(aspects) > 0.9) == same
        assert max(aspects) < 1.1


def test_night_is_dark_and_lamps_stay() -> None:
    image = np.full((10, 10, 3), 120, np.uint8)
    image[:2] = 255
    for seed in range(6):
        out = darken(image, np.random.default_rng(seed))
        assert out[5].max() < 110
        assert out[0].max() > 170
