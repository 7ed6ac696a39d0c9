"""``deeplab_rt replay``, as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from deeplab_rt.commands import main
from deeplab_rt.labels import LabelSet
from deeplab_rt.models import Model
from deeplab_rt.streams.bag_reader import BagImages
from tests.unit.streams.media import image_message, stamp_of, write_bag, write_video


@pytest.fixture
def drive(tmp_path: Path, camvid11: LabelSet) -> Path:
    """A bag of nine frames: frame i is painted in the colour of label i + 1."""
    messages = [
        image_message(np.full((40, 60, 3), camvid11.palette[i + 1][::-1], np.uint8), stamp_of(i))
        for i in range(9)
    ]
    return write_bag(tmp_path / "drive", {"/image": messages})


@pytest.fixture
def program(palette_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command with its model; the working directory is the test's own."""
    monkeypatch.chdir(tmp_path)
    return ["replay", "--model", str(palette_model.directory), "--backend", "cpu"]


def test_masks_bag_pictures_and_video_in_one_run(
    program: list[str], drive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = ["-o", "out.mcap", "--masks", "pictures", "--overlay", "out.mp4"]
    assert main([*program, str(drive), *outputs, "--json"]) == 0
    out, err = capsys.readouterr()
    result: dict[str, Any] = json.loads(out)
    assert err == ""
    assert result["frames"] == 9 and result["dropped"] == 0 and result["fps"] > 0
    assert result["model"] == "palette" and result["backend"] == "openvino"
    assert result["device"] and result["input"] == str(drive) and result["warnings"] == []
    assert result["output"] == {"bag": "out.mcap", "masks": "pictures", "overlay": "out.mp4"}
    assert {"p50", "p99"} == set(result["latency_ms"]["network"])
    with BagImages(Path("out.mcap"), "/deeplab/label_mask") as source:
        frames = list(source)
    assert [int(frame.image[20, 30, 0]) for frame in frames] == list(range(1, 10))
    assert [frame.stamp_ns for frame in frames] == [stamp_of(index) for index in range(9)]
    for index in range(9):
        picture = cv2.imread(f"pictures/{index:06d}.labels.png", cv2.IMREAD_UNCHANGED)
        assert picture.shape == (40, 60) and picture[20, 30] == index + 1
    with av.open("out.mp4") as video:
        assert len(list(video.decode(video=0))) == 9


def test_without_an_output_the_bag_is_named_after_the_input(
    program: list[str], drive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*program, str(drive)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("9 frames, 0 dropped, ") and "bag: drive_masks\n" in out
    assert Path("drive_masks/metadata.yaml").is_file()
    assert main([*program, str(drive)]) == 1
    expected = "deeplab_rt replay: drive_masks: exists already; give another name, or --overwrite"
    assert capsys.readouterr().err.startswith(expected)
    assert main([*program, str(drive), "--overwrite"]) == 0


def test_video_and_image_folder_one_after_the_other(program: list[str], tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 5)
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "left.png"), np.zeros((9, 9, 3), np.uint8))
    assert main([*program, "a.mp4", "images", "--masks", "out"]) == 0
    stems = {name.split(".")[0] for name in os.listdir("out")}
    assert stems == {"000000", "000001", "000002", "000003", "000004", "left"}


def test_frames_that_cannot_be_decoded_are_told(
    program: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((9, 9, 3), np.uint8))
    (tmp_path / "images" / "b.png").write_bytes(b"broken")
    assert main([*program, "images", "-o", "out", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["dropped"] == 1 and len(json.loads(out)["warnings"]) == 1
    assert err.startswith("deeplab_rt replay: warning: images: frame 1 skipped: b.png")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nope.mp4"], "nope.mp4: no such input; expected"),
        (["drive", "--topic", "/nope"], "topic /nope is not in it; image topics: /image"),
        (["drive", "-o", "drive", "--overwrite"], "drive: is the input drive"),
        (["drive", "-o", "drive/drive.mcap", "--overwrite"], "drive.mcap: is the input drive"),
        (["drive", "--masks", "drive", "--overwrite"], "drive: is the input drive"),
        (["drive", "--overlay", "drive/a.mp4", "--overwrite"], "lies inside the input drive"),
        (["drive/drive.mcap", "-o", "drive", "--overwrite"], "drive: holds the input"),
        (["drive", "-o", "nope/out"], "nope/out: there is no folder nope"),
        (["drive", "--overlay", "out.gif"], "out.gif: expected a name that ends in .mp4"),
        (["drive", "--model", "nope"], "no model 'nope'"),
    ],
)
def test_one_clear_line_and_nothing_written(
    program: list[str],
    drive: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    line: str,
) -> None:
    before = sorted(path.name for path in tmp_path.rglob("*"))
    assert main([*program, *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == "" and line in err and err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_wrong_usage_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["replay"])
    assert exit_.value.code == 2
    assert "INPUT" in capsys.readouterr().err


def test_ctrl_c_leaves_a_whole_bag(program: list[str], tmp_path: Path) -> None:
    write_video(tmp_path / "long.mp4", 1000, size=(480, 640))
    command = [sys.executable, "-m", "deeplab_rt", *program, "long.mp4", "-o", "out", "--json"]
    root = str(Path(__file__).resolve().parents[3])
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}
    ) as process:
        deadline = time.monotonic() + 60
        bag = tmp_path / "out" / "out_0.mcap"
        while not (bag.is_file() and bag.stat().st_size > 5_000):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    frames = json.loads(out)["frames"]
    assert 0 < frames < 1000
    with BagImages(tmp_path / "out", "/deeplab/label_mask") as source:
        assert source.total == frames and source.warnings == []
        assert len(list(source)) == frames


def test_real_drive(program: list[str], highway_clip: Path) -> None:
    assert main([*program, str(highway_clip), "-o", "out"]) == 0
    with BagImages(Path("out"), "/deeplab/drivable_mask") as source:
        stamps = [frame.stamp_ns for frame in source]
    assert stamps == [index * 40_000_000 for index in range(221)]
