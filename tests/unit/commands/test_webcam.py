"""``deeplab_rt webcam``, as a user runs it, with a live camera on loopback."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from deeplab_rt.commands import main
from deeplab_rt.models import Model
from deeplab_rt.streams.bag_reader import BagImages
from tests.unit.streams.media import HttpCamera, write_video


@pytest.fixture
def camera() -> Iterator[HttpCamera]:
    with HttpCamera() as camera:
        yield camera


@pytest.fixture
def program(palette_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command with its model; the working directory is the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))
    return ["webcam", "--model", str(palette_model.directory), "--backend", "cpu"]


def test_frames_and_masks_are_recorded(
    program: list[str], camera: HttpCamera, capsys: pytest.CaptureFixture[str]
) -> None:
    record = ["--record", "out.mcap", "--frames", "12", "--view", "none", "--json"]
    assert main([*program, "--device", camera.url, *record]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert err == "" and result["frames"] == 12 and result["output"] == {"bag": "out.mcap"}
    assert result["input"] == camera.url and "age" in result["latency_ms"]
    stamps = {}
    for topic in ("/image/compressed", "/deeplab/label_mask"):
        with BagImages(Path("out.mcap"), topic) as source:
            stamps[topic] = [frame.stamp_ns for frame in source]
    assert stamps["/image/compressed"] == stamps["/deeplab/label_mask"]
    assert len(set(stamps["/deeplab/label_mask"])) == 12


def test_without_a_display_it_says_so_and_goes_on(
    program: list[str], camera: HttpCamera, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*program, "--device", camera.url, "--seconds", "0.2"]) == 0
    out, err = capsys.readouterr()
    assert "no window: there is no display" in err and "--view web" in err
    assert " frames/s with palette" in out


def test_a_window_that_was_asked_for_and_cannot_be_is_an_error(
    program: list[str], camera: HttpCamera, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*program, "--device", camera.url, "--view", "window"]) == 1
    assert "no window: there is no display" in capsys.readouterr().err


def test_no_such_camera(program: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*program, "--device", "63", "--view", "none"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "camera 63: no such camera" in err


def test_a_recording_in_place_of_the_camera(
    program: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "a.mp4", 5)
    assert main([*program, "--device", "a.mp4", "--view", "none", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["frames"] == 5 and result["dropped"] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_page_is_served_until_a_signal_ends_it_with_a_whole_recording(
    program: list[str], camera: HttpCamera, tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "deeplab_rt", *program, "--device", camera.url]
    command += ["--view", "web", "--record", "out", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        match = re.search(r"look at (http://127\.0\.0\.1:\d+/)", line)
        assert match is not None, line
        deadline = time.monotonic() + 60
        while live_frames(match[1]) < 5:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and err == ""
    frames = json.loads(out)["frames"]
    assert frames >= 5
    with BagImages(tmp_path / "out", "/deeplab/drivable_mask") as source:
        assert source.total == frames == len(list(source)) and source.warnings == []
    assert os.path.isfile("out/metadata.yaml")


def live_frames(url: str) -> int:
    with urllib.request.urlopen(f"{url}stats.json", timeout=10) as response:
        return int(json.loads(response.read())["frames"])


def test_a_camera_that_ends_is_told(
    program: list[str],
    camera: HttpCamera,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "deeplab_rt.streams.live_camera.LiveCamera.__init__.__defaults__", (5.0, 0.5)
    )
    threading.Timer(1.0, camera.stop).start()
    assert main([*program, "--device", camera.url, "--view", "none"]) == 0
    out, err = capsys.readouterr()
    assert "stopped, and gave no frame for 0.5 s more" in err and " frames, " in out


def test_a_recording_is_not_recorded_over_itself(
    program: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = write_video(tmp_path / "d.mp4", 3).read_bytes()
    os.link("d.mp4", "other.mcap")
    for name in ("d.mp4", "other.mcap"):
        record = ["--record", name, "--overwrite", "--view", "none"]
        assert main([*program, "--device", "d.mp4", *record]) == 1
        err = capsys.readouterr().err
        assert f"{name}: is the input d.mp4" in err and err.count("\n") == 1
    assert Path("d.mp4").read_bytes() == Path("other.mcap").read_bytes() == content
