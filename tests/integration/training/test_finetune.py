"""A shipped model is the start of one's own: twenty frames, two classes, better than from ImageNet."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from deeplab_rt.models import DEFAULT_MODEL
from deeplab_rt.training.run import train

SIZE = (224, 288)
FRAMES = 20


@pytest.fixture(scope="module")
def frames(camvid_val: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames that no shipped model was trained on: every fifth to train on, others to validate."""
    folder = tmp_path_factory.mktemp("frames")
    lane, movers = 3, (8, 9, 10)  # CamVid's road; its vehicle, pedestrian and bicyclist
    images = sorted((camvid_val / "images").glob("*.jpg"))
    chosen = {path: "train" for path in images[::5][:FRAMES]}
    chosen |= {path: "val" for path in images[2::6]}
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / split / kind).mkdir(parents=True)
    for path, split in chosen.items():
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        truth = cv2.imread(str(camvid_val / "labels" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED)
        assert image is not None and truth is not None
        mine = np.select([truth == 11, truth == lane, np.isin(truth, movers)], [255, 1, 2], 0)
        for kind, array, method in (
            ("images", image, cv2.INTER_AREA),
            ("labels", mine.astype(np.uint8), cv2.INTER_NEAREST),
        ):
            small = cv2.resize(array, SIZE[::-1], interpolation=method)
            cv2.imwrite(str(folder / split / kind / f"{path.stem}.png"), small)
    return folder


def recipe(folder: Path, init: str) -> Path:
    labels = [
        {"id": 1, "name": "rest", "color": [90, 90, 90], "groups": []},
        {"id": 2, "name": "lane", "color": [153, 40, 140], "groups": ["drivable"]},
        {"id": 3, "name": "mover", "color": [247, 183, 29], "groups": ["objects"]},
    ]
    description = {
        "name": "mine",
        "splits": {s: {"images": f"{s}/images", "labels": f"{s}/labels"} for s in ("train", "val")},
        "image_suffix": ".png",
        "label_suffix": ".png",
        "values": {0: ["rest"], 1: ["lane"], 2: ["mover"]},
    }
    (folder / "labels.yaml").write_text(yaml.safe_dump({"labels": labels}))
    (folder / "mine.yaml").write_text(yaml.safe_dump(description))
    content = {
        "labels": str(folder / "labels.yaml"),
        "init": init,
        "input": {"height": SIZE[0], "width": SIZE[1]},
        "data": [{"set": str(folder / "mine.yaml"), "root": ".", "per_batch": 4}],
        "validation": [{"set": str(folder / "mine.yaml"), "root": "."}],
        "augment": {"crops": [[192, 256]], "scale": [0.8, 1.6]},
        "loop": {"steps": 50, "epoch_steps": 50, "learning_rate": 4e-3, "ema": 0.8},
    }
    path = folder / f"{init}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_twenty_frames_and_two_classes_from_the_default_and_from_imagenet(
    frames: Path, tmp_path: Path
) -> None:
    iou = {}
    for init in (DEFAULT_MODEL, "imagenet"):
        train(recipe(frames, init), tmp_path / init, frames)
        record = json.loads((tmp_path / init / "log.jsonl").read_text())
        iou[init] = record["validation"]["mine"]["iou"]
        print(init, iou[init])
    mine = {i: (iou[i]["lane"] + iou[i]["mover"]) / 2 for i in iou}
    assert iou[DEFAULT_MODEL]["lane"] > 0.9
    assert mine[DEFAULT_MODEL] > mine["imagenet"] + 0.04
