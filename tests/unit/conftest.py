"""Unit tests run in this process alone: whoever starts another one belongs to another tier."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

_STARTING = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}
_started: list[str] = []


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event in _STARTING and not _is_telemetry():
        _started.append(f"{event} {arguments}"[:200])


def _is_telemetry() -> bool:
    """Whether OpenVINO's own usage statistics fork: no test asked for that."""
    frame = sys._getframe(2)
    while frame is not None:
        if "openvino_telemetry" in frame.f_code.co_filename:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


sys.addaudithook(_note)


@pytest.fixture(autouse=True)
def _no_process() -> Iterator[None]:
    _started.clear()
    yield
    assert not _started, f"a unit test starts a process: {_started}; move it to tests/integration"
