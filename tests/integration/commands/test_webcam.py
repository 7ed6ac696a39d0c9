"""``deeplab_rt webcam``, as a user runs it, with a live camera on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import aiohttp
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


def test_without_a_display_it_says_so_and_shows_the_page(
    program: list[str], camera: HttpCamera, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*program, "--device", camera.url, "--seconds", "0.2"]) == 0
    out, err = capsys.readouterr()
    assert "no window: there is no display" in err and "here is a page instead" in err
    assert re.search(r"look at http://127\.0\.0\.1:\d+/\n", err)
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
        asyncio.run(watch(match[1], 5))
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and err == ""
    frames = json.loads(out)["frames"]
    assert frames >= 5
    with BagImages(tmp_path / "out", "/deeplab/drivable_mask") as source:
        assert source.total == frames == len(list(source)) and source.warnings == []
    assert os.path.isfile("out/metadata.yaml")


async def watch(url: str, count: int) -> list[int]:
    """The indices of so many frames, as a page gets them."""
    indices = []
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{urljoin(url, 'ws')}?{urlsplit(url).query}") as socket,
    ):
        while len(indices) < count:
            message = await socket.receive(timeout=60)
            if message.type is aiohttp.WSMsgType.BINARY:
                length = int.from_bytes(message.data[:4], "little")
                header = json.loads(message.data[4 : 4 + length])
                indices.append(header["index"])
                await socket.send_json({"do": "ack"})
        assert header["confidence"][2] > 0  # made once somebody looks
    return indices


def test_a_camera_that_ends_is_told_and_is_no_success(
    program: list[str], camera: HttpCamera, capsys: pytest.CaptureFixture[str]
) -> None:
    threading.Timer(1.0, camera.stop).start()
    assert main([*program, "--device", camera.url, "--view", "none"]) == 1
    out, err = capsys.readouterr()
    assert "stopped, and gave no frame for 5 s more" in err and "--wait" in err
    assert " frames, " in out


def test_a_camera_is_waited_for_however_long(
    program: list[str], camera: HttpCamera, capsys: pytest.CaptureFixture[str]
) -> None:
    camera.stop()
    threading.Timer(1.0, camera.resume).start()
    wait = ["--view", "none", "--wait", "--frames", "3", "--json"]
    assert main([*program, "--device", camera.url, *wait]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 3


def test_a_page_on_the_network_has_a_token_and_a_warning(
    program: list[str], tmp_path: Path
) -> None:
    write_video(tmp_path / "a.mp4", 5)
    command = [sys.executable, "-m", "deeplab_rt", *program, "--device", "a.mp4", "--loop"]
    command += ["--host", "0.0.0.0", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "warning: the page is open to the network" in process.stderr.readline()
        match = re.search(r"look at (http://\S+/\?token=\S+)\n", process.stderr.readline())
        assert match is not None
        indices = asyncio.run(watch(match[1], 12))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert sorted(set(indices)) == [0, 1, 2, 3, 4] and process.returncode == 0  # again and again


def test_a_port_that_is_taken_is_one_clear_line(
    program: list[str], camera: HttpCamera, capsys: pytest.CaptureFixture[str]
) -> None:
    port = urlsplit(camera.url).port
    assert main([*program, "--device", camera.url, "--port", str(port)]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "give another --port" in err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--view", "window", "--port", "1"], "--host and --port are of the page"),
        (["--view", "none", "--host", "0.0.0.0"], "--host and --port are of the page"),
        (["--device", "0", "--view", "none", "--loop"], "--loop is for recordings"),
        (["--view", "none", "--wait"], "--wait is for cameras"),
        (["--view", "none", "--loop", "--record", "o.mcap"], "would run backwards"),
        (["--host", "no.such.host.invalid"], "no such address"),
        (["--device", "a ! b", "--view", "none"], "built without GStreamer"),
        (["--device", "rtsp://127.0.0.1:9/x", "--view", "none"], "--rtsp-transport udp"),
        (["--device", "rtsp://u:secret@127.0.0.1:9/x", "--view", "none"], "u:***@"),
    ],
)
def test_what_does_not_go_together_is_one_clear_line(
    program: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    reason: str,
) -> None:
    write_video(tmp_path / "a.mp4", 5)
    assert main([*program, "--device", "a.mp4", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and reason in err and "secret" not in err


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
