"""Inputs are spared, and only what is a bag is replaced as one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from deeplab_rt.errors import StreamError
from deeplab_rt.streams.outputs import (
    check_new_bag,
    check_new_file,
    check_outputs,
    remove_bag,
)


def bag_directory(path: Path, files: tuple[str, ...] = ("drive_0.mcap",)) -> Path:
    path.mkdir(parents=True)
    for name in files:
        (path / name).write_text("a recording")
    metadata = {"rosbag2_bagfile_information": {"relative_file_paths": list(files)}}
    (path / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with recordings of each kind; it is the working directory."""
    monkeypatch.chdir(tmp_path)
    bag_directory(tmp_path / "drive")
    (tmp_path / "clip.mp4").write_text("a video")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_text("an image")
    (tmp_path / "loose.db3").write_text("a bag")
    (tmp_path / "loose.db3-wal").write_text("its newest messages")
    os.link("clip.mp4", "hard.mp4")
    os.link("drive/drive_0.mcap", "hard.mcap")
    Path("soft.mp4").symlink_to("clip.mp4")
    Path("chain.mp4").symlink_to("soft.mp4")
    Path("soft").symlink_to("drive")
    Path("soft_images").symlink_to("images")
    Path("images", "outward.mcap").symlink_to(tmp_path / "elsewhere.mcap")
    Path("holder").mkdir()
    Path("holder/inner.mcap").write_text("a bag")
    Path("copies").mkdir()
    os.link("images/a.png", "copies/a.png")
    return tmp_path


@pytest.mark.parametrize(
    ("source", "output", "problem"),
    [
        ("drive", "drive", "is the input"),
        ("drive", "drive/", "is the input"),
        ("drive", "./images/../drive", "is the input"),
        ("drive", "soft", "is the input"),
        ("soft", "drive", "is the input"),
        ("drive", "drive/drive_0.mcap", "is the input"),
        ("drive", "hard.mcap", "is the input"),
        ("drive", "drive/new.mcap", "lies inside the input"),
        ("drive", "soft/new.mcap", "lies inside the input"),
        ("drive", "drive/masks/new.mcap", "lies inside the input"),
        ("drive/drive_0.mcap", "drive", "holds the input"),
        ("drive/drive_0.mcap", "drive/new.mcap", "lies inside the input"),
        ("drive/drive_0.mcap", "drive/metadata.yaml", "is the input"),
        ("clip.mp4", "clip.mp4", "is the input"),
        ("clip.mp4", "hard.mp4", "is the input"),
        ("clip.mp4", "chain.mp4", "is the input"),
        ("chain.mp4", "hard.mp4", "is the input"),
        ("file:clip.mp4", "clip.mp4", "is the input"),
        ("images", "images", "is the input"),
        ("images", "soft_images", "is the input"),
        ("images", "images/masks", "lies inside the input"),
        ("images", "images/new.mcap", "lies inside the input"),
        ("images", "images/outward.mcap", "lies inside the input"),
        ("images", "copies", "holds the input"),
        ("images/a.png", "images", "holds the input"),
        ("holder/inner.mcap", "holder", "holds the input"),
        ("loose.db3", "loose.db3-wal", "is the input"),
        ("clip.mp4", ".", "holds the input"),
    ],
)
def test_an_output_that_touches_an_input_is_refused(
    here: Path, source: str, output: str, problem: str
) -> None:
    with pytest.raises(StreamError, match=f"{problem}.* never written to; give another name"):
        check_outputs(["absent.mp4", source], {"bag": Path(output)})


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("drive", "drive_masks"),
        ("drive", "drive.mcap"),
        ("drive/drive_0.mcap", "masks.mcap"),
        ("clip.mp4", "clip_masks"),
        ("clip.mp4", "images/masks"),
        ("images/a.png", "images/masks.mcap"),
        ("images", "new"),
        ("loose.db3", "loose_masks.db3"),
        ("0", "0"),
        ("rtsp://camera/clip.mp4", "clip.mp4"),
        ("no\0name", "out"),
    ],
)
def test_other_outputs_are_not(here: Path, source: str, output: str) -> None:
    check_outputs([source], {"bag": Path(output)})


def test_a_link_that_leads_to_an_input_from_its_own_folder(here: Path) -> None:
    Path("links").mkdir()
    Path("links/drive.mcap").symlink_to(here / "drive" / "drive_0.mcap")
    with pytest.raises(StreamError, match="lies inside the input"):
        check_outputs(["links/drive.mcap"], {"bag": Path("drive/new.mcap")})


