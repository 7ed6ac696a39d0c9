"""Data sets: pairing, values, left-out files, and what is wrong with a folder."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from deeplab_rt.errors import DataError
from deeplab_rt.labels import load_label_set
from deeplab_rt.training.data import (
    IGNORE,
    PREPARED,
    load_data_set,
    read_description,
    shipped_data_sets,
)

NAMES = ("road", "car", "person")
DESCRIPTION = {
    "name": "mine",
    "splits": {
        "train": {"images": "images", "labels": "labels"},
        "val": {"images": "images", "labels": "labels", "leave_out": {"every": 3, "from": 2}},
    },
    "image_suffix": ".jpg",
    "label_suffix": "_ids.png",
    "values": {0: ["road"], 7: ["car", "person"]},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("images/a", "labels/a"):
        (tmp_path / name).mkdir(parents=True)
    for index in range(4):
        image = np.full((6, 8, 3), (0, 0, 50 * index), np.uint8)
        label = np.zeros((6, 8), np.uint8)
        label[:, 4:] = 7
        label[0] = 99
        cv2.imwrite(str(tmp_path / f"images/a/{index}.jpg"), image)
        cv2.imwrite(str(tmp_path / f"labels/a/{index}_ids.png"), label)
    describe(tmp_path)
    return tmp_path


def describe(folder: Path, **changes: object) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(DESCRIPTION | changes))
    return path


def test_files_are_paired_and_values_mapped(folder: Path) -> None:
    data = load_data_set(folder / "mine.yaml", folder, "train", NAMES)
    assert len(data) == 4
    assert data.class_ids == ((0,), (1, 2))
    assert data.names == ("road", "car|person")
    assert not data.is_one_to_one
    assert data.group_of_class[:3].tolist() == [0, 1, 1]
    image, groups = data.read(3)
    assert image.shape == (6, 8, 3)
    assert image[3, 3, 0] > 140  # RGB: red comes first
    assert image[3, 3, 2] < 10
    assert groups[1].tolist() == [0] * 4 + [1] * 4
    assert set(groups[0].tolist()) == {IGNORE}


def test_every_third_file_can_be_left_out(folder: Path) -> None:
    data = load_data_set(folder / "mine.yaml", folder, "val", NAMES)
    assert [path.name for path in data.images] == ["0.jpg", "1.jpg", "3.jpg"]
    assert [path.name for path in data.labels] == ["0_ids.png", "1_ids.png", "3_ids.png"]


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (
            "labels/a/2_ids.png",
            r"1 image file\(s\) without a label, the first .*2\.jpg; expected a/2_ids",
        ),
        ("images/a/1.jpg", r"1 label file\(s\) without a image, the first .*1_ids\.png"),
    ],
)
def test_unpaired_files_are_named(folder: Path, missing: str, message: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(DataError, match=message):
        load_data_set(folder / "mine.yaml", folder, "train", NAMES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": {0: ["street"]}}, "value 0 names the class 'street'; the label set has road"),
        ({"values": {300: ["road"]}}, "pixel value 300; expected 0 to 255"),
        ({"splits": {"test": {}}}, "no split 'train'; it has test"),
        ({"image_suffix": ".gif"}, r"has no file \*\.gif"),
        ({"splits": None}, "expected the keys name, splits"),
    ],
)
def test_bad_descriptions(folder: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data_set(describe(folder, **changes), folder, "train", NAMES)


def test_missing_descriptions_and_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'nowhere' is unknown; expected one of camvid"):
        load_data_set("nowhere", tmp_path, "train", NAMES)
    with pytest.raises(DataError, match="does not exist"):
        load_data_set(tmp_path / "no.yaml", tmp_path, "train", NAMES)
    with pytest.raises(DataError, match="image folder .* does not exist"):
        load_data_set("camvid", tmp_path, "train", load_label_set("camvid11").names)


def test_bad_images(folder: Path) -> None:
    data = load_data_set(folder / "mine.yaml", folder, "train", NAMES)
    cv2.imwrite(str(data.labels[0]), np.zeros((6, 9), np.uint8))
    with pytest.raises(DataError, match="is 9x6 and its image 8x6"):
        data.read(0)
    cv2.imwrite(str(data.labels[1]), np.zeros((6, 8, 3), np.uint8))
    with pytest.raises(DataError, match="expected one byte a pixel"):
        data.read(1)
    data.images[2].write_bytes(b"no")
    with pytest.raises(DataError, match="does not decode"):
        data.read(2)


def test_overlapping_groups_cannot_be_measured(folder: Path) -> None:
    values = {0: ["road", "car"], 7: ["car", "person"]}
    data = load_data_set(describe(folder, values=values), folder, "train", NAMES)
    with pytest.raises(DataError, match="a class is in both"):
        _ = data.group_of_class


def test_a_union_that_contains_another_group_teaches_but_is_not_measured(folder: Path) -> None:
    values = {0: ["road", "car"], 7: ["car"]}
    data = load_data_set(describe(folder, values=values), folder, "train", NAMES)
    assert data.class_ids == ((0, 1), (1,))
    assert data.measured[:2].tolist() == [IGNORE, 1]
    assert data.group_of_class[:3].tolist() == [IGNORE, 1, IGNORE]


def test_values_of_the_same_classes_are_one_group(folder: Path) -> None:
    values = {0: ["road"], 7: ["car"], 99: ["car"]}
    data = load_data_set(describe(folder, values=values), folder, "train", NAMES)
    assert data.names == ("road", "car")
    assert set(data.read(0)[1][0].tolist()) == {1}


def test_a_label_set_may_lack_optional_classes(folder: Path) -> None:
    values = {0: ["road", "verge"], 7: ["verge"]}
    data = load_data_set(
        describe(folder, values=values, optional=["verge"]), folder, "train", NAMES
    )
    assert data.class_ids == ((0,),)
    assert set(data.read(0)[1][1].tolist()) == {0, IGNORE}


def test_a_few_images_of_a_set(folder: Path) -> None:
    data = load_data_set(folder / "mine.yaml", folder, "train", NAMES)
    assert [path.name for path in data.every(2).images] == ["0.jpg", "3.jpg"]
    assert data.every(9) is data


def test_prepared_files_are_not_left_out_again(folder: Path) -> None:
    (folder / PREPARED).write_text('{"held_out_absent": true}')
    assert len(load_data_set(folder / "mine.yaml", folder, "val", NAMES)) == 4


@pytest.mark.parametrize("labels", ["camvid11", "road13"])
@pytest.mark.parametrize("name", shipped_data_sets())
def test_shipped_data_sets_fit_their_label_sets(name: str, labels: str, tmp_path: Path) -> None:
    names = load_label_set(labels).names
    content = read_description(name)
    for split in content["splits"].values():
        for kind in ("images", "labels"):
            (tmp_path / split[kind]).mkdir(parents=True, exist_ok=True)
            suffix = content[f"{kind[:-1]}_suffix"]
            (tmp_path / split[kind] / f"x{suffix}").touch()
    for split in content["splits"]:
        data = load_data_set(name, tmp_path, split, names)
        measured = {int(g) for g in data.group_of_class if g != IGNORE}
        assert measured == {int(g) for g in data.measured if g != IGNORE}
        assert data.licence
