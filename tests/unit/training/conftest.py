"""The tiny encoder, and a data set and recipe that are trained in a moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

pytest.importorskip("torch")

from tests.unit.network.tiny import TINY, tiny_encoder


@pytest.fixture(autouse=True, scope="session")
def _tiny_encoder() -> Iterator[None]:
    with tiny_encoder():
        yield


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set that can be learnt: sky above road, each with its own colour, and a sign."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / split / kind).mkdir(parents=True)
        for index in range(3):
            horizon = int(rng.integers(20, 40))
            image = np.full((64, 96, 3), (200, 160, 120), np.uint8)
            label = np.zeros((64, 96), np.uint8)
            image[horizon:], label[horizon:] = (60, 60, 60), 1
            image[5:15, 30:50], label[5:15, 30:50] = (0, 220, 220), 2
            image += rng.integers(0, 20, image.shape, np.uint8)
            label[0] = 255
            cv2.imwrite(str(folder / split / "images" / f"{index}.png"), image)
            cv2.imwrite(str(folder / split / "labels" / f"{index}.png"), label)
    description = {
        "name": "pictures",
        "licence": "made by the tests",
        "splits": {s: {"images": f"{s}/images", "labels": f"{s}/labels"} for s in ("train", "val")},
        "image_suffix": ".png",
        "label_suffix": ".png",
        "values": {0: ["sky"], 1: ["road"], 2: ["sign"]},
    }
    (folder / "pictures.yaml").write_text(yaml.safe_dump(description))
    labels = [
        {"id": 1, "name": "sky", "color": [70, 130, 180], "groups": []},
        {"id": 2, "name": "road", "color": [128, 64, 128], "groups": ["drivable"]},
        {"id": 3, "name": "sign", "color": [220, 220, 0], "groups": ["objects"]},
    ]
    (folder / "labels.yaml").write_text(yaml.safe_dump({"labels": labels}))
    recipe = {
        "labels": str(folder / "labels.yaml"),
        "architecture": TINY.to_dict(),
        "input": {"height": 64, "width": 96},
        "init": "random",
        "data": [{"set": str(folder / "pictures.yaml"), "root": ".", "per_batch": 4}],
        "validation": [{"set": str(folder / "pictures.yaml"), "root": "."}],
        "augment": {"crops": [[32, 64]], "scale": [0.8, 1.2]},
        "loop": {"steps": 6, "epoch_steps": 2, "learning_rate": 0.01, "ema": 0.5},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder
