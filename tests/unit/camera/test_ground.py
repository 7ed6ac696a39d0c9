"""The camera over the ground: poses, lenses, and what is refused of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_rt.camera.ground import Lens, Mounting, ground_of, pixels_of, rotation_of
from deeplab_rt.errors import FrameError

angle = st.floats(-180, 180)


@settings(max_examples=50, deadline=None)
@given(pitch=st.floats(-20, 80), roll=angle, yaw=angle, height=st.floats(0.2, 5))
def test_pose_from_a_transform(pitch: float, roll: float, yaw: float, height: float) -> None:
    half = np.radians(yaw) / 2
    turn = rotation_of(0, 0, np.sin(half), np.cos(half))
    level = Mounting.from_angles(height, pitch, roll).matrix
    rotation = level @ turn.T
    mounting = Mounting.from_transform(rotation, -rotation @ np.array([1.0, -2.0, height]))
    assert mounting.position == pytest.approx((1.0, -2.0, height))
    assert np.allclose(mounting.matrix, rotation)
    assert np.cos(mounting.yaw - np.radians(yaw)) == pytest.approx(1.0)


def test_angles_turn_the_camera_the_way_they_say() -> None:
    lens = Lens((480, 640), (400.0, 0, 320, 0, 400, 240, 0, 0, 1))
    middle, right = np.array([[320.0, 240.0]]), np.array([[600.0, 240.0]])
    ((x, y),) = ground_of(middle, lens, Mounting.from_angles(1.0, 45.0))
    assert (x, y) == pytest.approx((1.0, 0.0), abs=1e-9)
    # With its right side lower, the right half of the image sees nearer ground.
    assert np.isnan(ground_of(right, lens, Mounting.from_angles(1.0, 0.0, -10.0))).all()
    ((x, y),) = ground_of(right, lens, Mounting.from_angles(1.0, 0.0, 10.0))
    assert x > 0 > y


def test_camera_that_looks_straight_down_has_the_bearing_of_its_upper_edge() -> None:
    assert Mounting.from_angles(2.0, 90.0).yaw == pytest.approx(0.0)


@settings(max_examples=50, deadline=None)
@given(pitch=st.floats(5, 60), roll=angle, column=st.integers(0, 639), row=st.integers(0, 479))
def test_pixels_and_ground_points_are_each_others_inverse(
    pitch: float, roll: float, column: int, row: int
) -> None:
    lens = Lens((480, 640), (400.0, 0, 320, 0, 400, 240, 0, 0, 1), (-0.1, 0.01, 0.0, 0.0))
    mounting = Mounting.from_angles(1.5, pitch, roll)
    point = ground_of(np.array([[column, row]], float), lens, mounting)
    if np.isfinite(point).all() and np.abs(point).max() < 1000:
        assert pixels_of(point, lens, mounting) == [row * 640 + column]


def test_camera_below_the_ground() -> None:
    with pytest.raises(FrameError, match=r"-2\.00 m above the ground"):
        Mounting.from_transform(np.eye(3), np.array([0.0, 0.0, 2.0]))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_transform_of_numbers_that_are_none(wrong: float) -> None:
    with pytest.raises(FrameError, match="not finite"):
        Mounting.from_transform(np.eye(3), np.array([wrong, 0.0, -2.0]))
    with pytest.raises(FrameError, match="is no rotation"):
        rotation_of(0, 0, wrong, 1)
    with pytest.raises(FrameError, match="is no rotation"):
        rotation_of(0, 0, 0, 0)


def test_rotation_of_a_quaternion() -> None:
    half = np.sqrt(0.5)
    assert np.allclose(rotation_of(0, 0, 7, 7), rotation_of(0, 0, half, half))
    assert np.allclose(rotation_of(0, 0, half, half), [[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert np.allclose(rotation_of(half, 0, 0, half), [[1, 0, 0], [0, 0, -1], [0, 1, 0]])


def test_lens_of_camera_info() -> None:
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0)
    info = SimpleNamespace(
        width=1280,
        height=960,
        roi=roi,
        k=np.array([800.0, 0, 639.5, 0, 800, 479.5, 0, 0, 1]),
        d=[0.1, 0.0, 0.0, 0.0],
        distortion_model="plumb_bob",
    )
    lens = Lens.from_info(info, (480, 640))
    assert lens.matrix == pytest.approx((400, 0, 319.5, 0, 400, 239.5, 0, 0, 1))
    info.k[0] = 0
    with pytest.raises(FrameError, match="not calibrated"):
        Lens.from_info(info, (480, 640))
    info.distortion_model = "magic" * 100
    with pytest.raises(FrameError, match="distortion model 'magic.*known: plumb_bob"):
        Lens.from_info(info, (480, 640))


@pytest.mark.parametrize(
    ("model", "d", "focal"),
    [
        ("plumb_bob", [0.1] * 3, 800.0),
        ("plumb_bob", [0.1] * 10_000, 800.0),
        ("plumb_bob", [np.nan] * 5, 800.0),
        ("plumb_bob", [], np.inf),
        ("equidistant", [], 800.0),
    ],
)
def test_camera_info_that_would_harm(model: str, d: list[float], focal: float) -> None:
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0)
    k = np.array([focal, 0, 639.5, 0, 800, 479.5, 0, 0, 1])
    info = SimpleNamespace(width=1280, height=960, roi=roi, k=k, d=d, distortion_model=model)
    with pytest.raises(FrameError, match=r"camera_info of .*(coefficients|calibrated)"):
        Lens.from_info(info, (480, 640))
