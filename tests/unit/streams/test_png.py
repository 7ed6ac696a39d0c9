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


def test_two_commands_do_not_write_into_one_folder(tmp_path: Path) -> None:
    first = PngSink(tmp_path / "masks")
    first.write(frame_of(0), random_masks(0))
    (tmp_path / "link").symlink_to(tmp_path / "masks" / "..")
    for name in (tmp_path / "masks", tmp_path / "link" / "masks"):
        with pytest.raises(StreamError, match="another command is writing it"):
            PngSink(name, overwrite=True)
    first.close()
    PngSink(tmp_path / "masks", overwrite=True).close()


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    masks = tmp_path / "masks"
    masks.mkdir()
    for name in ("000000.labels.png", ".000000.labels.png.partial"):
        (masks / name).symlink_to(victim)
    PngSink(masks, overwrite=True).write(frame_of(0), random_masks(0))
    assert victim.read_text() == "precious"
    assert not (masks / "000000.labels.png").is_symlink()


def test_what_a_killed_run_left_is_removed_and_told(tmp_path: Path) -> None:
    (tmp_path / ".deeplab_rt-0123abcd.partial").write_bytes(b"half")
    (tmp_path / ".hidden.partial").write_bytes(b"somebody else's")
    sink = PngSink(tmp_path, overwrite=True)
    assert os.listdir(tmp_path) == [".hidden.partial"]
    assert "removed 1 unfinished files" in sink.warnings[0]


def test_new_files_have_the_permissions_of_the_user(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        PngSink(tmp_path).write(frame_of(0), random_masks(0))
    finally:
        os.umask(before)
    assert (tmp_path / "000000.labels.png").stat().st_mode & 0o777 == 0o640
