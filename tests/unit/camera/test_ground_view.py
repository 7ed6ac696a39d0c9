"""The drivable mask on the ground, against scenes whose truth is exact."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_rt.camera.ground import Lens, Mounting, pixels_of, rotation_of
from deeplab_rt.camera.ground_view import FREE, OCCUPIED, UNKNOWN, Area, Bearings, GroundView
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from tests.unit.camera.scene import Scene

PINHOLE = Lens((480, 640), (544.0, 0, 319.5, 0, 544.0, 239.5, 0, 0, 1))


def area(resolution: float, length: float, width: float) -> Area:
    """Ahead of the origin."""
    return Area.seen_by(Mounting.from_angles(1.0, 0.0), resolution, length, width)


def masks_of(labels: np.ndarray, label_set: LabelSet) -> Masks:
    return Masks(labels, label_set.drivable_lut[labels], label_set.objects_lut[labels])


def centres(area: Area) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the middle of every cell."""
    x = area.x + (np.arange(area.columns) + 0.5) * area.resolution
    y = area.y + (np.arange(area.rows) + 0.5) * area.resolution
    return tuple(np.meshgrid(x, y))  # type: ignore[return-value]


def turned(mounting: Mounting, yaw_deg: float, x: float, y: float) -> Mounting:
    """The same camera at another place, turned to the left."""
    half = np.radians(yaw_deg) / 2
    rotation = mounting.matrix @ rotation_of(0, 0, np.sin(half), np.cos(half)).T
    return Mounting((x, y, mounting.position[2]), tuple(rotation.ravel()))


MOUNTINGS = {
    "ahead": Mounting.from_angles(1.3, 1.7),
    "rolled left": Mounting.from_angles(1.3, 5.0, -15.0),
    "rolled right": Mounting.from_angles(1.3, 5.0, 40.0),
    "upside down": Mounting.from_angles(1.3, 5.0, 180.0),
    "behind": turned(Mounting.from_angles(1.3, 8.0), 180.0, -1.0, 0.3),
    "to the left": turned(Mounting.from_angles(1.5, 12.0, 8.0), 60.0, 1.5, 0.8),
}


SCENES = {
    "empty": Scene(-1.5, 5.0),
    "narrow": Scene(0.4, 1.9),
    "cars": Scene(-1.0, 4.5, ((9.0, 13.0, -0.9, 0.9, 1.5), (6.0, 10.0, -4.2, -2.4, 1.5))),
    "cyclist": Scene(0.0, 4.0, ((8.0, 9.8, 1.8, 2.4, 1.8),)),
}


BEHIND = Scene(-1.0, 4.5, ((-9.0, -6.0, -0.9, 0.9, 1.5), (3.0, 5.0, 2.0, 3.4, 1.5)))


@pytest.mark.parametrize("where", MOUNTINGS)
@pytest.mark.parametrize("name", [*SCENES, "behind"])
def test_scene_of_known_geometry(camvid11: LabelSet, name: str, where: str) -> None:
    scene, mounting = {**SCENES, "behind": BEHIND}[name], MOUNTINGS[where]
    masks = masks_of(scene.labels(PINHOLE, mounting, camvid11), camvid11)
    ground = Area.seen_by(mounting, 0.2, 20.0, 16.0)
    grid = GroundView(masks, PINHOLE, mounting).grid(ground)
    x, y = centres(ground)
    # A cell counts as road or as off the road if all of it is.
    half = ground.resolution / 2
    corners = [scene.is_road(x + a, y + b) for a in (-half, half) for b in (-half, half)]
    road, off = np.all(corners, axis=0), ~np.any(corners, axis=0)
    assert (grid == FREE).any()
    assert not (grid[off] == FREE).any()
    occupied_by = np.zeros(x.shape, bool)
    for x0, x1, y0, y1, _ in scene.boxes:
        occupied_by |= (x > x0) & (x < x1) & (y > y0) & (y < y1)
    assert not (grid[occupied_by] == FREE).any()
    # Where road is seen and nothing stands on it, it is free, but for the cells that a box touches.
    distance = np.hypot(x - mounting.position[0], y - mounting.position[1])
    near = (distance < 10) & (grid != UNKNOWN) & road & ~occupied_by
    assert (grid[near] == FREE).mean() > 0.9
    # The kerb bounds the road: an occupied cell, and beyond it nothing is claimed.
    assert (grid == OCCUPIED).any()


