"""The window viewer. A display is on no test machine: what is tested is that its absence is told."""

from __future__ import annotations

import pytest

from deeplab_rt.streams.window import no_display


def test_no_display_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    reason = no_display()
    assert reason is not None and "DISPLAY is not set" in reason


def test_a_display_that_does_not_answer_does_not_end_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DISPLAY", ":987")
    assert no_display() == "the display :987 takes no window"
