"""The tests for a real GPU, run over the doubles: they must work when somebody first has one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]


def run(**environment: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "tests/gpu"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def test_gpu_tests_pass_over_the_emulation() -> None:
    pytest.importorskip("cuda.bindings.driver", reason="cuda-python is not installed")
    passed = re.search(r"(\d+) passed", run(DEEPLAB_RT_EMULATED_GPU="1"))
    assert passed and int(passed[1]) >= 20


def test_gpu_tests_are_skipped_with_a_reason_without_a_gpu() -> None:
    text = run(CUDA_VISIBLE_DEVICES="", DEEPLAB_RT_EMULATED_GPU="")
    assert "these tests need a GPU: " in text and "passed" not in text
