"""The drivable mask on the ground, against scenes whose truth is exact."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_rt.camera.ground_grid import (
    FREE,
    OCCUPIED,
    UNKNOWN,
    Extent,
    Lens,
    Mounting,
    drivable_grid,
    mounting_from_pose,
    rotation_of,
)
from deeplab_rt.errors import FrameError
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from tests.unit.camera.scene import Scene

EXTENT = Extent(0.2, 20.0, 16.0)


def masks_of(labels: np.ndarray, label_set: LabelSet) -> Masks:
    return Masks(labels, label_set.drivable_lut[labels], label_set.objects_lut[labels])


def centres(extent: Extent) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the middle of every cell."""
    rows, columns = extent.shape
    x = (np.arange(columns) + 0.5) * extent.resolution
    y = (np.arange(rows) + 0.5) * extent.resolution - extent.width / 2
    return tuple(np.meshgrid(x, y))  # type: ignore[return-value]


SCENES = {
    "empty": Scene(-1.5, 5.0),
    "narrow": Scene(0.4, 1.9),
    "cars": Scene(-1.0, 4.5, ((9.0, 13.0, -0.9, 0.9, 1.5), (6.0, 10.0, -4.2, -2.4, 1.5))),
    "cyclist": Scene(0.0, 4.0, ((8.0, 9.8, 1.8, 2.4, 1.8),)),
}


@pytest.mark.parametrize("name", SCENES)
def test_scene_of_known_geometry(camvid11: LabelSet, name: str) -> None:
    scene, lens = SCENES[name], Lens((480, 640), (544.0, 0, 319.5, 0, 544.0, 239.5, 0, 0, 1))
    mounting = Mounting.from_pitch(1.3, 1.7)
    masks = masks_of(scene.labels(lens, mounting, camvid11), camvid11)
    grid = drivable_grid(masks, lens, mounting, EXTENT)
    x, y = centres(EXTENT)
    # A cell counts as road or as off the road if all of it is.
    half = EXTENT.resolution / 2
    corners = [scene.is_road(x + a, y + b) for a in (-half, half) for b in (-half, half)]
    road, off = np.all(corners, axis=0), ~np.any(corners, axis=0)
    assert (grid == FREE).sum() > 500
    assert not (grid[off] == FREE).any()
    occupied_by = np.zeros(x.shape, bool)
    for x0, x1, y0, y1, _ in scene.boxes:
        occupied_by |= (x > x0) & (x < x1) & (y > y0) & (y < y1)
    assert not (grid[occupied_by] == FREE).any()
    # Where road is seen and nothing stands on it, it is free, but for the cells that a box touches.
    near = (x < 10) & (grid != UNKNOWN) & road & ~occupied_by
    assert (grid[near] == FREE).mean() > 0.9
    # The kerb bounds the road: an occupied cell, and beyond it nothing is claimed.
    assert (grid == OCCUPIED).any()
    for x0, _, y0, y1, _ in scene.boxes:  # the face of a box is where it is
        face = (np.abs(x - x0) < 0.3) & (y > y0 + 0.2) & (y < y1 - 0.2)
        assert (grid[face] == OCCUPIED).any()


def plane(
    extent: Extent, drivable: np.ndarray, objects: np.ndarray, lens: Lens, mounting: Mounting
) -> Masks:
    """Masks of flat ground on which cells are drivable or objects, drawn by another way than the
    grid's own: every pixel's ray is cut with the ground.
    """
    height, width = lens.size
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).reshape(-1, 1, 2)
    matrix, distortion = np.array(lens.matrix).reshape(3, 3), np.array(lens.distortion)
    undistort = cv2.fisheye.undistortPoints if lens.fisheye else cv2.undistortPoints
    rays = undistort(pixels.astype(float), matrix, distortion)
    rays = np.column_stack([rays.reshape(-1, 2), np.ones(height * width)])
    ground = rays @ np.array(mounting.rotation).reshape(3, 3)
    down = ground[:, 2] < -1e-6
    scale = np.where(down, -mounting.height / np.where(down, ground[:, 2], 1), 0)
    column = np.floor(ground[:, 0] * scale / extent.resolution).astype(int)
    row = np.floor((ground[:, 1] * scale + extent.width / 2) / extent.resolution).astype(int)
    rows, columns = extent.shape
    inside = down & (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    index = np.where(inside, row * columns + column, 0)
    shape = (height, width)
    drivable_mask = np.where(inside & drivable.ravel()[index], 255, 0).astype(np.uint8)
    object_mask = np.where(inside & objects.ravel()[index], 9, 0).astype(np.uint8)
    return Masks(np.ones(shape, np.uint8), drivable_mask.reshape(shape), object_mask.reshape(shape))


PINHOLE = (400.0, 0, 320, 0, 400, 240, 0, 0, 1)
LENSES = {
    "pinhole": Lens((480, 640), PINHOLE),
    "plumb_bob": Lens((480, 640), PINHOLE, (-0.28, 0.07, 0.001, -0.0005, 0.0)),
    "rational": Lens((480, 640), PINHOLE, (0.4, 0.1, 0.0005, 0.0, 0.01, 0.7, 0.2, 0.03)),
    "fisheye": Lens(
        (480, 640), (230.0, 0, 320, 0, 230, 240, 0, 0, 1), (0.02, -0.01, 0.003, 0), True
    ),
}


@pytest.mark.parametrize("kind", LENSES)
def test_pattern_on_flat_ground_comes_back_through_every_lens(kind: str) -> None:
    lens, extent = LENSES[kind], Extent(0.5, 8.0, 6.0)
    mounting = Mounting.from_pitch(1.6, 20.0)
    rows, columns = extent.shape
    drivable = np.zeros((rows, columns), bool)
    drivable[4:8] = True  # a lane one metre to either side
    masks = plane(extent, drivable, np.zeros_like(drivable), lens, mounting)
    grid = drivable_grid(masks, lens, mounting, extent)
    seen = grid != UNKNOWN
    assert (grid[4:8][seen[4:8]] == FREE).mean() > 0.95
    assert seen[4:8, 6:-1].mean() > 0.9
    assert not (grid[drivable == 0] == FREE).any()
    assert (grid[3, 8:] == OCCUPIED).mean() > 0.7  # the first cell beside the lane
    assert (grid[:2] == UNKNOWN).mean() > 0.9  # what lies behind that


def test_object_is_occupied_where_it_begins_and_hides_what_is_behind() -> None:
    lens, extent = LENSES["pinhole"], Extent(0.5, 12.0, 6.0)
    mounting = Mounting.from_pitch(1.6, 10.0)
    rows, columns = extent.shape
    drivable = np.ones((rows, columns), bool)
    objects = np.zeros_like(drivable)
    objects[5:7, 12:20] = True  # its picture covers 6 to 10 m
    drivable[objects] = False
    masks = plane(extent, drivable, objects, lens, mounting)
    grid = drivable_grid(masks, lens, mounting, extent)
    assert (grid[5:7, 12] == OCCUPIED).all()
    assert (grid[5:7, 15:19] == UNKNOWN).all()
    assert (grid[5:7, 21:23] == FREE).all()  # road that is seen beyond it
    assert (grid[5:7, 8:11] == FREE).all()


def test_outside_the_picture_is_unknown() -> None:
    lens, extent = LENSES["pinhole"], Extent(0.5, 12.0, 30.0)
    everything = Masks(*(np.full(lens.size, value, np.uint8) for value in (4, 255, 0)))
    grid = drivable_grid(everything, lens, Mounting.from_pitch(1.6, 10.0), extent)
    x, y = centres(extent)
    outside = np.abs(y) > x  # 400 pixels of focal length see 320 to either side
    assert (grid[outside] == UNKNOWN).all()
    assert (grid[:, 0] == UNKNOWN).all()  # the blind spot in front of the vehicle
    assert (grid[(np.abs(y) < 0.5 * x) & (x > 5)] == FREE).all()


def test_folded_rays_of_a_strong_lens_are_not_seen() -> None:
    """Outside its view r (1 + k1 r^2) comes back into the picture; those pixels show other points."""
    lens = Lens((480, 640), PINHOLE, (-0.3, 0.0, 0.0, 0.0))
    everything = Masks(*(np.full(lens.size, value, np.uint8) for value in (4, 255, 0)))
    extent = Extent(0.5, 12.0, 60.0)
    grid = drivable_grid(everything, lens, Mounting.from_pitch(1.6, 10.0), extent)
    x, y = centres(extent)
    assert (grid[np.abs(y) > 1.2 * x + 1] == UNKNOWN).all()


@settings(max_examples=30, deadline=None)
@given(
    pitch=st.floats(-20, 80),
    yaw=st.floats(-3.1, 3.1),
    x=st.floats(-5, 5),
    y=st.floats(-5, 5),
    height=st.floats(0.2, 5),
)
def test_pose_from_a_transform(pitch: float, yaw: float, x: float, y: float, height: float) -> None:
    level = np.array(Mounting.from_pitch(height, pitch).rotation).reshape(3, 3)
    sin, cos = np.sin(yaw), np.cos(yaw)
    rotation = level @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    translation = -rotation @ np.array([x, y, height])
    mounting, pose = mounting_from_pose(rotation, translation)
    assert mounting.height == pytest.approx(height)
    assert np.allclose(mounting.rotation, level.ravel(), atol=1e-9)
    assert np.allclose(pose, (x, y, yaw))


def test_camera_below_the_ground() -> None:
    with pytest.raises(FrameError, match=r"-2\.00 m above the ground"):
        mounting_from_pose(np.eye(3), np.array([0.0, 0.0, 2.0]))


def test_rotation_of_a_quaternion() -> None:
    half = np.sqrt(0.5)
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
