"""Masks as PNG files."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from deeplab_rt.errors import StreamError
from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet, load_label_set
from deeplab_rt.masks import Masks
from deeplab_rt.streams.png import PngSink, check_names

LABELS = load_label_set("camvid11")


def frame_of(index: int, name: str = "") -> Frame:
    return Frame(np.zeros((5, 7, 3), np.uint8), index, 0, name=name)


def random_masks(seed: int) -> Masks:
    rng = np.random.default_rng(seed)
    return Masks(*(rng.integers(0, 256, (5, 7), np.uint8) for _ in range(3)))


def test_three_files_a_frame_of_one_byte_a_pixel(tmp_path: Path) -> None:
    sink = PngSink(tmp_path / "masks", LABELS)
    masks = [random_masks(0), random_masks(1)]
    sink.write(frame_of(12), masks[0])
    sink.write(frame_of(13, "left.0013"), masks[1])
    sink.close()
    assert set(os.listdir(tmp_path / "masks")) == {"classes.json"} | {
        f"{name}.{kind}.png"
        for name in ("000012", "left.0013")
        for kind in ("drivable", "labels", "objects")
    }
    for name, expected in zip(("000012", "left.0013"), masks, strict=True):
        for kind in ("labels", "drivable", "objects"):
            path = tmp_path / "masks" / f"{name}.{kind}.png"
            stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert stored.dtype == np.uint8
            assert np.array_equal(stored, getattr(expected, kind))


def test_two_frames_of_one_name_are_refused(tmp_path: Path) -> None:
    sink = PngSink(tmp_path, LABELS)
    sink.write(frame_of(0, "a"), random_masks(0))
    with pytest.raises(StreamError, match="two frames are named 'a'"):
        sink.write(frame_of(1, "a"), random_masks(1))


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        (frame_of(3), frame_of(9, "000003"), True),
        (frame_of(9, "000003"), frame_of(3), True),
        (frame_of(3), frame_of(9, "3"), False),
        (frame_of(3), frame_of(9, "000004"), False),
        (frame_of(3), frame_of(3), True),
    ],
)
def test_numbers_and_names_share_one_space(
    tmp_path: Path, first: Frame, second: Frame, refused: bool
) -> None:
    sink = PngSink(tmp_path, LABELS)
    sink.write(first, random_masks(0))
    if refused:
        with pytest.raises(StreamError, match="two frames are named"):
            sink.write(second, random_masks(1))
    else:
        sink.write(second, random_masks(1))


def test_a_folder_that_holds_files_is_refused_or_written_into(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("keep")
    with pytest.raises(StreamError, match="holds files already.*--overwrite"):
        PngSink(tmp_path, LABELS)
    PngSink(tmp_path, LABELS, overwrite=True).write(frame_of(0), random_masks(0))
    assert (tmp_path / "notes.txt").read_text() == "keep" and len(os.listdir(tmp_path)) == 5


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "masks").write_text("a file")
    with pytest.raises(StreamError, match="exists already"):
        PngSink(tmp_path / "masks", LABELS)


def test_two_commands_do_not_write_into_one_folder(tmp_path: Path) -> None:
    first = PngSink(tmp_path / "masks", LABELS)
    first.write(frame_of(0), random_masks(0))
    (tmp_path / "link").symlink_to(tmp_path / "masks" / "..")
    for name in (tmp_path / "masks", tmp_path / "link" / "masks"):
        with pytest.raises(StreamError, match="another command is writing it"):
            PngSink(name, LABELS, overwrite=True)
    first.close()
    PngSink(tmp_path / "masks", LABELS, overwrite=True).close()


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    masks = tmp_path / "masks"
    masks.mkdir()
    for name in ("000000.labels.png", ".000000.labels.png.partial"):
        (masks / name).symlink_to(victim)
    PngSink(masks, LABELS, overwrite=True).write(frame_of(0), random_masks(0))
    assert victim.read_text() == "precious"
    assert not (masks / "000000.labels.png").is_symlink()


def test_what_a_killed_run_left_is_removed_and_told(tmp_path: Path) -> None:
    (tmp_path / ".deeplab_rt-0123abcd.partial").write_bytes(b"half")
    (tmp_path / ".hidden.partial").write_bytes(b"somebody else's")
    sink = PngSink(tmp_path, LABELS, overwrite=True)
    assert os.listdir(tmp_path) == [".hidden.partial"]
    assert "removed 1 unfinished files" in sink.warnings[0]


def test_new_files_have_the_permissions_of_the_user(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        PngSink(tmp_path, LABELS).write(frame_of(0), random_masks(0))
    finally:
        os.umask(before)
    assert (tmp_path / "000000.labels.png").stat().st_mode & 0o777 == 0o640


def test_classes_are_named_beside_the_masks(tmp_path: Path) -> None:
    sink = PngSink(tmp_path / "masks", LABELS)
    sink.write(frame_of(0), random_masks(0))
    content = json.loads((tmp_path / "masks" / "classes.json").read_text())
    assert content["none"] == 0 and LabelSet.from_list(content["classes"]) == LABELS


def test_colours_and_confidence_where_asked_for(tmp_path: Path) -> None:
    sink = PngSink(tmp_path / "masks", LABELS, color=True)
    masks = random_masks(0)
    masks.labels %= np.uint8(len(LABELS) + 1)
    masks.confidence = masks.objects + np.uint8(1)
    sink.write(frame_of(0), masks)
    color = cv2.imread(str(tmp_path / "masks" / "000000.color.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(color[..., ::-1], LABELS.palette[masks.labels])
    confidence = tmp_path / "masks" / "000000.confidence.png"
    assert np.array_equal(cv2.imread(str(confidence), cv2.IMREAD_UNCHANGED), masks.confidence)
    files = {path.name for path in PngSink.files(tmp_path / "masks")}
    assert files == set(os.listdir(tmp_path / "masks")) - {"classes.json"}


def test_cameras_have_files_of_their_own(tmp_path: Path) -> None:
    sink = PngSink(tmp_path / "masks", LABELS)
    for camera in ("/front/image_raw", "/rear/image_raw"):
        sink.write(replace(frame_of(3, "x"), camera=camera), random_masks(0))
    names = {path.name for path in PngSink.files(tmp_path / "masks")}
    assert {"front_image_raw.x.labels.png", "rear_image_raw.x.labels.png"} <= names


def test_names_that_clash_are_found_beforehand() -> None:
    check_names(["a", "b"], Path("out"))
    with pytest.raises(StreamError, match="out: 2 images are named 'a'"):
        check_names(["a", "b", "a"], Path("out"))
