"""Small recordings in a folder, some of them broken, and the program run on them."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2

from tests.unit.streams.media import numbered, numbered_messages, write_bag, write_video

REPOSITORY = Path(__file__).resolve().parents[4]


def write_drives(folder: Path, count: int, frames: int = 24) -> None:
    """Videos, bags and image folders in turns, named ``a00``, ``a01`` ..."""
    folder.mkdir()
    for index in range(count):
        place = folder / f"a{index:02d}"
        if index % 3 == 0:
            write_video(place.with_suffix(".mp4"), frames)
        elif index % 3 == 1:
            write_bag(place, {"/image": numbered_messages(frames)})
        else:
            place.mkdir()
            for number in range(frames):
                cv2.imwrite(str(place / f"{number}.png"), numbered(number))


def write_broken(folder: Path) -> None:
    """Three inputs that are broken in different ways."""
    (folder / "b_empty.mp4").write_bytes(b"")
    (folder / "b_noise.mcap").write_bytes(random.Random(0).randbytes(5000))
    write_bag(folder / "b_points", {"/image": []})


def program(arguments: Sequence[str], model: Path) -> list[str]:
    """The command line of a replay with a small model on the CPU."""
    head = [sys.executable, "-m", "deeplab_rt", "replay", "--model", str(model), "--backend", "cpu"]
    return [*head, *arguments]


def environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "DEEPLAB_RT_CACHE": str(cache)}


def run(
    arguments: Sequence[str], model: Path, place: Path, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run a replay in a process of its own, to its end."""
    done = subprocess.run(
        program(arguments, model),
        cwd=place,
        env=environment(place / "cache"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def kill_at_random(
    arguments: Sequence[str], model: Path, place: Path, out: Path, moment_s: float
) -> bool:
    """Begin a replay, and kill it so long after it began to write; False if it ended before."""
    before = _newest(out)
    return kill_when(arguments, model, place, lambda: _newest(out) != before, moment_s)


def kill_when(
    arguments: Sequence[str],
    model: Path,
    place: Path,
    condition: Callable[[], bool],
    moment_s: float = 0.0,
) -> bool:
    """Begin a replay, and kill it so long after a condition holds; False if it ended before."""
    with subprocess.Popen(
        program(arguments, model),
        cwd=place,
        env=environment(place / "cache"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 120
        while process.poll() is None and not condition():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(moment_s)
        if process.poll() is not None:
            return False
        process.send_signal(signal.SIGKILL)
        return process.wait() == -signal.SIGKILL


def _newest(out: Path) -> int:
    """When something below a folder was last written."""
    newest = 0
    for folder, _, files in os.walk(out):
        for name in (folder, *(os.path.join(folder, file) for file in files)):
            try:
                newest = max(newest, os.stat(name).st_mtime_ns)
            except FileNotFoundError:
                continue  # it was renamed meanwhile
    return newest


def outputs(out: Path) -> dict[str, str]:
    """Name -> SHA-256 of every output; the records, which hold times, are left out."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.suffix != ".json"
    }
