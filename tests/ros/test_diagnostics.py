"""The judgement of a camera's health."""

from __future__ import annotations

import time

import pytest

from deeplab_rt.ros.diagnostics import ERROR, OK, WARN, CameraReport, CameraStats, Status

NOW = 1_000_000_000_000


def report_of(stats: CameraStats, **changes: object) -> Status:
    arguments = {
        "listening": True,
        "now_ns": NOW,
        "max_age_ms": 0.0,
        "expected_rate_hz": 0.0,
        **changes,
    }
    return CameraReport("camera", stats).make(**arguments)  # type: ignore[arg-type]


def healthy() -> CameraStats:
    stats = CameraStats()
    for _ in range(10):
        stats.count("received")
        stats.count("published")
        stats.time({"network": 12.0, "latency": 20.0})
    stats.newest_stamp_ns = NOW - 20_000_000
    return stats


def test_health() -> None:
    status = report_of(healthy())
    assert (status.level, status.message) == (OK, "ok")
    assert status.values["received"] == status.values["published"] == "10"
    assert status.values["age of newest mask (ms)"] == "20.0"
    assert status.values["network p50 (ms)"] == "12.00"


def test_silence() -> None:
    stats = healthy()
    stats.last_received = time.monotonic() - 7
    status = report_of(stats)
    assert (status.level, status.message) == (ERROR, "no frame for 7.0 s")
    assert report_of(stats, listening=False).level == OK


@pytest.mark.parametrize(
    ("what", "level", "text"),
    [
        ("bad", WARN, "3 bad frames"),
        ("late", WARN, "3 frames dropped as older than 100 ms"),
        ("stale", WARN, "3 frames dropped as older than 100 ms"),
        ("lost", WARN, "3 frames lost by the transport"),
        ("replaced", OK, "ok"),
    ],
)
def test_what_is_counted_is_judged(what: str, level: int, text: str) -> None:
    stats = healthy()
    stats.count(what, 3)
    status = report_of(stats, max_age_ms=100.0)
    assert status.level == level
    assert text in status.message
    assert status.values[what] == "3"


def test_old_masks_and_stamps_ahead_of_the_clock() -> None:
    stats = healthy()
    assert report_of(stats, max_age_ms=10.0).message == "the newest mask is 20 ms old"
    assert report_of(stats, max_age_ms=10.0).level == ERROR
    status = report_of(stats, now_ns=NOW - 1_000_000_000)
    assert status.level == WARN
    assert status.message == "stamps lie 980 ms in the future: are the clocks synchronised?"


def test_only_what_is_new_is_judged() -> None:
    stats = healthy()
    report = CameraReport("camera", stats)
    stats.count("bad")
    assert report.make(True, NOW, 0.0, 0.0).level == WARN
    assert report.make(True, NOW, 0.0, 0.0).level == OK


def test_rate_below_what_is_expected() -> None:
    report = CameraReport("camera", healthy())
    assert report.make(True, NOW, 0.0, 5.0).level == OK
    status = report.make(True, NOW, 0.0, 5.0)
    assert (status.level, status.message) == (WARN, "0.0 masks a second, expected 5")


def test_counts_add_up() -> None:
    stats = healthy()
    for what in ("replaced", "stale", "late", "discarded"):
        stats.count("received")
        stats.count(what)
    stats.count("received")
    stats.count("bad")
    counts = stats.counts()
    assert counts["dropped"] == 4
    assert counts["received"] == counts["published"] + counts["dropped"] + counts["bad"]


def test_silence_is_explained() -> None:
    stats = healthy()
    stats.last_received = time.monotonic() - 7
    status = report_of(stats, silence=lambda: " on /image: nobody publishes it")
    assert status.message == "no frame for 7.0 s on /image: nobody publishes it"
    assert report_of(healthy(), silence=lambda: "asked without need").message == "ok"


def test_frames_without_a_stamp_under_a_limit_or_among_others() -> None:
    stats = CameraStats()
    for what in ("received", "unstamped", "published"):
        stats.count(what)
    assert report_of(stats).level == OK  # a camera that never stamps, and nobody minds
    status = report_of(stats, max_age_ms=100.0)
    assert status.level == WARN
    assert status.message == "1 frames without a stamp: served, but of unknown age"
    stats.count("received")  # with a stamp
    assert report_of(stats).level == WARN


def test_outputs_that_cannot_be_made_are_a_warning() -> None:
    stats = healthy()
    stats.count("incomplete", 5)
    stats.incomplete = "no grid: no camera_info has come"
    status = report_of(stats)
    assert status.level == WARN
    assert status.message == "5 frames without all outputs: no grid: no camera_info has come"
