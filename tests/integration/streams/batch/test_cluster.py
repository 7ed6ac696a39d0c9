"""Many recordings on Ray: a real local cluster of two workers, one of which is killed twice."""

from __future__ import annotations

import builtins
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from deeplab_rt.errors import StreamError
from deeplab_rt.models import Model
from deeplab_rt.streams.batch.cluster import on_cluster
from deeplab_rt.streams.batch.job import Mode
from deeplab_rt.streams.settings import ReplaySettings
from tests.integration.streams.batch.drives import (
    environment,
    outputs,
    program,
    run,
    write_broken,
    write_drives,
)

# Two workers, whatever the machine has; the rest is the program as it is.
DRIVER = """
import sys
import ray
from deeplab_rt.commands import main
ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
sys.exit(main(sys.argv[1:]))
"""
TASK = "ray::_run_on_cluster"


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    deadline = time.monotonic() + 180
    while not (found := condition()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    return found


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The workers that run a task now."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if child.cmdline()[:1] == [TASK]:
                found.append(child)
        except psutil.Error:
            continue  # it ended meanwhile
    return found


def test_a_worker_killed_twice_loses_nothing_and_doubles_nothing(
    palette_model: Model, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    write_drives(tmp_path / "in", 17, frames=40)
    write_broken(tmp_path / "in")
    model, out = palette_model.directory, tmp_path / "out"
    arguments = ["in", "--keep-going", "--masks", "--json", "--out-dir"]
    command = program([*arguments, "out", "--ray", "local"], model)
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, *command[3:]],
        cwd=tmp_path,
        env=environment(tmp_path / "cache"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for done in (1, 4):
            wait_for(lambda: len(list(out.glob("*.json"))) >= done, process)  # noqa: B023
            victim = wait_for(lambda: workers(process), process)[0]
            victim.send_signal(signal.SIGKILL)
        printed, err = process.communicate(timeout=300)
    assert process.returncode == 1 and "Traceback" not in err, err
    result = json.loads(printed)
    assert (result["inputs"], result["failed"]) == (20, 3)
    assert result["done"] + result["skipped"] == 17 and result["frames"] == 17 * 40
    assert len([line for line in err.splitlines() if line.startswith("[")]) == 17
    assert not list(out.glob("*.unfinished"))

    run([*arguments, "whole"], model, tmp_path, code=1)
    made = outputs(out)
    assert made == outputs(tmp_path / "whole") and len(made) == 17 * (1 + 3 * 40)
    # What is done is done for every way of running it.
    again = json.loads(run([*arguments, "out", "--jobs", "2"], model, tmp_path, code=1).stdout)
    assert (again["done"], again["skipped"]) == (0, 17)


def test_without_ray_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def lacking(name: str, *args: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return original(name, *args)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(StreamError, match=r"pip install '\.\[fleet\]'"):
        next(on_cluster([], ReplaySettings(), Mode(), "local"))


def test_no_cluster_at_that_address(palette_model: Model, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    write_drives(tmp_path / "in", 1, frames=2)
    arguments = ["in", "--out-dir", "out", "--ray", "auto"]
    done = run(arguments, palette_model.directory, tmp_path, code=1)
    assert "no Ray cluster at auto" in done.stderr
