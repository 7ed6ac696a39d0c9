"""Turns, what is counted in them, and the ratios made of it."""

from __future__ import annotations

import numpy as np
import pytest

from deeplab_rt.bench.runner import Samples, SamplingConfig, agreement, interleave, summary
from deeplab_rt.masks import Masks

FRAMES = [np.full((2, 2, 3), value, np.uint8) for value in range(3)]
AT_ONCE = SamplingConfig(rounds=3, turn_s=0, least=4, settle_s=0)


class Recorder:
    """A candidate that notes what it is given; its label is the frame's value."""

    def __init__(self, name: str, log: list[tuple[str, int]], offset: int = 0) -> None:
        self.name, self._log, self._offset = name, log, offset

    def run(self, frame: np.ndarray) -> Masks:
        value = int(frame[0, 0, 0])
        self._log.append((self.name, value))
        labels = np.full((2, 2), value + self._offset, np.uint8)
        return Masks(labels, labels, labels, timings={"network": float(value), "total": 99.0})

    def close(self) -> None: ...


def test_subjects_take_turns_and_the_order_is_turned_round() -> None:
    log: list[tuple[str, int]] = []
    interleave([Recorder(name, log) for name in "abc"], FRAMES, AT_ONCE)
    turns = [name for index, (name, _) in enumerate(log) if index == 0 or log[index - 1][0] != name]
    assert turns == ["a", "b", "c", "b", "a", "b", "c"]  # c, c and a, a are two turns each


def test_every_turn_warms_up_and_counts_the_rest() -> None:
    log: list[tuple[str, int]] = []
    samples = interleave([Recorder("a", log)], FRAMES, AT_ONCE)["a"]
    assert [value for _, value in log] == [0, 1, 0, 1, 2, 0] * 3
    assert [len(turn) for turn in samples.rounds] == [4, 4, 4]
    assert samples.stages == {"network": [0.0, 1.0, 2.0, 0.0] * 3}
    assert all(ms > 0 for ms in samples.all)


def test_a_turn_lasts_its_time() -> None:
    samples = interleave(
        [Recorder("a", [])], FRAMES, SamplingConfig(rounds=1, turn_s=0.05, least=1, settle_s=0)
    )
    assert len(samples["a"].all) > 1


def test_progress_names_round_and_subject() -> None:
    said: list[str] = []
    interleave([Recorder("a", [])], FRAMES, AT_ONCE, said.append)
    assert said == [f"round {n} of 3: a" for n in (1, 2, 3)]


def test_ratios_are_of_the_same_round() -> None:
    """The machine was twice as slow in the second round: the ratio does not see it."""
    ours = Samples([[1.0, 1.0, 4.0], [2.0, 2.0, 2.0]], {"network": [0.5, 0.7, 0.9]})
    other = Samples([[3.0, 3.0, 3.0], [6.0, 6.0, 6.0]])
    figures = summary(other, ours)
    assert figures["times_baseline"] == {"median": 3.0, "min": 3.0, "max": 3.0}
    own = summary(ours, ours)
    assert own["frames"] == 6
    assert own["ms"] == {"median": 2.0, "p10": 1.0, "p90": 3.0, "min": 1.0}
    assert own["per_second"] == 500.0
    assert own["stages_ms"] == {"network": 0.7}


@pytest.mark.parametrize(("offset", "share"), [(0, 1.0), (1, 0.0)])
def test_agreement_is_the_share_of_equal_pixels(offset: int, share: float) -> None:
    reference = [np.full((2, 2), value, np.uint8) for value in range(3)]
    assert agreement(Recorder("a", [], offset), reference, FRAMES) == share
    reference[0][0, 0] = 200
    reference[1][:] = 200
    mixed = agreement(Recorder("a", []), reference, FRAMES)
    assert mixed == pytest.approx((3 / 4 + 0 + 1) / 3)
