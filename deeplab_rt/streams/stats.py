"""What a running stream measures of itself."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplab_rt.streams.base import FrameSource

_KEPT = 20_000  # newest times of a stage; a stream may run for days
_RECENT = 60  # frames that the live stats are of


@dataclass(frozen=True)
class StatsSnapshot:
    """RunStats of the newest frames, for viewers.

    Attributes:
        frames: segmented so far.
        dropped: frames that got no masks so far.
        fps: frames a second over the newest frames.
        latency_ms: median of the newest frames: from capture to masks for a camera, from
            submission to masks for a recording.
    """

    frames: int
    dropped: int
    fps: float
    latency_ms: float


class _NewestTimes:
    """The newest times of a stage, in memory that does not grow."""

    def __init__(self) -> None:
        self._times = np.empty(_KEPT, np.float32)
        self._count = 0

    def add(self, ms: float) -> None:
        self._times[self._count % _KEPT] = ms
        self._count += 1

    def percentiles(self) -> dict[str, float]:
        p50, p99 = np.percentile(self._times[: self._count], [50, 99])
        return {"p50": round(float(p50), 3), "p99": round(float(p99), 3)}


class RunStats:
    """Counts frames and collects the milliseconds of each stage.

    Attributes:
        frames: counted so far.
        threads: of an overlapped run that has ended: thread (``read``, ``network``, ``write bag``)
            -> share of the run, 0 to 1, in which it worked and did not wait for another.
    """

    def __init__(self, source: FrameSource) -> None:
        self.source = source
        self.frames = 0
        self.threads: dict[str, float] = {}
        self._begun = time.perf_counter()
        self._ended: float | None = None
        self._stages: dict[str, _NewestTimes] = {}
        self._recent: deque[tuple[float, float]] = deque(maxlen=_RECENT)  # when, latency in ms

    def begin(self) -> None:
        """Start the clock of the rate."""
        self._begun = time.perf_counter()

    def end(self) -> None:
        """Stop it."""
        self._ended = time.perf_counter()

    def add(self, stages_ms: Mapping[str, float]) -> None:
        """Count one frame with the times of its stages in milliseconds."""
        self.frames += 1
        for stage, ms in stages_ms.items():
            self._stages.setdefault(stage, _NewestTimes()).add(ms)
        latency = stages_ms.get("age", stages_ms.get("total", 0.0))
        self._recent.append((time.perf_counter(), latency))

    @property
    def elapsed_s(self) -> float:
        """Seconds from begin to end (or now)."""
        return (self._ended or time.perf_counter()) - self._begun

    @property
    def fps(self) -> float:
        """Frames a second over that time."""
        return self.frames / max(self.elapsed_s, 1e-9)

    def latency_ms(self) -> dict[str, dict[str, float]]:
        """Stage -> {p50, p99} in milliseconds, of the newest frames."""
        return {stage: times.percentiles() for stage, times in self._stages.items()}

    def live(self) -> StatsSnapshot:
        """The stats of the newest frames; may be called from another thread."""
        recent = list(self._recent)
        fps = 0.0
        if len(recent) > 1:
            fps = (len(recent) - 1) / max(recent[-1][0] - recent[0][0], 1e-9)
        latency = float(np.median([ms for _, ms in recent])) if recent else 0.0
        return StatsSnapshot(self.frames, self.source.dropped, round(fps, 1), round(latency, 1))

    def line(self) -> str:
        """The live stats in one line."""
        live = self.live()
        return f"{live.fps:.1f} fps  {live.latency_ms:.1f} ms  {live.dropped} dropped"

    def report(self) -> dict[str, Any]:
        """The counts and times of the whole run.

        ``threads`` and ``bottleneck`` (the thread that waited least) are there for a recording that
        was replayed by overlapped threads.
        """
        report: dict[str, Any] = {
            "frames": self.frames,
            "dropped": self.source.dropped,
            "fps": round(self.fps, 2),
            "latency_ms": self.latency_ms(),
        }
        if self.threads:
            report["threads"] = {name: round(share, 3) for name, share in self.threads.items()}
            report["bottleneck"] = max(self.threads, key=lambda name: self.threads[name])
        return report
