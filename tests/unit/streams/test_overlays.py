"""Overlays: colours over the frame, of all classes or of one group, with borders, side by side."""

from __future__ import annotations

import numpy as np
import pytest

from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.streams.overlays import OverlayStyle, draw_overlay, frame_overlay, legend
from tests.integration.streams.test_overlay_video import road

GRAY = np.full((20, 30, 3), 100, np.uint8)


def street(labels: LabelSet) -> Masks:
    """Sky above, road below, a vehicle in the middle."""
    label_map = np.full((20, 30), labels.index("road") + 1, np.uint8)
    label_map[:8] = labels.index("sky") + 1
    label_map[6:14, 10:20] = labels.index("vehicle") + 1
    return Masks(label_map, labels.drivable_lut[label_map], labels.objects_lut[label_map])


def color(labels: LabelSet, name: str) -> np.ndarray:
    return labels.palette[labels.index(name) + 1][::-1].astype(float)


def test_rgb_frames_keep_their_colours(camvid11: LabelSet) -> None:
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 200
    drawn = frame_overlay(Frame(red, 0, 0, channels="rgb"), road((8, 8), camvid11), camvid11, 0.0)
    assert (drawn == (0, 0, 200)).all()


def test_legend_shows_every_colour_and_fits_its_width(camvid11: LabelSet) -> None:
    wide, narrow = legend(camvid11, 2000), legend(camvid11, 320)
    assert wide.shape[1] == 2000 and narrow.shape[1] == 320
    assert narrow.shape[0] > wide.shape[0]
    for strip in (wide, narrow):
        colours = {tuple(color) for color in strip.reshape(-1, 3)[:, ::-1].tolist()}
        assert {label.color for label in camvid11.labels} <= colours


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_alpha_is_the_weight_of_the_colours(camvid11: LabelSet, alpha: float) -> None:
    drawn = draw_overlay(Frame(GRAY), street(camvid11), camvid11, OverlayStyle(alpha))
    for name, pixel in (("sky", drawn[1, 1]), ("road", drawn[18, 2]), ("vehicle", drawn[10, 15])):
        expected = 100 * (1 - alpha) + alpha * color(camvid11, name)
        assert np.abs(pixel - expected).max() <= 1


def test_one_group_alone_leaves_the_rest_as_it_is(camvid11: LabelSet) -> None:
    masks = street(camvid11)
    for only, coloured in (("drivable", masks.drivable != 0), ("objects", masks.objects != 0)):
        drawn = draw_overlay(Frame(GRAY), masks, camvid11, OverlayStyle(only=only))
        assert np.array_equal((drawn != 100).any(axis=2), coloured)


def test_contours_are_the_borders_in_full_colour(camvid11: LabelSet) -> None:
    masks = street(camvid11)
    drawn = draw_overlay(Frame(GRAY), masks, camvid11, OverlayStyle(0.0, contours=True))
    assert np.array_equal(drawn[10, 10], color(camvid11, "vehicle"))  # its left border
    assert (drawn[10, 14] == 100).all() and (drawn[17, 2] == 100).all()  # inside of classes
    changed = (drawn != 100).any(axis=2)
    assert changed[7, 2] and changed[8, 2]  # both sides of the horizon
    masks_alone = draw_overlay(
        Frame(GRAY), masks, camvid11, OverlayStyle(0.0, only="objects", contours=True)
    )
    assert not (masks_alone != 100).any(axis=2)[:, :9].any()


def test_side_by_side_shows_the_frame_first(camvid11: LabelSet) -> None:
    masks = street(camvid11)
    drawn = draw_overlay(Frame(GRAY), masks, camvid11, OverlayStyle(side_by_side=True))
    assert drawn.shape == (20, 60, 3) and np.array_equal(drawn[:, :30], GRAY)
    assert np.array_equal(drawn[:, 30:], frame_overlay(Frame(GRAY), masks, camvid11))
    wide = Frame(np.zeros((50, 2000, 3), np.uint8))
    assert draw_overlay(wide, masks, camvid11, OverlayStyle(side_by_side=True)).shape[1] == 1920


def test_masks_of_another_size_are_brought_to_the_frame(camvid11: LabelSet) -> None:
    frame = Frame(np.full((40, 60, 3), 100, np.uint8))
    for style in (OverlayStyle(), OverlayStyle(only="drivable"), OverlayStyle(contours=True)):
        assert draw_overlay(frame, street(camvid11), camvid11, style).shape == (40, 60, 3)


@pytest.mark.parametrize("wrong", [{"alpha": 1.5}, {"alpha": float("nan")}, {"only": "sky"}])
def test_a_style_that_is_none(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        OverlayStyle(**wrong)  # type: ignore[arg-type]
