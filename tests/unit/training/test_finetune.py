"""A shipped model is the start of one's own: twenty frames, two classes, better than from ImageNet."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from deeplab_rt.labels import load_label_set
from deeplab_rt.models import DEFAULT_MODEL
from deeplab_rt.streams.sources import open_source
from deeplab_rt.streams.street import LABEL_SET, street_labels
from deeplab_rt.training.run import train

SIZE = (192, 256)
FRAMES = 20


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled frames of the shipped drive: the first twenty to train on, later ones to validate."""
    folder = tmp_path_factory.mktemp("street")
    old = load_label_set(LABEL_SET)
    lane = [old.index("road") + 1]
    walk = [old.index("sidewalk") + 1]
    labels = street_labels()
    chosen = {index: "train" for index in sorted(labels)[:FRAMES]}
    chosen |= {index: "val" for index in sorted(labels)[FRAMES + 10 :: 4]}
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / split / kind).mkdir(parents=True)
    with open_source("street") as source:
        for frame in source:
            if frame.index not in chosen:
                continue
            truth = labels[frame.index]
            mine = np.select([np.isin(truth, lane), np.isin(truth, walk)], [1, 2], 0)
            for kind, image, method in (
                ("images", frame.image, cv2.INTER_AREA),
                ("labels", mine.astype(np.uint8), cv2.INTER_NEAREST),
            ):
                small = cv2.resize(image, SIZE[::-1], interpolation=method)
                path = folder / chosen[frame.index] / kind / f"{frame.index:04}.png"
                cv2.imwrite(str(path), small)
    return folder


def recipe(folder: Path, init: str) -> Path:
    labels = [
        {"id": 1, "name": "rest", "color": [90, 90, 90], "groups": []},
        {"id": 2, "name": "lane", "color": [153, 40, 140], "groups": ["drivable"]},
        {"id": 3, "name": "walkway", "color": [219, 11, 255], "groups": []},
    ]
    description = {
        "name": "mine",
        "splits": {s: {"images": f"{s}/images", "labels": f"{s}/labels"} for s in ("train", "val")},
        "image_suffix": ".png",
        "label_suffix": ".png",
        "values": {0: ["rest"], 1: ["lane"], 2: ["walkway"]},
    }
    (folder / "labels.yaml").write_text(yaml.safe_dump({"labels": labels}))
    (folder / "mine.yaml").write_text(yaml.safe_dump(description))
    content = {
        "labels": str(folder / "labels.yaml"),
        "init": init,
        "input": {"height": SIZE[0], "width": SIZE[1]},
        "data": [{"set": str(folder / "mine.yaml"), "root": ".", "per_batch": 4}],
        "validation": [{"set": str(folder / "mine.yaml"), "root": "."}],
        "augment": {"crops": [[160, 224]], "scale": [0.8, 1.6]},
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
    mine = {i: (iou[i]["lane"] + iou[i]["walkway"]) / 2 for i in iou}
    assert iou[DEFAULT_MODEL]["lane"] > 0.9
    assert mine[DEFAULT_MODEL] > mine["imagenet"] + 0.1
