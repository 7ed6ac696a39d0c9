"""How far a stream is."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios

import pytest

from deeplab_rt import progress
from deeplab_rt.streams.base import Recording
from deeplab_rt.streams.progress import Progress
from deeplab_rt.streams.stats import RunStats


def test_a_line_now_and_then_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    source = Recording("drive", 100, None)
    stats = RunStats(source)  # type: ignore[arg-type]
    shown = Progress(source)  # type: ignore[arg-type]
    for _ in range(50):
        now += 0.5
        stats.add({"total": 3.0})
        shown(stats)
    shown.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(",")[0] for line in err.splitlines()] == [
        "20 of 100 frames",
        "40 of 100 frames",
    ]


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = pty.openpty()
    os.set_blocking(reader, False)
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with os.fdopen(writer, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        source = Recording("drive", 4, None)
        stats = RunStats(source)  # type: ignore[arg-type]
        shown = Progress(source)  # type: ignore[arg-type]
        for _ in range(4):
            stats.add({"total": 3.0})
            shown(stats)
        shown.close()
        terminal.flush()
        assert b"0/4" in os.read(reader, 65536)
    os.close(reader)
