"""What a stream measures of itself."""

from __future__ import annotations

import pytest

from deeplab_rt.streams.base import Recording
from deeplab_rt.streams.stats import RunStats


def test_percentiles_of_every_stage_and_counts() -> None:
    source = Recording("drive", None, None)
    stats = RunStats(source)  # type: ignore[arg-type]  # nothing is read from it
    for ms in range(1, 101):
        stats.add({"network": float(ms), "total": 2.0 * ms})
    source.skip(100, "damaged")
    report = stats.report()
    assert report["frames"] == 100 and report["dropped"] == 1
    assert report["latency_ms"]["network"] == {"p50": 50.5, "p99": pytest.approx(99.01)}
    assert report["latency_ms"]["total"]["p50"] == 101.0


def test_live_figures_are_of_the_newest_frames() -> None:
    stats = RunStats(Recording("drive", None, None))  # type: ignore[arg-type]
    assert stats.live().fps == 0 and stats.live().latency_ms == 0
    for ms in [1000.0] * 100 + [10.0] * 100:
        stats.add({"total": 5.0, "age": ms})
    live = stats.live()
    assert live.frames == 200 and live.latency_ms == 10.0 and live.fps > 0
    assert "10.0 ms" in stats.line()
