"""Confidence that means something: expected calibration error, and the temperature that lowers it.

One temperature per model (Guo et al. 2017, arXiv:1706.04599) divides the logits; folded into the last
convolution it costs nothing and changes no label.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deeplab_rt.frame import Size
from deeplab_rt.input_shape import shape_for
from deeplab_rt.network.model import DeepLab
from deeplab_rt.training.data import IGNORE, Dataset
from deeplab_rt.training.validation import network_logits

SAMPLES = 60_000
"""Pixels of a data set that a temperature is fitted on."""

BINS = 15
"""Bins of equal width, as in the paper."""


class Calibration:
    """Counts of pixels, and of right ones, by published confidence (a byte)."""

    def __init__(self) -> None:
        self.pixels: NDArray[np.int64] = np.zeros(256, np.int64)
        self.right: NDArray[np.int64] = np.zeros(256, np.int64)

    def add(
        self,
        confidence: NDArray[np.uint8],
        actual: NDArray[np.uint8],
        predicted: NDArray[np.uint8],
    ) -> None:
        """Count one image.

        Args:
            confidence: uint8 [H, W], the winner's probability x 255.
            actual: Groups, uint8 [H, W]; IGNORE is left out.
            predicted: Likewise.
        """
        valid = actual != IGNORE
        self.pixels += np.bincount(confidence[valid], minlength=256)
        self.right += np.bincount(confidence[valid & (actual == predicted)], minlength=256)

    def curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Per bin that holds pixels: mean confidence, accuracy, share of all pixels."""
        levels = np.arange(256) / 255
        place = np.minimum((levels * BINS).astype(int), BINS - 1)
        pixels = np.bincount(place, self.pixels, BINS)
        confidence = np.bincount(place, self.pixels * levels, BINS)
        right = np.bincount(place, self.right, BINS)
        held = pixels > 0
        return (
            confidence[held] / pixels[held],
            right[held] / pixels[held],
            pixels[held] / max(pixels.sum(), 1),
        )

    def error(self) -> float:
        """Expected calibration error: mean distance of accuracy from confidence over the pixels."""
        confidence, accuracy, share = self.curve()
        return float((np.abs(confidence - accuracy) * share).sum())


def draw_reliability(calibration: Calibration, path: Path) -> None:
    """Write the reliability plot: accuracy against confidence, and how many pixels have it."""
    from matplotlib.figure import Figure

    confidence, accuracy, share = calibration.curve()
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, label="perfect")
    axes.bar(confidence, share, width=0.04, color="lightsteelblue", label="share of pixels")
    axes.plot(confidence, accuracy, marker="o", label="accuracy")
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    axes.set_title(f"expected calibration error {calibration.error():.2%}")
    axes.legend()
    figure.savefig(path)


@torch.no_grad()
def sample_logits(
    model: nn.Module, data: Dataset, size: tuple[int, int], images: int, stride: int
) -> tuple[Tensor, Tensor]:
    """Logits [P, C] of every ``stride``-th pixel of some images, and whether the winner is right."""
    logits, right = [], []
    to_group = torch.from_numpy(data.group_of_class.astype(np.int64))
    for index in np.linspace(0, len(data) - 1, min(images, len(data))).round().astype(int):
        image, groups = data.read(int(index))
        shape = Size.of(image)
        raw = network_logits(model, image, shape_for(shape, Size(*size)))
        full = nn.functional.interpolate(raw, shape, mode="bilinear", align_corners=False)
        sampled = full[0, :, stride // 2 :: stride, stride // 2 :: stride].flatten(1).T
        actual = torch.from_numpy(
            data.measured[groups][stride // 2 :: stride, stride // 2 :: stride].astype(np.int64)
        ).flatten()
        valid = actual != IGNORE
        logits.append(sampled[valid])
        right.append(to_group[sampled[valid].argmax(1)] == actual[valid])
    every, hits = torch.cat(logits), torch.cat(right)
    chosen = torch.randperm(len(every), generator=torch.Generator().manual_seed(0))[:SAMPLES]
    return every[chosen], hits[chosen]


def _error(logits: Tensor, right: Tensor, temperature: float) -> float:
    """Calibration error of logits [P, C] divided by a temperature."""
    # The winner's probability needs the distances from its logit alone.
    below = (logits - logits.amax(1, keepdim=True)).div_(temperature)
    confidence = 1 / below.exp_().sum(1)
    levels = (255 * confidence).round().to(torch.int64)
    result = Calibration()
    result.pixels = torch.bincount(levels, minlength=256).numpy()
    result.right = torch.bincount(levels[right], minlength=256).numpy()
    return result.error()


def fit_temperature(
    model: DeepLab,
    sets: Sequence[Dataset],
    size: tuple[int, int],
    *,
    images: int = 40,
    stride: int = 5,
) -> tuple[float, dict[str, tuple[float, float]]]:
    """The temperature with the least mean calibration error over data sets.

    Args:
        model: In evaluation mode.
        sets: Validation data.
        size: The network's own input; each image is taken at its own aspect (:func:`shape_for`).
        images: So many of each set, evenly spaced.
        stride: Every so manieth pixel of their rows and columns.

    Returns:
        The temperature, and per set the calibration error before and after.
    """
    samples = {data.name: sample_logits(model, data, size, images, stride) for data in sets}
    candidates = np.exp(np.linspace(np.log(0.5), np.log(3), 49)).tolist()
    errors = {t: float(np.mean([_error(*s, t) for s in samples.values()])) for t in candidates}
    best = min(candidates, key=lambda t: errors[t])
    return best, {name: (_error(*s, 1.0), _error(*s, best)) for name, s in samples.items()}


def fold_temperature(model: DeepLab, temperature: float) -> None:
    """Divide the logits by a temperature, in the weights of the last convolution, in place."""
    last = model.classifier[-1] if isinstance(model.classifier, nn.Sequential) else model.classifier
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    with torch.no_grad():
        last.weight.div_(temperature)
        last.bias.div_(temperature)