@pytest.mark.parametrize("name", ["cars", "cyclist"])
def test_face_of_a_box_is_where_it_is(camvid11: LabelSet, name: str) -> None:
    scene, mounting, ground = SCENES[name], MOUNTINGS["ahead"], area(0.2, 20.0, 16.0)
    masks = masks_of(scene.labels(PINHOLE, mounting, camvid11), camvid11)
    grid = GroundView(masks, PINHOLE, mounting).grid(ground)
    x, y = centres(ground)
    for x0, _, y0, y1, _ in scene.boxes:
        face = (np.abs(x - x0) < 0.3) & (y > y0 + 0.2) & (y < y1 - 0.2)
        assert (grid[face] == OCCUPIED).any()


@pytest.mark.parametrize("where", MOUNTINGS)
@pytest.mark.parametrize("name", [*SCENES, "behind"])
def test_free_ranges_are_those_of_the_scene(camvid11: LabelSet, name: str, where: str) -> None:
    scene, mounting = {**SCENES, "behind": BEHIND}[name], MOUNTINGS[where]
    masks = masks_of(scene.labels(PINHOLE, mounting, camvid11), camvid11)
    bearings = Bearings.around(mounting, 720, 0.1, 15.0)
    ranges = GroundView(masks, PINHOLE, mounting).ranges(bearings)
    angles = bearings.first + np.arange(720) * bearings.step
    # Of a bearing and its neighbours; a pixel at distance r covers r^2 / (height x focal length).
    truth = scene.free_range(angles + np.linspace(-1.5, 1.5, 31)[:, None] * bearings.step)
    known = np.isfinite(ranges)
    reach = np.minimum(ranges, 15.0) + np.hypot(*mounting.position[:2])
    slack = 0.1 + 2 * reach**2 / (mounting.position[2] * 544)
    assert known.sum() > 30
    assert (ranges[known] >= truth.min(axis=0)[known] - slack[known]).all()
    # What the camera does not see (below it, behind a box) it cannot know to be nearer.
    middle = scene.free_range(angles).clip(max=1e4)[:, None] * np.stack(
        [np.cos(angles), np.sin(angles)], -1
    )
    seen = pixels_of(middle, PINHOLE, mounting) < 480 * 640
    assert (known & seen).sum() >= 20
    assert (ranges <= truth.max(axis=0) + slack)[known & seen].all()
    clear = np.isposinf(ranges)
    assert (truth.max(axis=0)[clear] > 15.0).all()
    assert not (ranges <= 0).any()


def test_free_ranges_say_what_is_not_known() -> None:
    mounting = Mounting.from_angles(1.6, 10.0)
    lens = Lens((480, 640), (400.0, 0, 320, 0, 400, 240, 0, 0, 1))  # sees 39 degrees to either side
    everything = Masks(*(np.full(lens.size, value, np.uint8) for value in (4, 255, 0)))
    bearings = Bearings.around(mounting, 360, 0.1, 20.0)
    angles = np.degrees(bearings.first + np.arange(360) * bearings.step)
    ranges = GroundView(everything, lens, mounting).ranges(bearings)
    assert np.isposinf(ranges[np.abs(angles) < 35]).all()
    assert np.isnan(ranges[np.abs(angles) > 40]).all()
    # A gap of which nothing is known, in the middle of the view: no infinity behind it.
    ego = np.zeros(lens.size, bool)
    ego[300:310, 300:340] = True
    gap = GroundView(everything, lens, mounting, ego).ranges(bearings)
    assert np.isnan(gap[np.abs(angles) < 2]).all()
    assert np.isposinf(gap[(np.abs(angles) > 5) & (np.abs(angles) < 35)]).all()


