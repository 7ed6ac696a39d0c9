"""The unit tier starts no processes, and what keeps it so is shown to work."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY

TESTS = """
import os, subprocess, sys

def test_quiet():
    pass

def test_started():
    subprocess.run([sys.executable, "-c", ""], check=True)

def test_shell():
    os.system("true")
"""


def test_a_unit_test_that_starts_a_process_fails(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "tests" / "unit" / "conftest.py", tmp_path / "conftest.py")
    (tmp_path / "test_them.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert "3 passed, 2 errors" in result.stdout
    assert "move it to tests/integration" in result.stdout
