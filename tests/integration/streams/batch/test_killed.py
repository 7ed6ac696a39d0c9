"""A job of many recordings, some broken, killed again and again: as if nothing had happened."""

from __future__ import annotations

import json
import random
from pathlib import Path

from deeplab_rt.models import Model
from tests.integration.streams.batch.drives import (
    kill_at_random,
    outputs,
    run,
    write_broken,
    write_drives,
)

KILLS = 10


def test_killed_ten_times_gives_the_same_bytes(palette_model: Model, tmp_path: Path) -> None:
    """20 files, 3 of them broken; every run is a fresh process, the undisturbed one too."""
    write_drives(tmp_path / "in", 17)
    write_broken(tmp_path / "in")
    model = palette_model.directory
    options = ["in", "--keep-going", "--resume", "--masks", "--overlay", "--json"]
    moments = random.Random(20)
    killed = 0
    for _ in range(KILLS):
        arguments = [*options, "--out-dir", "killed"]
        moment_s = moments.uniform(0, 0.5)
        killed += kill_at_random(arguments, model, tmp_path, tmp_path / "killed", moment_s)
    assert killed == KILLS  # otherwise the job is too small for this machine

    last = json.loads(run([*options, "--out-dir", "killed"], model, tmp_path, code=1).stdout)
    whole = json.loads(run([*options, "--out-dir", "whole"], model, tmp_path, code=1).stdout)
    assert last["done"] + last["skipped"] == whole["done"] == 17
    assert last["failed"] == whole["failed"] == 3 and last["inputs"] == 20
    assert last["frames"] == whole["frames"] == 17 * 24
    for name in ("b_empty", "b_noise", "b_points"):
        assert whole["files"][name]["error"].startswith(f"in/{name}")
    made, expected = outputs(tmp_path / "killed"), outputs(tmp_path / "whole")
    assert made == expected
    # A bag, a video, and three PNG files a frame, for each; nothing unfinished is left.
    assert len(made) == 17 * (1 + 1 + 3 * 24)
    assert not list((tmp_path / "killed").glob("*.unfinished"))
