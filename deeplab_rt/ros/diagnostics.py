"""What the node tells of its health: counters, stage times, and their judgement.

Pure: imports nothing of ROS. The node puts the statuses into a ``diagnostic_msgs/DiagnosticArray``
once a second.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

OK, WARN, ERROR, STALE = range(4)  # the values of diagnostic_msgs/DiagnosticStatus

NO_INPUT_S = 2.0  # without a frame for longer, a camera is taken to be gone
OLD_MASK_MS = 1000.0  # of the newest mask, where max_age_ms sets no limit
AHEAD_MS = 50.0  # of our clock; a stamp further in the future is of a clock that goes wrong
WINDOW = 300  # frames over which percentiles are taken: ten seconds at 30 Hz

# What becomes of a frame. received = published + dropped + bad, but for those still on their way.
DROPPED = ("replaced", "stale", "late", "discarded")
"""Why a frame was dropped: a newer one came, it was too old on arrival, its masks came too late, the
node was deactivated while it waited (or the device failed)."""
REMARKS = ("lost", "unstamped", "incomplete", "older_pose")
"""What else is counted: messages that the middleware lost, frames without a stamp, frames of which an
output could not be made, and those whose ground is of an older or newer pose of the camera."""


@dataclass
class Status:
    """One ``diagnostic_msgs/DiagnosticStatus``: level, one line, and values by name."""

    name: str
    level: int = OK
    problems: list[str] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)

    def add_problem(self, level: int, problem: str) -> None:
        """Raise the level and add to the message."""
        self.level = max(self.level, level)
        self.problems.append(problem)

    @property
    def message(self) -> str:
        return "; ".join(self.problems) or "ok"


class CameraStats:
    """Counters and stage times of one camera. Any thread may write; reading gives a snapshot."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._stages: dict[str, deque[float]] = {}
        self.last_received = time.monotonic()  # when listening began, until a frame comes
        self.newest_stamp_ns: int | None = None  # of the newest mask, unless it has no stamp
        self.incomplete = ""  # why an output of the newest frame that lacks one could not be made

    def count(self, what: str, number: int = 1) -> None:
        with self._lock:
            self._counts[what] += number

    def time(self, stages: Mapping[str, float]) -> None:
        """Add one frame's stage times in milliseconds."""
        with self._lock:
            for stage, milliseconds in stages.items():
                self._stages.setdefault(stage, deque(maxlen=WINDOW)).append(milliseconds)

    def counts(self) -> dict[str, int]:
        """``received``, ``published``, ``bad``, ``dropped`` and what it is made of, and REMARKS."""
        with self._lock:
            counts = Counter(self._counts)
        named = {
            name: counts[name] for name in ("received", "published", "bad", *DROPPED, *REMARKS)
        }
        return {**named, "dropped": sum(counts[name] for name in DROPPED)}

    def percentiles(self) -> dict[str, tuple[float, float]]:
        """Stage -> (p50, p99) in milliseconds over the last frames."""
        with self._lock:
            stages = {stage: list(times) for stage, times in self._stages.items()}
        return {
            stage: (float(np.percentile(times, 50)), float(np.percentile(times, 99)))
            for stage, times in stages.items()
        }


@dataclass
class CameraReport:
    """Judges one camera once a second, from what changed since the last time.

    Attributes:
        name: of the status.
        stats: the camera's.
    """

    name: str
    stats: CameraStats
    _before: dict[str, int] = field(default_factory=dict)
    _when: float = field(default_factory=time.monotonic)

    def make(
        self,
        listening: bool,
        now_ns: int,
        max_age_ms: float,
        expected_rate_hz: float,
        silence: Callable[[], str] = lambda: "",
    ) -> Status:
        """The status of now.

        Args:
            listening: whether the node is active and enabled; if not, nothing is wrong.
            now_ns: time of the clock that stamps frames.
            max_age_ms: the parameter; 0 for none.
            expected_rate_hz: the parameter; 0 for none.
            silence: says why no frame comes; asked only if none does.
        """
        counts = self.stats.counts()
        when = time.monotonic()
        seconds = max(when - self._when, 1e-3)
        new = {name: count - self._before.get(name, 0) for name, count in counts.items()}
        self._before, self._when = counts, when
        status = Status(self.name)
        rate_in, rate_out = new["received"] / seconds, new["published"] / seconds
        status.values = {
            "rate in (Hz)": f"{rate_in:.1f}",
            "rate out (Hz)": f"{rate_out:.1f}",
            **{name: str(count) for name, count in counts.items()},
        }
        age = None
        if self.stats.newest_stamp_ns is not None:
            age = (now_ns - self.stats.newest_stamp_ns) / 1e6
            status.values["age of newest mask (ms)"] = f"{age:.1f}"
        for stage, (p50, p99) in self.stats.percentiles().items():
            status.values[f"{stage} p50 (ms)"] = f"{p50:.2f}"
            status.values[f"{stage} p99 (ms)"] = f"{p99:.2f}"
        if not listening:
            status.problems.append("not listening")
            return status

        silent = when - self.stats.last_received
        if silent > NO_INPUT_S:
            status.add_problem(ERROR, f"no frame for {silent:.1f} s{silence()}")
        elif age is not None and age > (max_age_ms or OLD_MASK_MS):
            status.add_problem(ERROR, f"the newest mask is {age:.0f} ms old")
        elif age is not None and age < -AHEAD_MS:
            status.add_problem(
                WARN, f"stamps lie {-age:.0f} ms in the future: are the clocks synchronised?"
            )
        if new["bad"]:
            status.add_problem(WARN, f"{new['bad']} bad frames in the last {seconds:.1f} s")
        if new["stale"] or new["late"]:
            dropped = new["stale"] + new["late"]
            status.add_problem(WARN, f"{dropped} frames dropped as older than {max_age_ms:g} ms")
        if new["unstamped"] and (max_age_ms or counts["unstamped"] < counts["received"]):
            status.add_problem(
                WARN, f"{new['unstamped']} frames without a stamp: served, but of unknown age"
            )
        if new["incomplete"]:
            status.add_problem(
                WARN, f"{new['incomplete']} frames without all outputs: {self.stats.incomplete}"
            )
        if new["lost"]:
            status.add_problem(WARN, f"{new['lost']} frames lost by the transport")
        if expected_rate_hz and rate_out < 0.9 * expected_rate_hz:
            status.add_problem(
                WARN, f"{rate_out:.1f} masks a second, expected {expected_rate_hz:g}"
            )
        return status
