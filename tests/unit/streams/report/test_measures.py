"""What a report measures, in memory that does not grow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.streams.report.measures import (
    BoundedSeries,
    EvenSample,
    LeastConfident,
    Measurer,
    Still,
    clock,
    mean_of,
)


def still(index: int, confidence: float = 0.5, time_s: float | None = None) -> Still:
    return Still(float(index) if time_s is None else time_s, index, "", confidence, ())


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 900))
def test_a_series_keeps_its_mean_and_its_bounds(count: int) -> None:
    series = BoundedSeries(most=8)
    for value in range(count):
        series.add(np.array([float(value), 1.0]))
    rows = series.array()
    assert 1 <= len(rows) <= 17 and (rows[:, 1] == 1).all()
    assert (np.diff(rows[:, 0]) > 0).all() and rows[0, 0] < count and rows[-1, 0] > count / 2 - 1
    if count < 16:
        assert rows[:, 0].tolist() == list(range(count))


@given(st.integers(0, 500), st.integers(1, 12))
def test_a_sample_is_evenly_spaced(count: int, most: int) -> None:
    sample = EvenSample(most)
    for index in range(count):
        if sample.wants():
            sample.add(still(index))
    indices = [one.index for one in sample.items()]
    assert len(indices) == min(count, most) or len(indices) >= min(count, most) // 2
    assert len(indices) <= most and indices == sorted(set(indices)) and indices[:1] == [0][:count]
    if most > 1 and count > 4 * most:
        assert indices[-1] >= count // 2


@given(st.lists(st.floats(0, 1), max_size=60), st.integers(1, 5))
def test_the_least_confident_are_found_apart(values: list[float], most: int) -> None:
    least = LeastConfident(most)
    for index, value in enumerate(values):
        one = still(index, value, 2.0 * index)  # all of them apart
        if least.wants(one.time_s, value):
            least.add(one)
    assert [one.confidence for one in least.items()] == sorted(values)[:most]


def test_of_frames_within_a_second_one_is_shown() -> None:
    least = LeastConfident(3)
    for time_s, confidence in ((0.0, 0.5), (0.4, 0.3), (0.8, 0.4), (2.0, 0.9)):
        if least.wants(time_s, confidence):
            least.add(still(0, confidence, time_s))
    assert [one.confidence for one in least.items()] == [0.3, 0.9]


def test_measures_of_frames(camvid11: LabelSet) -> None:
    road, vehicle = camvid11.index("road") + 1, camvid11.index("vehicle") + 1
    first = np.full((40, 60), road, np.uint8)
    second = first.copy()
    second[:20, :30] = vehicle
    measurer = Measurer(camvid11)

    def measure(label_map: np.ndarray, confidence: int | None) -> list[float]:
        masks = Masks(label_map, camvid11.drivable_lut[label_map], camvid11.objects_lut[label_map])
        if confidence is not None:
            masks.confidence = np.full(label_map.shape, confidence, np.uint8)
        found = measurer.measure(Frame(np.zeros((40, 60, 3), np.uint8)), masks)
        assert found.shares.sum() == pytest.approx(1)
        return [found.shares[vehicle - 1], found.drivable, found.flicker, found.confidence]

    assert measure(first, 255) == pytest.approx([0, 1, np.nan, 1], nan_ok=True)
    assert measure(second, 51) == pytest.approx([0.25, 0.75, 0.25, 0.2])
    assert measure(second, None) == pytest.approx([0.25, 0.75, 0, np.nan], nan_ok=True)


def test_words() -> None:
    assert [clock(t) for t in (0, 9.81, 75.5, 3723)] == ["0:00.0", "0:09.8", "1:15.5", "1:02:03"]
    assert mean_of(np.array([1.0, np.nan, 3.0])) == 2 and mean_of(np.array([np.nan])) is None
