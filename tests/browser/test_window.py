"""The window on a real X display (Xvfb), with real key presses (xdotool)."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from deeplab_rt.labels import LabelSet
from deeplab_rt.models import Model
from deeplab_rt.streams.window import text_strip
from tests.conftest import REPOSITORY
from tests.unit.streams.media import HttpCamera

needs_display = pytest.mark.skipif(
    not (shutil.which("Xvfb") and shutil.which("xdotool")),
    reason="no Xvfb or xdotool here (Debian: apt install xvfb xdotool)",
)
HEIGHT, WIDTH = 480, 640


class Display:
    """An X server without a screen, whose pixels lie in a file."""

    def __init__(self, folder: Path) -> None:
        reading, writing = os.pipe()
        self._folder = folder
        self._server = subprocess.Popen(
            [
                "Xvfb",
                "-displayfd",
                str(writing),
                "-noreset",
                "-screen",
                "0",
                "1400x700x24",
                "-fbdir",
                folder,
            ],
            pass_fds=[writing],
            stderr=subprocess.DEVNULL,
        )
        os.close(writing)
        with open(reading) as answer:  # to the end of the line: it comes in pieces
            self.name = ":" + answer.readline().strip()

    def pixel(self, x: int, y: int) -> tuple[int, int, int]:
        """RGB of the screen, from the framebuffer's XWD file."""
        content = (self._folder / "Xvfb_screen0").read_bytes()
        header = struct.unpack_from(">25I", content)
        begin = header[0] + 12 * header[19] + y * header[12] + 4 * x
        blue, green, red = content[begin : begin + 3]
        return red, green, blue

    def tool(self, *arguments: str) -> str:
        """What xdotool says."""
        return subprocess.run(
            ["xdotool", *arguments],
            env={**os.environ, "DISPLAY": self.name},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        ).stdout

    def press(self, key: str) -> None:
        """As a person does: OpenCV keeps one key, and a second one too soon takes its place."""
        self.tool("key", key)
        time.sleep(1)

    def close(self) -> None:
        self._server.terminate()
        self._server.wait(30)


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.fixture
def display(tmp_path: Path) -> Iterator[Display]:
    folder = tmp_path / "screen"
    folder.mkdir()
    display = Display(folder)
    yield display
    display.close()


@pytest.fixture
def start(
    display: Display, palette_model: Model, tmp_path: Path
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts ``webcam`` on the display, its window in the focus."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "deeplab_rt", "webcam", "--backend", "cpu"]
        command += ["--model", str(palette_model.directory), *arguments]
        environment = {**os.environ, "DISPLAY": display.name, "PYTHONPATH": str(REPOSITORY)}
        environment.pop("WAYLAND_DISPLAY", None)
        started.append(
            subprocess.Popen(
                command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
        until(
            lambda: (
                display.tool("search", "--onlyvisible", "--name", "^deeplab_rt$")
                or started[-1].poll() is not None
            ),
            "a window",
        )
        if started[-1].poll() is not None:
            pytest.fail(f"no window: {started[-1].communicate()}")
        window = display.tool("search", "--onlyvisible", "--name", "^deeplab_rt$").split()[0]
        display.tool("windowfocus", "--sync", window)
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate(timeout=30)


@needs_display
def test_the_keys_of_a_recording(
    start: Callable[..., subprocess.Popen[str]],
    display: Display,
    tmp_path: Path,
    camvid11: LabelSet,
) -> None:
    """Three images, told apart by their sky's height, over road; the model knows both colours."""
    folder = tmp_path / "drive"
    folder.mkdir()
    colors = {name: camvid11.labels[camvid11.index(name)].color for name in ("sky", "road")}
    for index in range(3):
        image = np.full((HEIGHT, WIDTH, 3), colors["road"][::-1], np.uint8)
        image[: 100 * (index + 1)] = colors["sky"][::-1]
        cv2.imwrite(str(folder / f"{index}.png"), image)
    process = start("--device", "drive", "--loop")

    def shows(x: int, y: int, name: str) -> Callable[[], bool]:
        return lambda: bool(np.abs(np.subtract(display.pixel(x, y), colors[name])).max() < 8)

    display.press("space")
    display.press("Home")
    until(shows(50, 150, "road"), "the first image")
    display.press("Right")
    until(lambda: shows(50, 150, "sky")() and shows(50, 250, "road")(), "the second")
    display.press("End")
    until(shows(50, 250, "sky"), "the third")
    display.press("comma")
    until(shows(50, 250, "road"), "the second again")
    display.press("s")
    until((tmp_path / "1.labels.png").exists, "a still")
    saved = cv2.imread(str(tmp_path / "1.labels.png"), cv2.IMREAD_UNCHANGED)
    assert saved.shape == (HEIGHT, WIDTH) and saved[50, 50] == camvid11.index("sky") + 1
    display.press("b")
    until(
        lambda: (
            "1280x"
            in display.tool(
                "search", "--onlyvisible", "--name", "^deeplab_rt$", "getwindowgeometry"
            )
        ),
        "two",
    )
    display.press("q")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and err == ""
    assert re.search(r"\d+ frames, 0 dropped", out)


@needs_display
def test_the_keys_of_a_camera(
    start: Callable[..., subprocess.Popen[str]], display: Display
) -> None:
    with HttpCamera(size=(HEIGHT, WIDTH)) as camera:
        process = start("--device", camera.url, "--view", "window")
        seen: set[tuple[int, int, int]] = set()
        until(lambda: seen.add(display.pixel(320, 240)) or len(seen) > 3, "a moving image")
        display.press("space")
        frozen = display.pixel(320, 240)
        time.sleep(0.5)
        assert display.pixel(320, 240) == frozen
        display.press("b")  # beside it the image alone, of the same frame
        until(lambda: display.pixel(960, 240) == frozen, "side by side")
        display.press("space")
        until(lambda: seen.add(display.pixel(320, 240)) or len(seen) > 6, "it goes on")
        display.press("Escape")
        process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize("text", ["30.1 fps  4.9 ms  0 dropped", "paused at frame 12 of 300"])
def test_the_letters_of_the_status_do_not_run_into_one_another(text: str) -> None:
    """A dark outline under the letters was spaced otherwise than they, and stuck out by a third."""
    strip = text_strip([(text,)], 400)
    ink = np.flatnonzero(np.abs(strip.astype(int) - strip[0, 0]).max(axis=(0, 2)) > 40)
    width = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0]
    assert abs(ink[-1] - ink[0] - width) < 8 and strip.max() > 200
    assert set(strip[0].ravel()) == {24}
