"""kill -9 of whatever writes, at a random moment: what was written up to the last second is readable."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
from mcap.reader import NonSeekingReader
from rosbags.rosbag2 import Reader

from tests.fuzz import corpus
from tests.fuzz.outcome import Outcome, run_program
from tests.fuzz.pool import Case

TOPIC = "/deeplab/label_mask"
OUTPUTS = (
    "masks.mcap",
    "directory",
    "masks.db3",
    "recorded.mcap",
    "masks",
    "overlay.mp4",
    "overlay.mkv",
    "overlay.mov",
)
MOMENTS = 10
LATEST_S = 5.0
START_S = 120.0


def kill(case: Case, folder: Path) -> Outcome:
    """Start a writer, kill it, and read what it has left, as others do and as this program does."""
    name = OUTPUTS[case.index % len(OUTPUTS)]
    output = Path("out") / name
    output.parent.mkdir()
    written = _killed(output, 1.0 + case.rng().random() * (LATEST_S - 1.0))
    if written < 0:
        return Outcome("unclear", f"{name}: the writer wrote nothing within {START_S:.0f} s")
    for reader, read in _READERS[output.suffix or name].items():
        try:
            found = read(output, folder)
        except Exception as error:  # of another project's reader, on a file that it cannot read
            return Outcome("silent loss", f"{name} by {reader}: {type(error).__name__}: {error}")
        if found < written:
            return Outcome("silent loss", f"{name} by {reader}: {found} of {written} frames")
    return _next_run(output, folder) or Outcome("whole", f"{name}: {written} frames and more")


def _killed(output: Path, after_s: float) -> int:
    """Frames that a writer had written a second before it was killed; -1 if it wrote none at all."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fuzz.writer", str(output.absolute())],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    times: list[float] = []

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with contextlib.suppress(ValueError, IndexError):  # a line cut by the kill
                times.append(float(line.split()[1]))

    thread = threading.Thread(target=listen)
    thread.start()
    end = time.monotonic() + START_S
    while not times and time.monotonic() < end and process.poll() is None:
        time.sleep(0.01)
    time.sleep(after_s)
    killed = time.monotonic()
    process.send_signal(signal.SIGKILL)
    process.wait()
    thread.join()
    return sum(moment <= killed - 1.0 for moment in times) if times else -1


def _bag_file(output: Path) -> Path:
    return next(output.glob("*.mcap")) if output.is_dir() else output


def _by_mcap(output: Path, folder: Path) -> int:
    """mcap's own reader from the front, as ``mcap recover`` does."""
    count = 0
    with _bag_file(output).open("rb") as stream, contextlib.suppress(Exception):
        for _, channel, _ in NonSeekingReader(stream).iter_messages(log_time_order=False):
            count += channel.topic == TOPIC
    return count


def _by_sqlite(output: Path, folder: Path) -> int:
    with contextlib.closing(sqlite3.connect(output)) as database:
        query = "SELECT count(*) FROM messages JOIN topics ON topics.id = topic_id WHERE topics.name = ?"
        return int(database.execute(query, [TOPIC]).fetchone()[0])


def _by_replay(output: Path, folder: Path) -> int:
    """This program, which makes a whole bag of it; rosbags reads that."""
    repaired = Path("repaired.mcap")
    arguments: list[Any] = ["replay", output, "--topic", TOPIC, "-o", repaired, "--json"]
    run = run_program([*arguments, "--model", corpus.model(folder), "--backend", "cpu"])
    if run.failure() or run.code:
        raise RuntimeError(run.trace or run.err)
    with Reader(repaired) as reader:
        counts = [c.msgcount for c in reader.connections if c.topic == TOPIC]
    if sum(counts) != run.result["frames"]:
        raise RuntimeError(f"rosbags reads {sum(counts)} of {run.result['frames']} frames")
    return int(run.result["frames"])


def _by_player(output: Path, folder: Path) -> int:
    """FFmpeg's decoder; the file that has not got its name yet is the only one there."""
    (file,) = [path for path in output.parent.iterdir() if path.suffix == output.suffix]
    count = 0
    with av.open(str(file)) as container, contextlib.suppress(av.FFmpegError):
        for _ in container.decode(video=0):
            count += 1
    return count


def _by_opencv(output: Path, folder: Path) -> int:
    images = [cv2.imread(str(p), cv2.IMREAD_UNCHANGED) for p in output.glob("[0-9]*.labels.png")]
    if any(image is None for image in images):
        raise RuntimeError("an image that has its name is not whole")
    return len(images)


_READERS: dict[str, dict[str, Callable[[Path, Path], int]]] = {
    ".mcap": {"mcap": _by_mcap, "deeplab_rt and rosbags": _by_replay},
    "directory": {"mcap": _by_mcap, "deeplab_rt and rosbags": _by_replay},
    ".db3": {"deeplab_rt and rosbags": _by_replay, "sqlite3": _by_sqlite},
    "masks": {"OpenCV": _by_opencv},
    ".mp4": {"FFmpeg": _by_player},
    ".mkv": {"FFmpeg": _by_player},
    ".mov": {"FFmpeg": _by_player},
}


def _next_run(output: Path, folder: Path) -> Outcome | None:
    """What is wrong with the next run into the same output: what was left hidden has to be told."""
    places = [output.parent, *([output] if output.is_dir() else [])]
    hidden = [path for place in places for path in place.iterdir() if path.name.startswith(".")]
    source = corpus.video("mkv", folder)
    option = {"masks": "--masks", ".mp4": "--overlay", ".mkv": "--overlay", ".mov": "--overlay"}
    kind = option.get(output.suffix or output.name, "-o")
    arguments: list[Any] = ["replay", source, kind, output, "--overwrite", "--json"]
    run = run_program([*arguments, "--model", corpus.model(folder), "--backend", "cpu"])
    if outcome := run.failure():
        return outcome
    if run.code and "not replaced" in run.err:
        return None  # a directory without metadata.yaml may hold anything: told, and left alone
    if run.code:
        return Outcome("unclear", f"the next run into {output} fails: {run.err}")
    told = f"{run.err} {run.result.get('warnings')}"
    untold = [p.name for p in hidden if p.exists() and p.name not in told]
    if untold or (hidden and "killed" not in told):
        return Outcome("unclear", f"left hidden and not told: {untold or hidden}; {told[-500:]}")
    return None
