"""Measures a predictor on a data set, at each image's own size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deeplab_rt.labels import LabelSet
from deeplab_rt.training.calibration import Calibration
from deeplab_rt.training.data import IGNORE, Dataset
from deeplab_rt.training.metrics import BoundaryScore, Confusion

Predictor = Callable[[NDArray[np.uint8]], tuple[NDArray[np.uint8], NDArray[np.uint8]]]
"""uint8 [H, W, 3] RGB to class indices and confidence x 255, uint8 [H, W] each."""


@dataclass
class Evaluation:
    """What was measured of one predictor on one data set.

    Attributes:
        data: The data set.
        labels: The model's labels.
        confusion: Of the data set's measured groups.
        boundary: Of the drivable mask.
        calibration: Of the published confidence.
        void: Pixels without a label that were predicted as each class, int64 [C].
        predictions: Class indices of every image, in the data set's order.
        image_iou: mIoU of every image over the groups that occur in it.
    """

    data: Dataset
    labels: LabelSet
    confusion: Confusion
    boundary: BoundaryScore
    calibration: Calibration = field(default_factory=Calibration)
    void: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64), repr=False)
    predictions: list[NDArray[np.uint8]] = field(default_factory=list, repr=False)
    image_iou: list[float] = field(default_factory=list, repr=False)

    def groups_within(self, group: str) -> list[int]:
        """The data set's measured groups all of whose classes are in a label group (drivable,
        objects)."""
        names = set(self.labels.group(group))
        return [
            index
            for index, class_ids in enumerate(self.data.class_ids)
            if self.data.measured[index] != IGNORE
            and all(self.labels.names[class_id] in names for class_id in class_ids)
        ]

    def summary(self) -> dict[str, Any]:
        """All figures, rounded to four digits."""
        result: dict[str, Any] = {"images": len(self.data), **self.confusion.summary()}
        result["calibration_error"] = round(self.calibration.error(), 4)
        for group in ("drivable", "objects"):
            groups = self.groups_within(group)
            if groups:
                binary = self.confusion.binary(groups)
                result[group] = {name: round(value, 4) for name, value in binary.items()}
        if "drivable" in result:
            result["drivable"]["boundary_f"] = round(self.boundary.mean(), 4)
        return result

    def void_shares(self) -> dict[str, float]:
        """Share of the pixels without a label that were predicted as each class."""
        total = max(int(self.void.sum()), 1)
        return {n: round(int(self.void[i]) / total, 4) for i, n in enumerate(self.labels.names)}

    def agreement(self, other: Evaluation) -> float:
        """Share of all pixels with the same class as in another evaluation of the same data."""
        pairs = list(zip(self.predictions, other.predictions, strict=True))
        return sum(int((a == b).sum()) for a, b in pairs) / sum(a.size for a, _ in pairs)

    def worst(self, count: int) -> list[int]:
        """Indices of the images of the least mIoU, worst first."""
        return [int(index) for index in np.argsort(self.image_iou)[:count]]


def evaluate(predictor: Predictor, data: Dataset, labels: LabelSet) -> Evaluation:
    """Run a predictor over a data set.

    Raises:
        DataError: A file does not decode, or measured groups of the data set overlap.
    """
    to_group = data.group_of_class
    confusion = Confusion(data.names)
    result = Evaluation(data, labels, confusion, BoundaryScore())
    drivable = result.groups_within("drivable")
    for index in range(len(data)):
        image, groups = data.read(index)
        actual = data.measured[groups]
        classes, confidence = predictor(image)
        predicted = to_group[classes]
        one = Confusion(data.names)
        one.add(actual, predicted)
        confusion.counts += one.counts
        miou = one.mean_iou()
        result.image_iou.append(1.0 if np.isnan(miou) else miou)
        result.predictions.append(classes)
        result.calibration.add(confidence, actual, predicted)
        result.void += np.bincount(classes[groups == IGNORE], minlength=256)
        result.boundary.tolerance = 0.0075 * float(np.hypot(*actual.shape))
        result.boundary.add(
            np.isin(actual, drivable), np.isin(predicted, drivable), actual != IGNORE
        )
    return result


def draw_confusion(confusion: Confusion, path: Path) -> None:
    """Write the confusion matrix as an image, each row in shares of the actual pixels."""
    from matplotlib.figure import Figure

    shares = confusion.counts / np.maximum(confusion.counts.sum(1, keepdims=True), 1)
    columns = [*confusion.names, "other"]
    size = 2.5 + 0.5 * len(confusion.names)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(confusion.names))
    axes.set_xticks(range(len(columns)), columns, rotation=90)
    axes.set_yticks(ticks, confusion.names)
    axes.set(xlabel="predicted", ylabel="actual")
    for row in ticks:
        for column in range(len(columns)):
            if shares[row, column] >= 0.005:
                axes.text(
                    column,
                    row,
                    f"{100 * shares[row, column]:.0f}",
                    ha="center",
                    va="center",
                    color="white" if shares[row, column] > 0.5 else "black",
                )
    figure.savefig(path)


def draw_images(evaluation: Evaluation, indices: Sequence[int], path: Path) -> None:
    """Write a sheet: for each image itself, its labels and the prediction, left to right."""
    rows = []
    palette = evaluation.labels.palette
    for index in indices:
        image, actual = evaluation.data.read(index)
        # A group of several classes is shown as its first; void stays black.
        first = np.zeros(256, np.uint8)
        for group, class_ids in enumerate(evaluation.data.class_ids):
            first[group] = class_ids[0] + 1
        shown = [image, palette[first[actual]], palette[evaluation.predictions[index] + 1]]
        row = np.hstack(shown).astype(np.uint8)
        rows.append(cv2.resize(row, (960, 960 * row.shape[0] // row.shape[1])))
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))
