"""Frames from image folders."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from deeplab_rt.errors import StreamError
from deeplab_rt.streams.base import Selection
from deeplab_rt.streams.folder import ImageFolder
from tests.unit.streams.media import number_of, numbered


def test_images_in_natural_order_with_their_stems(tmp_path: Path) -> None:
    for name, index in (("f10.png", 2), ("f2.JPG", 1), ("f1.bmp", 0), ("f30.webp", 3)):
        (tmp_path / name).write_bytes(cv2.imencode(Path(name).suffix, numbered(index))[1])
    (tmp_path / "readme.txt").write_text("not an image")
    (tmp_path / ".f0.png").write_bytes(b"hidden")
    with ImageFolder(tmp_path) as source:
        frames = list(source)
    assert [number_of(frame.image) for frame in frames] == [0, 1, 2, 3]
    assert [frame.name for frame in frames] == ["f1", "f2", "f10", "f30"]
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert [frame.stamp_ns for frame in frames] == [0, 33333333, 66666667, 100000000]
    assert source.total == 4 and not source.warnings


@pytest.mark.parametrize(
    "stored",
    [
        np.full((5, 7), 60, np.uint8),
        np.full((5, 7, 4), 60, np.uint8),
        np.full((5, 7, 3), 60 * 257, np.uint16),
        np.full((1, 1, 3), 60, np.uint8),
    ],
)
def test_any_depth_and_number_of_channels_becomes_bgr8(tmp_path: Path, stored: np.ndarray) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), stored)
    (frame,) = ImageFolder(tmp_path / "a.png")
    assert frame.image.dtype == np.uint8 and frame.image.shape == (*stored.shape[:2], 3)
    assert (frame.image == 60).all()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
def test_an_image_cut_off_is_told_and_keeps_its_place(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for index in range(3):
        data = cv2.imencode(suffix, noise)[1].tobytes()
        (tmp_path / f"{index}{suffix}").write_bytes(data[: len(data) // 2] if index == 1 else data)
    with ImageFolder(tmp_path) as source:
        assert [frame.index for frame in source] == [0, 2]
    assert source.dropped == 1
    assert f"frame 1 skipped: 1{suffix}" in source.warnings[0]


def test_an_image_longer_than_any_mask_is_skipped(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((2, 20_000, 3), np.uint8))
    with ImageFolder(tmp_path) as source:
        assert list(source) == []
    assert "image of 20000x2" in source.warnings[0]
    assert "at most 16384 a side" in source.warnings[0]


def test_folder_without_images_says_what_it_expects(tmp_path: Path) -> None:
    with pytest.raises(StreamError, match=r"no image and no bag.*\.jpg.*\.mcap"):
        ImageFolder(tmp_path)


def test_real_frames(camvid_val: Path) -> None:
    with ImageFolder(camvid_val / "images") as source:
        shapes = {frame.image.shape for frame in source}
    assert shapes == {(360, 480, 3)} and source.total == 101 and source.dropped == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_what_is_no_file_is_skipped_and_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").mkdir()
    (tmp_path / "c.png").symlink_to("/dev/zero")
    cv2.imwrite(str(tmp_path / "d.png"), numbered(1))
    with ImageFolder(tmp_path) as source:
        assert [frame.name for frame in source] == ["d"]
    assert source.dropped == 3
    assert all("a pipe, a device or a folder" in warning for warning in source.warnings)


def test_a_span_and_every_second_image(tmp_path: Path) -> None:
    for index in range(10):
        cv2.imwrite(str(tmp_path / f"{index}.png"), numbered(index))
    selection = Selection(start_s=0.1, stop_s=0.3, every=2)
    with ImageFolder(tmp_path, selection) as source:
        frames = list(source)
    assert source.total == 3
    assert [(f.index, f.name) for f in frames] == [(0, "3"), (2, "5"), (4, "7")]
    assert frames[0].stamp_ns == 100_000_000
