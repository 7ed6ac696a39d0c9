"""The rendered street: repeatable, its labels and its geometry exact."""

from __future__ import annotations

import numpy as np
import pytest

from deeplab_rt.errors import StreamError
from deeplab_rt.labels import LabelSet
from deeplab_rt.streams.street import StreetSource


@pytest.fixture(scope="module")
def street() -> StreetSource:
    return StreetSource((240, 320), frames=3)


def ground_under(street: StreetSource, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the rays through the pixel centres meet the plane of the road: x, y, and whether they do."""
    camera = street.camera
    v, u = np.mgrid[: camera.height, : camera.width].astype(float)
    rays = np.stack([u.ravel(), v.ravel(), np.ones(u.size)])
    # At yaw 0: is_road takes points of the car's own frame.
    ahead, left, up = camera.rotation().T @ np.linalg.inv(camera.matrix) @ rays
    down = up < -1e-6
    scale = np.where(down, camera.height_m / np.where(down, -up, 1), 0)
    return (scale * ahead).reshape(u.shape), (scale * left).reshape(u.shape), down.reshape(u.shape)


def test_frames_follow_the_protocol(street: StreetSource) -> None:
    frames = list(street)
    assert [frame.index for frame in frames] == [0, 1, 2] and street.total == 3
    assert [frame.stamp_ns for frame in frames] == [0, 33_333_333, 66_666_667]
    assert all(frame.image.shape == (240, 320, 3) for frame in frames)
    assert all(frame.image.dtype == np.uint8 for frame in frames)
    assert not np.array_equal(frames[0].image, frames[2].image)


def test_the_same_seed_and_index_give_the_same_frame(street: StreetSource) -> None:
    other = StreetSource((240, 320), frames=99)
    for one, two in zip(street.render(41), other.render(41), strict=True):
        assert np.array_equal(one, two)
    assert np.array_equal(street.labels(41), other.labels(41))
    assert not np.array_equal(StreetSource((240, 320), seed=1).labels(41), other.labels(41))


def test_every_pixel_has_a_label_and_all_classes_appear(
    street: StreetSource, camvid11: LabelSet
) -> None:
    seen: set[int] = set()
    for index in range(0, 300, 12):
        labels = street.labels(index)
        assert labels.min() >= 1 and labels.max() <= len(camvid11)
        seen |= set(np.unique(labels).tolist())
    assert {camvid11.names[label - 1] for label in seen} == set(camvid11.names)


@pytest.mark.parametrize("index", [0, 55, 140, 290])
def test_road_labels_are_where_the_ground_is_road(
    street: StreetSource, camvid11: LabelSet, index: int
) -> None:
    labels = street.labels(index)
    x, y, down = ground_under(street, index)
    near = down & (x < 60)
    road = street.is_road(index, x, y)
    labelled = labels == camvid11.index("road") + 1
    # Never road where the ground is not; and what is missing is hidden by something that stands there.
    assert not (labelled & near & ~road).any()
    hidden = labels[road & near & ~labelled]
    ground = [camvid11.index(name) + 1 for name in ("sky", "sidewalk")]
    assert not np.isin(hidden, ground).any()
    assert labelled[near & road].mean() > 0.5


def test_side_streets_are_road(street: StreetSource) -> None:
    # Beyond the houses' line only side streets are road, and the drive passes some.
    ahead = np.linspace(0, 120, 2401)
    for side in (-1, 1):
        beyond = np.full(ahead.shape, side * 20.0)
        found = [street.is_road(index, ahead, beyond) for index in (0, 450, 900)]
        assert any(one.any() for one in found) and not all(one.all() for one in found)


@pytest.mark.parametrize("size", [(16, 16), (101, 77), (33, 640)])
def test_any_size(size: tuple[int, int]) -> None:
    image, labels = StreetSource(size).render(5)
    assert image.shape == (*size, 3) and labels.shape == size and labels.min() >= 1


@pytest.mark.parametrize("size", [(0, 640), (480, 5000)])
def test_impossible_size_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(StreamError, match="16 to 4096 pixels a side"):
        StreetSource(size)
