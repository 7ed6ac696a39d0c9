"""Unit tests run in this process alone: whoever starts another one belongs to another tier."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

_STARTING = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}
_started: list[str] = []


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event in _STARTING:
        _started.append(f"{event} {arguments}"[:200])


sys.addaudithook(_note)


@pytest.fixture(autouse=True)
def _no_process() -> Iterator[None]:
    _started.clear()
    yield
    assert not _started, f"a unit test starts a process: {_started}; move it to tests/integration"