def test_two_outputs_of_one_place_are_refused(here: Path) -> None:
    with pytest.raises(StreamError, match=r"two outputs \(bag and masks\)"):
        check_outputs(["clip.mp4"], {"bag": Path("out"), "masks": Path("images/../out")})
    with pytest.raises(StreamError, match="out/a.mp4: lies inside the output out"):
        check_outputs(["clip.mp4"], {"bag": Path("out"), "overlay": Path("out/a.mp4")})
    check_outputs(["clip.mp4"], {"masks": Path("out"), "overlay": Path("out/a.mp4")})


def _subfolder(bag: Path) -> str:
    (bag / "old").mkdir()
    (bag / "old" / "sat.mcap").write_text("another recording")
    return "holds more than a bag \\(old\\)"


def _other_recordings(bag: Path) -> str:
    (bag / "tue.mcap").write_text("another recording")
    return "holds more than a bag \\(tue.mcap\\)"


def _no_metadata(bag: Path) -> str:
    (bag / "metadata.yaml").unlink()
    return "metadata.yaml, which would say that it is a bag, is missing"


def _damaged_metadata(bag: Path) -> str:
    (bag / "metadata.yaml").write_bytes(b"\xff{[")
    return "missing or unreadable"


def _nested_metadata(bag: Path) -> str:
    (bag / "metadata.yaml").write_text("[" * 5000)
    return "missing or unreadable"


def _missing_file(bag: Path) -> str:
    (bag / "drive_0.mcap").unlink()
    return "not whole \\(drive_0.mcap\\)"


def _linked_file(bag: Path) -> str:
    (bag / "drive_0.mcap").rename(bag.parent / "real.mcap")
    (bag / "drive_0.mcap").symlink_to(bag.parent / "real.mcap")
    return "drive_0.mcap is no regular file"


def _upward_name(bag: Path) -> str:
    metadata = {"relative_file_paths": ["../clip.mp4", "drive_0.mcap"]}
    (bag / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": metadata}))
    return "not whole \\(../clip.mp4\\)"


@pytest.mark.parametrize(
    "change",
    [
        _subfolder,
        _other_recordings,
        _no_metadata,
        _damaged_metadata,
        _nested_metadata,
        _missing_file,
        _linked_file,
        _upward_name,
    ],
)
def test_a_folder_that_is_not_exactly_a_bag_stays(
    tmp_path: Path, change: Callable[[Path], str]
) -> None:
    bag = bag_directory(tmp_path / "recordings")
    (tmp_path / "clip.mp4").write_text("a video")
    problem = change(bag)
    before = sorted(tmp_path.rglob("*"))
    for refuse in (remove_bag, lambda path: check_new_bag(path, overwrite=True)):
        with pytest.raises(StreamError, match=problem):
            refuse(bag)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bag_is_removed_and_nothing_else(tmp_path: Path) -> None:
    bag = bag_directory(tmp_path / "bag", ("a_0.db3", "a_1.db3"))
    (tmp_path / "other.mcap").write_text("a bag")
    remove_bag(bag)
    remove_bag(bag)  # not there: nothing to do
    assert os.listdir(tmp_path) == ["other.mcap"]


def test_of_a_link_only_the_link_is_removed(tmp_path: Path) -> None:
    bag = bag_directory(tmp_path / "bag")
    (tmp_path / "link.mcap").symlink_to(bag / "drive_0.mcap")
    (tmp_path / "link").symlink_to(bag)
    remove_bag(tmp_path / "link.mcap")
    remove_bag(tmp_path / "link")
    assert os.listdir(tmp_path) == ["bag"] and len(os.listdir(bag)) == 2


def test_special_files_and_files_that_are_no_bag_are_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mcap")
    (tmp_path / "notes").write_text("text")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(StreamError, match="no regular file"):
        check_new_bag(tmp_path / "pipe.mcap", overwrite=True)
    with pytest.raises(StreamError, match="it is a file, and no bag"):
        check_new_bag(tmp_path / "notes", overwrite=True)
    with pytest.raises(StreamError, match="no regular file"):
        check_new_file(tmp_path / "folder.mp4", overwrite=True)


def test_names_that_no_system_takes_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("x" * 300 + ".mcap", "loop/out.mcap"):
        with pytest.raises(StreamError, match="cannot write|there is no folder"):
            check_new_bag(tmp_path / name, overwrite=True)
