"""The demo as its user runs it: a process that starts its own processes over real DDS."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from deeplab_rt.commands import main
from deeplab_rt.models import Model

pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install 'deeplab_rt[ros]'")

PATIENCE = 90.0


def demo(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "deeplab_rt", "demo", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def frames_of(video: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(video))
    frames = []
    while True:
        read, frame = capture.read()
        if not read:
            return frames
        frames.append(frame)


def children_of(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # ended meanwhile
        if int(fields[1]) == pid:
            found.append(int(entry.parent.name))
    return found


def test_the_rendered_street(palette_model: Model, tmp_path: Path) -> None:
    video = tmp_path / "street.mp4"
    video.write_text("an old one, which is replaced")
    arguments = ("--model", palette_model.directory, "--seconds", 1, "--json")
    process = demo(*arguments, "--overwrite", "-o", video)
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    summary = json.loads(output)
    assert summary["frames"] == 30
    assert 0 < summary["masks"] == 30 - summary["dropped"]
    assert summary["rate_in_hz"] > 0 and summary["rate_out_hz"] > 0
    latency = summary["latency_ms"]
    assert 0 < latency["p50"] <= latency["p99"] <= latency["max"]
    assert {"network", "labels", "publish"} <= set(summary["node_ms"])
    # The palette's answer to photo-like colours is poor; that it is measured is what counts here.
    assert 0 <= summary["drivable_iou"] < 1
    assert (summary["model"], summary["backend"]) == ("palette", "openvino")
    assert summary["device"] and summary["output"] == str(video)
    frames = frames_of(video)
    assert len(frames) == summary["masks"]
    assert frames[0].shape[1] == 1280 and frames[0].shape[0] > 480
    left, right = frames[0][40:480, :640].astype(int), frames[0][40:480, 640:].astype(int)
    assert np.abs(left - right).mean() > 5  # the overlay colours the right half


def test_ones_own_pictures_shown_with_their_masks(
    palette_model: Model, painted: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    folder = tmp_path / "drive"
    folder.mkdir()
    for index in range(4):
        cv2.imwrite(str(folder / f"{index}.png"), painted[0])
    video = tmp_path / "demo.mp4"
    process = demo(
        "--input", folder, "--model", palette_model.directory, "--seconds", 0.5, "-o", video
    )
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert "unknown: the input has no labels" in output and str(video) in output
    # The picture is painted in label colours, so its overlay is the picture itself.
    frame = frames_of(video)[0]
    left, right = frame[24:96, :128].astype(int), frame[24:96, 128:256].astype(int)
    assert np.median(np.abs(left - right)) <= 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_ends_its_processes(
    palette_model: Model, tmp_path: Path, number: int
) -> None:
    video = tmp_path / "demo.mp4"
    process = demo("--model", palette_model.directory, "--seconds", 600, "-o", video)
    end = time.monotonic() + PATIENCE
    while len(children := children_of(process.pid)) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    assert len(children) == 2
    time.sleep(1.0)
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert errors.rstrip().endswith("deeplab_rt demo: interrupted")
    assert not any(os.path.exists(f"/proc/{child}") for child in children)
    assert not video.exists()


def test_a_node_that_cannot_start_is_quoted(palette_model: Model, tmp_path: Path) -> None:
    process = demo(
        "--model", palette_model.directory, "--precision", "int8", "-o", tmp_path / "demo.mp4"
    )
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1 and not output
    last = errors.rstrip().splitlines()[-1]
    assert last.startswith("deeplab_rt demo: node cannot configure: ")
    assert "has no int8 file" in last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "/no/such"], "/no/such: no such input"),
        (["-o", "/no/such/demo.mp4"], "there is no folder /no/such"),
        (["-o", "demo.gif"], "expected a name that ends in"),
        (["--model", "none"], "no model 'none'"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    palette_model: Model, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["demo", "--model", str(palette_model.directory), *arguments]) == 1
    captured = capsys.readouterr()
    assert not captured.out
    assert captured.err.startswith("deeplab_rt demo: ") and captured.err.count("\n") == 1
    assert message in captured.err


def test_a_named_video_is_not_replaced_unasked(
    palette_model: Model, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    video = tmp_path / "mine.mp4"
    video.write_text("mine")
    assert main(["demo", "--model", str(palette_model.directory), "-o", str(video)]) == 1
    assert "exists already" in capsys.readouterr().err and video.read_text() == "mine"


def test_without_ros_it_names_the_command_that_fixes_it(
    palette_model: Model, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rclpy", None)  # as if it were not installed
    for name in [name for name in sys.modules if name.startswith("deeplab_rt.ros.")]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["demo", "--model", str(palette_model.directory)]) == 1
    captured = capsys.readouterr()
    assert "pip install '.[cpu,ros]'" in captured.err and captured.err.count("\n") == 1


@pytest.mark.parametrize("seconds", ["0", "-3", "nan", "long"])
def test_wrong_time_is_wrong_usage(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["demo", f"--seconds={seconds}"])
    assert caught.value.code == 2
    assert "expected 0 to 3600 seconds" in capsys.readouterr().err


@pytest.mark.parametrize("output", [[], ["-o", "hard.mp4", "--overwrite"]], ids=["", "hard link"])
def test_the_input_is_never_the_output(
    palette_model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    output: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("demo.mp4").write_bytes(b"a drive")
    os.link("demo.mp4", "hard.mp4")
    model = ["--model", str(palette_model.directory)]
    assert main(["demo", *model, "--input", "demo.mp4", *output]) == 1
    err = capsys.readouterr().err
    assert "is the input demo.mp4" in err and err.count("\n") == 1
    assert Path("demo.mp4").read_bytes() == b"a drive"
