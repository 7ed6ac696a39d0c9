"""Calibration error by hand, and a temperature that is found again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from deeplab_rt.network.model import DeepLab
from deeplab_rt.training import calibration
from deeplab_rt.training.calibration import Calibration, draw_reliability, fold_temperature
from deeplab_rt.training.data import IGNORE
from tests.unit.network.tiny import TINY


def test_the_error_is_the_distance_of_accuracy_from_confidence() -> None:
    measured = Calibration()
    # 255 / 255 sure and right in 3 of 4, half sure and right in 1 of 2; void counts for nothing.
    confidence = np.array([[255, 255, 255, 255, 128, 128, 0]], np.uint8)
    actual = np.array([[0, 0, 0, 0, 1, 1, IGNORE]], np.uint8)
    predicted = np.array([[0, 0, 0, 1, 1, 0, 0]], np.uint8)
    measured.add(confidence, actual, predicted)
    assert int(measured.pixels.sum()) == 6
    expected = (4 * 0.25 + 2 * abs(128 / 255 - 0.5)) / 6
    assert measured.error() == pytest.approx(expected)


def test_perfect_calibration_has_no_error_and_a_plot(tmp_path: Path) -> None:
    measured = Calibration()
    measured.pixels[:] = 255
    measured.right[:] = np.arange(256)
    assert measured.error() < 1e-9
    draw_reliability(measured, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_the_temperature_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    honest = 2 * torch.randn(40_000, 5)
    actual = torch.distributions.Categorical(logits=honest).sample()
    sure = 1.7 * honest  # too sure of itself by a factor
    right = sure.argmax(1) == actual

    class Named:
        name = "made"

    monkeypatch.setattr(calibration, "sample_logits", lambda *args: (sure, right))
    model = DeepLab(TINY, 5)
    temperature, errors = calibration.fit_temperature(model, [Named()], (64, 96))  # type: ignore[list-item]
    assert temperature == pytest.approx(1.7, rel=0.06)
    before, after = errors["made"]
    assert after < 0.01 < before


def test_folding_divides_the_logits() -> None:
    torch.manual_seed(0)
    model = DeepLab(TINY, 3).eval()
    image = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    with torch.no_grad():
        before = model(image)
        fold_temperature(model, 2.0)
        assert torch.allclose(model(image), before / 2, atol=1e-6)
    assert isinstance(model.classifier, nn.Conv2d)
