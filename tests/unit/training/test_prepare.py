"""Preparing data sets: git directories and folders, decoders, what is held out, the log."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from deeplab_rt.errors import DataError
from deeplab_rt.labels import load_label_set
from deeplab_rt.training.data import IGNORE, PREPARED, load_data_set
from deeplab_rt.training.decoders import (
    DamagedFileError,
    colour_pairs,
    ego_mask,
    lost_carriage_returns,
    nearest_colour,
    repair_png,
)
from deeplab_rt.training.prepare import list_items, main, prepare

ROAD, SKY = (128, 64, 128), (70, 130, 180)


def pair(folder: Path, split: str, number: int) -> None:
    """Photo and label colours side by side: sky above road above the camera's own car."""
    colours = np.zeros((64, 64, 3), np.uint8)
    colours[:30], colours[30:52] = SKY, ROAD
    photo = np.full((64, 64, 3), 40 + number, np.uint8)
    both = cv2.cvtColor(np.hstack([photo, colours]), cv2.COLOR_RGB2BGR)
    (folder / "cityscapes" / split).mkdir(parents=True, exist_ok=True)
    path = folder / "cityscapes" / split / f"{number}.jpg"
    cv2.imwrite(str(path), both, [cv2.IMWRITE_JPEG_QUALITY, 95])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for split, count in (("train", 3), ("val", 6)):
        for number in range(1, count + 1):
            pair(folder, split, number)
    return folder


def test_pairs_from_a_folder(source: Path, tmp_path: Path) -> None:
    log = prepare("cityscapes_pairs", source, tmp_path / "data", quiet=True)
    root = tmp_path / "data" / "cityscapes_pairs"
    assert json.loads((root / PREPARED).read_text())["splits"].keys() == {"train", "val"}
    train, val = log["splits"]["train"], log["splits"]["val"]
    assert (train["written"], train["held_out"]) == (3, 0)
    # N % 3 == 2 of val.
    assert (val["written"], val["held_out"]) == (4, 2)
    assert sorted(path.name for path in (root / "images" / "val").iterdir()) == [
        "1.jpg",
        "3.jpg",
        "4.jpg",
        "6.jpg",
    ]
    data = load_data_set("cityscapes_pairs", root, "val", load_label_set("road13").names)
    image, groups = data.read(0)
    assert image.shape == (256, 512, 3)
    names = [data.names[groups[row, 256]] for row in (20, 180, 250)]
    assert names == ["sky", "road", "ego"]
    with pytest.raises(DataError, match="exists; remove it"):
        prepare("cityscapes_pairs", source, tmp_path / "data", quiet=True)


def test_what_is_held_out_is_not_read(source: Path, tmp_path: Path) -> None:
    for number in (2, 5):
        (source / "cityscapes" / "val" / f"{number}.jpg").write_bytes(b"not an image")
    log = prepare("cityscapes_pairs", source, tmp_path, quiet=True)
    assert log["splits"]["val"]["undecodable"] == 0
    (source / "cityscapes" / "val" / "3.jpg").write_bytes(b"not an image")
    log = prepare("cityscapes_pairs", source, tmp_path / "again", quiet=True)
    assert log["splits"]["val"]["undecodable"] == 1


def test_items_by_index_and_without_a_label() -> None:
    names = [f"train/{i:02}/rgb.jpg" for i in range(11)]
    names += [f"train/{i:02}/labels.png" for i in range(10)]
    entry = {
        "images": "train/{}/rgb.jpg",
        "labels": "train/{}/labels.png",
        "held_out": {"index": 5, "from": 0},
    }
    items, held_out, alone = list_items(names, entry)
    assert [item.name for item in items] == ["01", "02", "03", "04", "06", "07", "08", "09"]
    assert (held_out, alone) == (3, 0)
    items, held_out, alone = list_items(names, {**entry, "held_out": {}})
    assert (len(items), held_out, alone) == (10, 0, 1)


def test_the_program(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cityscapes_pairs", str(source), "-o", str(tmp_path)]) == 0
    assert "val: 4 written, 2 held out and not read" in capsys.readouterr().out
    assert main(["cityscapes_pairs", str(tmp_path / "no"), "-o", str(tmp_path / "x")]) == 1
    assert "does not exist; expected a git directory" in capsys.readouterr().err
    assert main(["camvid", str(source), "-o", str(tmp_path)]) == 1
    assert "has no file like CamVid/train/{}.png" in capsys.readouterr().err
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"name": "mine", "splits": {}}))
    assert main([str(tmp_path / "mine.yaml"), str(source), "-o", str(tmp_path)]) == 1
    assert "how its source is laid out" in capsys.readouterr().err


def test_colours_beyond_the_tolerance_are_void() -> None:
    colours = np.array([[ROAD, (138, 70, 120), (160, 64, 128), (70, 130, 180)]], np.uint8)
    values = nearest_colour(colours, {0: ROAD, 10: SKY}, 30)
    assert values.tolist() == [[0, 0, IGNORE, 10]]
    exact = nearest_colour(colours, {0: ROAD, 10: SKY}, 0)
    assert exact.tolist() == [[0, IGNORE, IGNORE, 10]]


def test_ego_touches_the_lower_edge_and_is_no_border() -> None:
    black = np.zeros((100, 200), bool)
    black[85:, 20:180] = True  # the bonnet
    black[60:70, 90:110] = True  # an unlabelled thing
    black[:, :3] = True  # the border that rectification leaves
    mask = ego_mask(black)
    assert mask[90, 100] and mask[99, 150]
    assert not mask[65, 100]
    assert not mask[30, 1]


def test_a_damaged_pair_is_named() -> None:
    with pytest.raises(DamagedFileError):
        colour_pairs(b"\xff\xd8", b"", {"size": [1, 1]})


def test_lost_carriage_returns_are_put_back() -> None:
    repaired = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        label = rng.integers(0, 5, (160, 160), np.uint8)
        whole = cv2.imencode(".png", label)[1].tobytes()
        damaged = whole.replace(b"\r\n", b"\n")
        repaired += whole.count(b"\r\n") > 1  # the signature has one
        assert repair_png(damaged) == whole
    assert repaired > 2
    with pytest.raises(DamagedFileError, match="no lost CR explains"):
        repair_png(damaged[:60] + b"x" + damaged[61:])


def test_a_jpeg_that_lost_a_byte_is_refused() -> None:
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (120, 120, 3), np.uint8)
    image = cv2.imencode(".jpg", photo)[1].tobytes()
    label = cv2.imencode(".png", np.zeros((120, 120), np.uint8))[1].tobytes()
    label = label.replace(b"\r\n", b"\n")
    assert lost_carriage_returns(image, label, {})[0] == image
    middle = len(image) * 2 // 3
    with pytest.raises(DamagedFileError, match="lost bytes"):
        lost_carriage_returns(image[:middle] + image[middle + 1 :], label, {})
