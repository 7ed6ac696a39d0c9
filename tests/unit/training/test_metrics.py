"""IoU, precision, recall and boundaries against values by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deeplab_rt.training.data import IGNORE
from deeplab_rt.training.metrics import BoundaryScore, Confusion


def test_figures_of_a_small_image() -> None:
    confusion = Confusion(["a", "b", "c"])
    actual = np.array([[0, 0, 0, 1], [1, 1, IGNORE, IGNORE]], np.uint8)
    predicted = np.array([[0, 0, 1, 1], [1, 0, 2, 0]], np.uint8)
    confusion.add(actual, predicted)
    assert confusion.counts.tolist() == [[2, 1, 0, 0], [1, 2, 0, 0], [0, 0, 0, 0]]
    assert confusion.iou()[:2].tolist() == [0.5, 0.5]
    assert math.isnan(confusion.iou()[2])
    assert confusion.mean_iou() == 0.5
    assert confusion.pixel_accuracy() == pytest.approx(4 / 6)
    assert confusion.binary([0]) == {
        "precision": pytest.approx(2 / 3),
        "recall": pytest.approx(2 / 3),
        "iou": 0.5,
    }
    assert confusion.binary([0, 1]) == {"precision": 1.0, "recall": 1.0, "iou": 1.0}
    assert confusion.summary()["iou"] == {"a": 0.5, "b": 0.5, "c": None}
    assert confusion.summary()["without_truth"] == ["c"]


def test_a_prediction_of_no_group_is_a_miss() -> None:
    confusion = Confusion(["a", "b"])
    confusion.add(np.array([[0, 0, 1]], np.uint8), np.array([[0, IGNORE, 1]], np.uint8))
    assert confusion.counts.tolist() == [[1, 0, 1], [0, 1, 0]]
    assert confusion.iou().tolist() == [0.5, 1.0]
    assert confusion.binary([0])["recall"] == 0.5


def test_no_truth_at_all_is_no_figure() -> None:
    confusion = Confusion(["a"])
    confusion.add(np.full((2, 2), IGNORE, np.uint8), np.zeros((2, 2), np.uint8))
    assert confusion.summary()["miou"] is None


def test_iou_equals_sets() -> None:
    rng = np.random.default_rng(0)
    actual, predicted = rng.integers(0, 4, (2, 30, 40), np.uint8)
    confusion = Confusion("abcd")
    confusion.add(actual, predicted)
    for index, iou in enumerate(confusion.iou()):
        a, b = actual == index, predicted == index
        assert iou == pytest.approx((a & b).sum() / (a | b).sum())


def masks() -> tuple[np.ndarray, np.ndarray]:
    actual = np.zeros((40, 60), bool)
    actual[:, :30] = True
    return actual, np.ones_like(actual)


@pytest.mark.parametrize(("shift", "score"), [(0, 1.0), (3, 1.0), (8, 0.0)])
def test_boundaries_within_the_tolerance_match(shift: int, score: float) -> None:
    boundary = BoundaryScore(tolerance=4)
    actual, valid = masks()
    predicted = actual.copy()
    predicted[:, 30 : 30 + shift] = True
    boundary.add(actual, predicted, valid)
    assert boundary.mean() == score


def test_boundaries_at_void_do_not_count() -> None:
    boundary = BoundaryScore(tolerance=2)
    actual, valid = masks()
    predicted = actual.copy()
    predicted[10:20, 40:50] = True  # a false island, all of it void
    valid[8:22, 38:52] = False
    boundary.add(actual, predicted, valid)
    assert boundary.mean() == 1.0


def test_a_missed_boundary_scores_zero_and_none_at_all_is_left_out() -> None:
    boundary = BoundaryScore()
    actual, valid = masks()
    boundary.add(np.zeros_like(actual), np.zeros_like(actual), valid)
    assert math.isnan(boundary.mean())
    boundary.add(actual, np.zeros_like(actual), valid)
    assert boundary.mean() == 0.0
