"""Candidates timed in turns on the same frames, so that a change of the machine's speed meets them all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Protocol

import numpy as np

from deeplab_rt.masks import Masks


class Candidate(Protocol):
    """One way from a camera frame to its masks.

    ``run`` takes uint8 [H, W, 3] BGR and gives masks of the frame's size with their stage times.
    """

    name: str

    def run(self, frame: np.ndarray) -> Masks: ...

    def close(self) -> None: ...


@dataclass
class Samples:
    """What one candidate was measured at.

    Attributes:
        rounds: for each round, the milliseconds of each frame, from frame to masks.
        stages: stage -> milliseconds of each frame, as the candidate's own masks tell.
    """

    rounds: list[list[float]] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=dict)

    @property
    def all(self) -> list[float]:
        return [ms for one in self.rounds for ms in one]


@dataclass(frozen=True)
class SamplingConfig:
    """How long a candidate's turn is.

    Attributes:
        rounds: turns of each candidate.
        turn_s: seconds of a turn, warm-up aside; at least ``least`` frames are run whatever they take.
        least: frames of a turn at least.
        settle_s: seconds of rest before a turn: the thread pools of another library go on spinning
            for a while after their work, and would be charged to the next candidate.
    """

    rounds: int = 8
    turn_s: float = 0.5
    least: int = 3
    settle_s: float = 0.3

    def turn(self, frames: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """The frames of one turn, in order, again from the first when they end."""
        end = time.perf_counter() + self.turn_s
        for index, frame in enumerate(cycle(frames)):
            if index >= self.least and time.perf_counter() >= end:
                return
            yield frame


def interleave(
    candidates: Sequence[Candidate],
    frames: Sequence[np.ndarray],
    sampling: SamplingConfig,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Samples]:
    """Time every candidate in turns: A B C, A B C, ...

    Each turn begins with two frames that are not counted, which bring caches and threads back. The
    order is turned round in every other round, so that no candidate always follows the same one.

    Args:
        candidates: with different names.
        frames: uint8 [H, W, 3] BGR, taken in order, again from the first when they end.
        progress: told in words what is about to run.
    """
    samples = {candidate.name: Samples() for candidate in candidates}
    for index in range(sampling.rounds):
        for candidate in candidates[:: -1 if index % 2 else 1]:
            progress(f"round {index + 1} of {sampling.rounds}: {candidate.name}")
            time.sleep(sampling.settle_s)
            for frame in frames[:2]:
                candidate.run(frame)
            turn: list[float] = []
            for frame in sampling.turn(frames):
                started = time.perf_counter()
                masks = candidate.run(frame)
                turn.append(1e3 * (time.perf_counter() - started))
                for stage, ms in masks.timings.items():
                    if stage != "total":
                        samples[candidate.name].stages.setdefault(stage, []).append(ms)
            samples[candidate.name].rounds.append(turn)
    return samples


def summary(samples: Samples, baseline: Samples) -> dict[str, object]:
    """The figures of one candidate beside those of the baseline, which ran in the same rounds.

    Returns:
        ``frames``; ``ms`` {median, p10, p90, min}; ``per_second`` from the median; ``stages_ms``,
        the median of each; ``times_baseline`` {median, min, max} over the rounds: this candidate's
        median over the baseline's in the same round.
    """
    ms = samples.all
    ratios = [
        statistics.median(own) / statistics.median(other)
        for own, other in zip(samples.rounds, baseline.rounds, strict=True)
    ]
    median = statistics.median(ms)
    return {
        "frames": len(ms),
        "ms": {
            "median": round(median, 3),
            "p10": round(float(np.percentile(ms, 10)), 3),
            "p90": round(float(np.percentile(ms, 90)), 3),
            "min": round(min(ms), 3),
        },
        "per_second": round(1e3 / median, 2),
        "stages_ms": {
            stage: round(statistics.median(times), 3) for stage, times in samples.stages.items()
        },
        "times_baseline": {
            "median": round(statistics.median(ratios), 3),
            "min": round(min(ratios), 3),
            "max": round(max(ratios), 3),
        },
    }


def agreement(
    candidate: Candidate, reference: Sequence[np.ndarray], frames: Sequence[np.ndarray]
) -> float:
    """Share of the pixels of all frames whose label is the reference's, 0 to 1."""
    same = [
        float(np.mean(candidate.run(frame).labels == labels))
        for frame, labels in zip(frames, reference, strict=True)
    ]
    return statistics.fmean(same)
