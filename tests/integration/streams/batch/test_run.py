"""Jobs in turn and in processes: the same masks, one broken file told, none lost."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from deeplab_rt.models import Model
from tests.integration.streams.batch.drives import (
    environment,
    outputs,
    program,
    run,
    write_broken,
    write_drives,
)
from tests.unit.streams.media import write_video


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_drives(tmp_path / "in", 4, frames=6)
    write_broken(tmp_path / "in")
    return tmp_path


def test_processes_and_shards_make_what_one_process_makes(
    palette_model: Model, place: Path
) -> None:
    model = palette_model.directory
    alone = run(["in", "--out-dir", "one", "--keep-going"], model, place, code=1)
    lines = alone.stderr.splitlines()
    assert len([line for line in lines if "failed: in/b_" in line]) == 3
    assert alone.stdout == "7 recordings: 4 done, 0 skipped, 3 failed, 0 interrupted; in one\n"
    run(["in", "--out-dir", "two", "--keep-going", "--jobs", "2"], model, place, code=1)
    for shard in ("1/3", "2/3", "3/3"):
        arguments = ["in", "--out-dir", "three", "--keep-going", "--shard", shard]
        run(arguments, model, place, code=1)
    assert len(outputs(place / "one")) == 4
    assert outputs(place / "two") == outputs(place / "three") == outputs(place / "one")


def test_without_keep_going_the_first_failure_ends_the_job(
    palette_model: Model, place: Path
) -> None:
    (place / "in" / "a00.mp4").write_bytes(b"broken")
    done = run(["in", "--out-dir", "out", "--json"], palette_model.directory, place, code=1)
    result = json.loads(done.stdout)
    assert (result["inputs"], result["failed"], result["done"]) == (7, 1, 0)
    assert outputs(place / "out") == {}


@pytest.mark.parametrize(("jobs", "number"), [("1", signal.SIGINT), ("2", signal.SIGTERM)])
def test_ctrl_c_ends_the_job_and_it_can_be_resumed(
    palette_model: Model, tmp_path: Path, jobs: str, number: signal.Signals
) -> None:
    (tmp_path / "in").mkdir()
    for index in range(2):
        write_video(tmp_path / "in" / f"{index}.mp4", 400, size=(480, 640))
    arguments = ["in", "--out-dir", "out", "--jobs", jobs, "--json"]
    with subprocess.Popen(
        program(arguments, palette_model.directory),
        cwd=tmp_path,
        env=environment(tmp_path / "cache"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        bags = tmp_path / "out"
        deadline = time.monotonic() + 120
        while not any(bag.stat().st_size > 20_000 for bag in bags.glob("*/masks.mcap")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        _, err = process.communicate(timeout=180)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert not psutil.wait_procs(children, timeout=60)[1]
    result = json.loads(run([*arguments, "--resume"], palette_model.directory, tmp_path).stdout)
    assert (result["done"], result["frames"]) == (2, 800)
    assert sum(file["resumed"] for file in result["files"].values()) > 0


def test_a_killed_program_leaves_no_processes(palette_model: Model, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for index in range(2):
        write_video(tmp_path / "in" / f"{index}.mp4", 600, size=(480, 640))
    with subprocess.Popen(
        program(["in", "--out-dir", "out", "--jobs", "2"], palette_model.directory),
        cwd=tmp_path,
        env=environment(tmp_path / "cache"),
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "out").glob("*/masks.mcap")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert len(children) >= 2 and not alive


def test_a_killed_worker_is_told(palette_model: Model, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for index in range(2):
        write_video(tmp_path / "in" / f"{index}.mp4", 600, size=(480, 640))
    with subprocess.Popen(
        program(["in", "--out-dir", "out", "--jobs", "2"], palette_model.directory),
        cwd=tmp_path,
        env=environment(tmp_path / "cache"),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "out").glob("*/masks.mcap")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        worker = next(
            child
            for child in psutil.Process(process.pid).children()
            if "spawn_main" in " ".join(child.cmdline())
        )
        os.kill(worker.pid, signal.SIGKILL)
        _, err = process.communicate(timeout=180)
    assert process.returncode == 1 and "Traceback" not in err
    assert "one of the 2 processes was killed" in err and "--resume" in err
    assert multiprocessing.active_children() == []