def test_vehicle_itself_is_unknown_and_no_obstacle() -> None:
    """The bonnet fills the lower quarter of the image, and the network takes it for a vehicle."""
    mounting = Mounting.from_angles(1.6, 10.0)
    lens = Lens((480, 640), (400.0, 0, 320, 0, 400, 240, 0, 0, 1))
    masks = Masks(*(np.full(lens.size, value, np.uint8) for value in (4, 255, 0)))
    masks.objects[360:] = 9
    masks.drivable[360:] = 0
    ground = area(0.5, 12.0, 6.0)
    x, y = centres(ground)
    seen = (np.abs(y) < 0.5 * x) & (x > 5)
    blind = GroundView(masks, lens, mounting).grid(ground)
    assert (blind == OCCUPIED).any()
    ego = np.zeros(lens.size, bool)
    ego[360:] = True
    view = GroundView(masks, lens, mounting, ego)
    grid = view.grid(ground)
    assert not (grid == OCCUPIED).any()
    assert (grid[seen] == FREE).all()
    assert (grid[x < 2.5] == UNKNOWN).all()  # under the bonnet
    assert len(view.contacts) == 0


@settings(max_examples=40, deadline=None)
@given(
    pitch=st.floats(-5, 60),
    roll=st.floats(-180, 180),
    yaw=st.floats(-180, 180),
    x=st.floats(-3, 3),
    y=st.floats(-3, 3),
    height=st.floats(0.5, 4),
)
def test_nothing_is_free_that_is_not_drivable_whatever_the_pose(
    camvid11: LabelSet, pitch: float, roll: float, yaw: float, x: float, y: float, height: float
) -> None:
    mounting = turned(Mounting.from_angles(height, pitch, roll), yaw, x, y)
    scene = Scene(-1.0, 4.5, ((9.0, 13.0, -0.9, 0.9, 1.5), (-8.0, -5.0, -4.2, -2.4, 1.5)))
    masks = masks_of(scene.labels(PINHOLE, mounting, camvid11), camvid11)
    view = GroundView(masks, PINHOLE, mounting)
    ground = Area.seen_by(mounting, 0.25, 12.0, 10.0)
    grid = view.grid(ground)
    cx, cy = centres(ground)
    half = ground.resolution / 2
    off = ~np.any(
        [scene.is_road(cx + a, cy + b) for a in (-half, half) for b in (-half, half)], axis=0
    )
    for x0, x1, y0, y1, _ in scene.boxes:
        off |= (cx > x0) & (cx < x1) & (cy > y0) & (cy < y1)
    assert not (grid[off] == FREE).any()
    assert grid.shape == (ground.rows, ground.columns)
    ranges = view.ranges(Bearings.around(mounting, 360, 0.1, 10.0))
    assert ((ranges >= 0.1 - 1e-6) | np.isnan(ranges)).all()


def test_area_lies_along_the_axes_of_its_frame() -> None:
    mounting = Mounting.from_angles(1.5, 10.0)
    assert Area.seen_by(mounting, 0.5, 20.0, 10.0) == Area(0.0, -5.0, 0.5, 20, 40)
    rear = Area.seen_by(turned(mounting, 180.0, -1.0, 0.0), 0.5, 20.0, 10.0)
    assert (rear.x, rear.y) == pytest.approx((-21.0, -5.0))
    assert (rear.rows, rear.columns) == (20, 40)
    left = Area.seen_by(turned(mounting, 90.0, 0.0, 1.0), 0.5, 20.0, 10.0)
    assert (left.x, left.y) == pytest.approx((-5.0, 1.0))
    assert (left.rows, left.columns) == (40, 20)


