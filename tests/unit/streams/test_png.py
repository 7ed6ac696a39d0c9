"""Masks as PNG files."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from deeplab_rt.errors import StreamError
from deeplab_rt.frame import Frame
from deeplab_rt.masks import Masks
from deeplab_rt.streams.png import PngSink


def frame_of(index: int, name: str = "") -> Frame:
    return Frame(np.zeros((5, 7, 3), np.uint8), index, 0, name=name)


def random_masks(seed: int) -> Masks:
    rng = np.random.default_rng(seed)
    return Masks(*(rng.integers(0, 256, (5, 7), np.uint8) for _ in range(3)))


def test_three_files_a_frame_of_one_byte_a_pixel(tmp_path: Path) -> None:
    sink = PngSink(tmp_path / "masks")
    masks = [random_masks(0), random_masks(1)]
    sink.write(frame_of(12), masks[0])
    sink.write(frame_of(13, "left.0013"), masks[1])
    sink.close()
    assert sorted(os.listdir(tmp_path / "masks")) == [
        f"{name}.{kind}.png"
        for name in ("000012", "left.0013")
        for kind in ("drivable", "labels", "objects")
    ]
    for name, expected in zip(("000012", "left.0013"), masks, strict=True):
        for kind in ("labels", "drivable", "objects"):
            path = tmp_path / "masks" / f"{name}.{kind}.png"
            stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert stored.dtype == np.uint8
            assert np.array_equal(stored, getattr(expected, kind))


def test_two_frames_of_one_name_are_refused(tmp_path: Path) -> None:
    sink = PngSink(tmp_path)
    sink.write(frame_of(0, "a"), random_masks(0))
    with pytest.raises(StreamError, match="two frames are named 'a'"):
        sink.write(frame_of(1, "a"), random_masks(1))


def test_a_folder_that_holds_files_is_refused_or_written_into(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("keep")
    with pytest.raises(StreamError, match="holds files already.*--overwrite"):
        PngSink(tmp_path)
    PngSink(tmp_path, overwrite=True).write(frame_of(0), random_masks(0))
    assert (tmp_path / "notes.txt").read_text() == "keep" and len(os.listdir(tmp_path)) == 4


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "masks").write_text("a file")
    with pytest.raises(StreamError, match="exists already"):
        PngSink(tmp_path / "masks")
