"""The rendered street: repeatable, every pixel labelled, and what the package ships of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deeplab_rt.camera.calibration import read_calibration
from deeplab_rt.labels import LabelSet
from deeplab_rt.streams.sources import open_source
from deeplab_rt.streams.street import CALIBRATION, FOLDER, LABELS, VIDEO, street_labels
from tools.street.__main__ import EVERY, RATE, SEED, write
from tools.street.street import Street


@pytest.fixture(scope="module")
def street() -> Street:
    return Street((240, 320))


def test_the_same_seed_and_index_give_the_same_frame(street: Street) -> None:
    other = Street((240, 320))
    for one, two in zip(street.render(41), other.render(41), strict=True):
        assert np.array_equal(one, two)
    assert not np.array_equal(street.render(41)[1], street.render(44)[1])
    assert not np.array_equal(Street((240, 320), seed=1).render(41)[1], other.render(41)[1])


def test_every_pixel_has_a_label_and_all_classes_appear(street: Street, camvid11: LabelSet) -> None:
    seen: set[int] = set()
    for index in range(0, 300, 12):
        labels = street.render(index)[1]
        assert labels.min() >= 1 and labels.max() <= len(camvid11)
        seen |= set(np.unique(labels).tolist())
    assert {camvid11.names[label - 1] for label in seen} == set(camvid11.names)


@pytest.mark.parametrize("size", [(16, 16), (101, 77), (33, 640)])
def test_any_size(size: tuple[int, int]) -> None:
    image, labels = Street(size).render(5)
    assert image.shape == (*size, 3) and labels.shape == size and labels.min() >= 1


def test_the_shipped_drive_is_what_the_tool_renders() -> None:
    """Another OpenCV may round a few pixels at edges otherwise; another street would fail."""
    street, truth = Street(seed=SEED, fps=RATE), street_labels()
    assert sorted(truth) == list(range(0, 300, EVERY))
    with open_source("street") as source:
        assert source.total == 300 and source.fps == RATE
        frames = {frame.index: frame.image for frame in source}
    assert len(frames) == 300
    for index in (0, 135, 295):
        image, labels = street.render(index)
        assert (labels != truth[index]).mean() < 0.005
        assert np.abs(image.astype(int) - frames[index]).mean() < 6
    assert np.abs(frames[0].astype(int) - frames[135]).mean() > 20


def test_the_shipped_drive_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 2_000_000


def test_its_files_are_written_together(tmp_path: Path) -> None:
    street = Street((48, 64))
    write(tmp_path, street, frames=7)
    assert {path.name for path in tmp_path.iterdir()} == {VIDEO, LABELS, CALIBRATION}
    with np.load(tmp_path / LABELS) as content:
        assert content["frames"].tolist() == [0, 5]
        assert np.array_equal(content["labels"][1], street.render(5)[1])
    with open_source(tmp_path / VIDEO) as source:
        assert len(list(source)) == 7

    class Info:
        """Stands in for a CameraInfo."""

    info = Info()
    read_calibration(tmp_path / CALIBRATION, info)
    assert vars(info)["k"] == pytest.approx(street.camera.matrix.ravel())
    assert vars(info)["p"][:3] == pytest.approx(street.camera.matrix[0])
