"""The vehicle's own pixels: read, scaled, and taken out of the masks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from deeplab_rt.camera.ego_mask import EgoMask, blank
from deeplab_rt.errors import FrameError, StreamError
from deeplab_rt.frame import Size
from deeplab_rt.masks import Masks

FRAME = Size(48, 64)


def test_polygons_and_an_image_of_them_are_the_same(tmp_path: Path) -> None:
    drawn = EgoMask("0,40 63,40 63,47 0,47; 10,10 20,10 20,20 10,20").at(FRAME, FRAME)
    assert drawn.dtype == bool
    assert drawn[40:].all() and drawn[10:21, 10:21].all()
    assert drawn.sum() == 8 * 64 + 11 * 11
    path = tmp_path / "ego.png"
    cv2.imwrite(str(path), drawn.astype(np.uint8) * 255)
    assert np.array_equal(EgoMask(str(path)).at(FRAME, FRAME), drawn)


def test_smaller_masks_leave_no_pixel_of_the_vehicle() -> None:
    small = EgoMask("0,41 63,41 63,47 0,47").at(FRAME, Size(12, 16))
    assert small[10:].all()
    assert not small[:10].any()
    assert EgoMask("5,5 5,5 5,5").at(FRAME, Size(12, 16)).sum() == 1


def test_image_of_another_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ego.png"
    cv2.imwrite(str(path), np.zeros((24, 32), np.uint8))
    with pytest.raises(FrameError, match="is 32x24, the frames are 64x48: expected the same size"):
        EgoMask(str(path)).at(FRAME, FRAME)


@pytest.mark.parametrize(
    "text", ["nowhere.png", "~nobody-here/x", "x" * 300, "\0", "/dev", "1,2 3", "0,0 1,1", "; ;"]
)
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(StreamError, match="ego_mask"):
        EgoMask(text)


def test_masks_are_blank_there() -> None:
    masks = Masks(*(np.full((48, 64), value, np.uint8) for value in (3, 255, 9, 200)))
    ego = EgoMask("0,40 63,40 63,47 0,47").at(FRAME, FRAME)
    blank(masks, ego)
    for mask, value in (
        (masks.labels, 3),
        (masks.drivable, 255),
        (masks.objects, 9),
        (masks.confidence, 200),
    ):
        assert mask is not None
        assert mask.dtype == np.uint8
        assert not mask[40:].any()
        assert (mask[:40] == value).all()
