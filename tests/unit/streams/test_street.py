"""The shipped drive as an input."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from deeplab_rt.labels import load_label_set
from deeplab_rt.streams.folder import ImageFolder
from deeplab_rt.streams.sources import open_recording, open_source
from deeplab_rt.streams.street import LABEL_SET, is_street, street_labels
from deeplab_rt.streams.video import VideoFile


def test_it_is_read_as_any_video() -> None:
    with open_recording("street") as source:
        assert isinstance(source, VideoFile) and not source.live
        frame = next(iter(source))
    assert frame.image.shape == (480, 640, 3) and frame.channels == "bgr"


def test_a_file_of_that_name_is_meant_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_street("street") and not is_street("./street")
    (tmp_path / "street").mkdir()
    cv2.imwrite(str(tmp_path / "street" / "0.png"), np.zeros((8, 8, 3), np.uint8))
    assert not is_street("street")
    with open_source("street") as source:
        assert isinstance(source, ImageFolder)


def test_its_labels_are_those_of_its_label_set() -> None:
    truth, labels = street_labels(), load_label_set(LABEL_SET)
    assert all(one.shape == (480, 640) and one.dtype == np.uint8 for one in truth.values())
    seen = set(np.unique(np.stack(list(truth.values()))).tolist())
    assert seen == set(range(1, len(labels) + 1))