def plane(
    ground_area: Area, drivable: np.ndarray, objects: np.ndarray, lens: Lens, mounting: Mounting
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
    ground = rays @ mounting.matrix
    down = ground[:, 2] < -1e-6
    scale = np.where(down, -mounting.position[2] / np.where(down, ground[:, 2], 1), 0)
    rows, columns = ground_area.rows, ground_area.columns
    column = np.floor((ground[:, 0] * scale - ground_area.x) / ground_area.resolution).astype(int)
    row = np.floor((ground[:, 1] * scale - ground_area.y) / ground_area.resolution).astype(int)
    inside = down & (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    index = np.where(inside, row * columns + column, 0)
    shape = (height, width)
    drivable_mask = np.where(inside & drivable.ravel()[index], 255, 0).astype(np.uint8)
    object_mask = np.where(inside & objects.ravel()[index], 9, 0).astype(np.uint8)
    return Masks(np.ones(shape, np.uint8), drivable_mask.reshape(shape), object_mask.reshape(shape))


MATRIX = (400.0, 0, 320, 0, 400, 240, 0, 0, 1)
LENSES = {
    "pinhole": Lens((480, 640), MATRIX),
    "plumb_bob": Lens((480, 640), MATRIX, (-0.28, 0.07, 0.001, -0.0005, 0.0)),
    "rational": Lens((480, 640), MATRIX, (0.4, 0.1, 0.0005, 0.0, 0.01, 0.7, 0.2, 0.03)),
    "fisheye": Lens(
        (480, 640), (230.0, 0, 320, 0, 230, 240, 0, 0, 1), (0.02, -0.01, 0.003, 0), True
    ),
}


@pytest.mark.parametrize("kind", LENSES)
def test_pattern_on_flat_ground_comes_back_through_every_lens(kind: str) -> None:
    lens, ground = LENSES[kind], area(0.5, 8.0, 6.0)
    mounting = Mounting.from_angles(1.6, 20.0)
    rows, columns = ground.rows, ground.columns
    drivable = np.zeros((rows, columns), bool)
    drivable[4:8] = True  # a lane one metre to either side
    masks = plane(ground, drivable, np.zeros_like(drivable), lens, mounting)
    grid = GroundView(masks, lens, mounting).grid(ground)
    seen = grid != UNKNOWN
    assert (grid[4:8][seen[4:8]] == FREE).mean() > 0.95
    assert seen[4:8, 6:-1].mean() > 0.9
    assert not (grid[drivable == 0] == FREE).any()
    assert (grid[3, 8:] == OCCUPIED).mean() > 0.7  # the first cell beside the lane
    assert (grid[:2] == UNKNOWN).mean() > 0.9  # what lies behind that


def test_object_is_occupied_where_it_begins_and_hides_what_is_behind() -> None:
    lens, ground = LENSES["pinhole"], area(0.5, 12.0, 6.0)
    mounting = Mounting.from_angles(1.6, 10.0)
    rows, columns = ground.rows, ground.columns
    drivable = np.ones((rows, columns), bool)
    objects = np.zeros_like(drivable)
    objects[5:7, 12:20] = True  # its picture covers 6 to 10 m
    drivable[objects] = False
    masks = plane(ground, drivable, objects, lens, mounting)
    grid = GroundView(masks, lens, mounting).grid(ground)
    assert (grid[5:7, 12] == OCCUPIED).all()
    assert (grid[5:7, 15:19] == UNKNOWN).all()
    assert (grid[5:7, 21:23] == FREE).all()  # road that is seen beyond it
    assert (grid[5:7, 8:11] == FREE).all()


def test_outside_the_picture_is_unknown() -> None:
    lens, ground = LENSES["pinhole"], area(0.5, 12.0, 30.0)
    everything = Masks(*(np.full(lens.size, value, np.uint8) for value in (4, 255, 0)))
    grid = GroundView(everything, lens, Mounting.from_angles(1.6, 10.0)).grid(ground)
    x, y = centres(ground)
    outside = np.abs(y) > x  # 400 pixels of focal length see 320 to either side
    assert (grid[outside] == UNKNOWN).all()
    assert (grid[:, 0] == UNKNOWN).all()  # the blind spot in front of the vehicle
    assert (grid[(np.abs(y) < 0.5 * x) & (x > 5)] == FREE).all()


def test_folded_rays_of_a_strong_lens_are_not_seen() -> None:
    """Outside its view r (1 + k1 r^2) comes back into the picture; those pixels show other points."""
    lens = Lens((480, 640), MATRIX, (-0.3, 0.0, 0.0, 0.0))
    everything = Masks(*(np.full(lens.size, value, np.uint8) for value in (4, 255, 0)))
    ground = area(0.5, 12.0, 60.0)
    grid = GroundView(everything, lens, Mounting.from_angles(1.6, 10.0)).grid(ground)
    x, y = centres(ground)
    assert (grid[np.abs(y) > 1.2 * x + 1] == UNKNOWN).all()
