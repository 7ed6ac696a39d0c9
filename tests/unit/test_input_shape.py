"""The network's input follows the camera's shape."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_rt.frame import Size
from deeplab_rt.input_shape import LEAST_SHARE, nearest_shape, shape_for

SIDES = st.integers(1, 8192)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ((480, 640), (384, 512)),  # the model's own shape
        ((1080, 1440), (384, 512)),
        ((1080, 1920), (320, 576)),
        ((720, 1280), (320, 576)),
        ((375, 1242), (224, 736)),  # KITTI
        ((640, 480), (512, 384)),  # a camera on its side
    ],
)
def test_cameras(frame: tuple[int, int], expected: tuple[int, int]) -> None:
    assert shape_for(frame, (384, 512)) == expected


@given(SIDES, SIDES, st.integers(2, 30), st.integers(2, 30))
def test_it_is_a_network_input_within_the_budget(h: int, w: int, rows: int, cols: int) -> None:
    budget = (32 * rows, 32 * cols)
    size = shape_for((h, w), budget)
    assert size.height % 32 == size.width % 32 == 0 and min(size) >= 32 and max(size) <= 4096
    assert size.height * size.width <= budget[0] * budget[1]


@given(st.integers(200, 2000), st.floats(0.4, 3.3))
def test_the_shape_is_near_the_frames(height: int, aspect: float) -> None:
    """From upright 9:21 to KITTI's 3.3:1, squeezed by at most a twelfth."""
    frame = (height, round(height * aspect))
    size = shape_for(frame, (384, 512))
    assert size.height * size.width >= LEAST_SHARE * 384 * 512
    assert abs(math.log(size.width / size.height * frame[0] / frame[1])) < 0.085


def test_the_nearest_of_what_there_is() -> None:
    shapes = [Size(384, 512), Size(320, 576), Size(512, 384)]
    assert nearest_shape((1080, 1920), shapes) == (320, 576)
    assert nearest_shape((10, 1), shapes) == (512, 384)
