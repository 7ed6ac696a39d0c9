"""What a figure was measured on."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from deeplab_rt.bench import machine


def test_names_the_machine_and_the_versions_that_are_here() -> None:
    described = machine.describe()
    assert described["cores"] == len(os.sched_getaffinity(0))
    assert described["versions"]["numpy"] == np.__version__
    assert "no-such-package" not in described["versions"]
    assert json.loads(json.dumps(described)) == described
    text = machine.in_words(described)
    assert described["cpu"] in text
    assert f"numpy {np.__version__}" in text
    assert "\n" not in text


def test_a_machine_without_proc_is_described_too(tmp_path: Path) -> None:
    described = machine.describe(tmp_path / "cpuinfo")
    assert described["cpu"]
    assert described["flags"] == []


@pytest.mark.parametrize(("load", "busy"), [(0.1, False), (3.2, True)])
def test_warns_of_other_work(monkeypatch: pytest.MonkeyPatch, load: float, busy: bool) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    text = machine.warning()
    assert (text is not None) == busy
    assert text is None or "load 3.2" in text
