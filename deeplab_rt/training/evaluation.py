"""Measures a predictor on a data set, at each picture's own size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deeplab_rt.labels import LabelSet
from deeplab_rt.training.data import IGNORE, DataSet
from deeplab_rt.training.metrics import BoundaryScore, Confusion

Predictor = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""uint8 [H, W, 3] RGB to class indices uint8 [H, W]."""


@dataclass
class Evaluation:
    """What was measured of one predictor on one data set.

    Attributes:
        data: The data set.
        labels: The model's labels.
        confusion: Of the data set's groups.
        boundary: Of the drivable mask.
        predictions: Class indices of every picture, in the data set's order.
        picture_iou: mIoU of every picture over the groups that occur in it.
    """

    data: DataSet
    labels: LabelSet
    confusion: Confusion
    boundary: BoundaryScore
    predictions: list[NDArray[np.uint8]] = field(default_factory=list, repr=False)
    picture_iou: list[float] = field(default_factory=list, repr=False)

    def groups_within(self, group: str) -> list[int]:
        """The data set's groups all of whose classes are in a label group (drivable, objects)."""
        names = set(self.labels.group(group))
        return [
            index
            for index, members in enumerate(self.data.members)
            if all(self.labels.names[member] in names for member in members)
        ]

    def summary(self) -> dict[str, Any]:
        """All figures, rounded to four digits."""
        result: dict[str, Any] = {"pictures": len(self.data), **self.confusion.summary()}
        for group in ("drivable", "objects"):
            members = self.groups_within(group)
            if members:
                binary = self.confusion.binary(members)
                result[group] = {name: round(value, 4) for name, value in binary.items()}
        if "drivable" in result:
            result["drivable"]["boundary_f"] = round(self.boundary.mean(), 4)
        return result

    def agreement(self, other: Evaluation) -> float:
        """Share of all pixels with the same class as in another evaluation of the same data."""
        pairs = list(zip(self.predictions, other.predictions, strict=True))
        return sum(int((a == b).sum()) for a, b in pairs) / sum(a.size for a, _ in pairs)

    def worst(self, count: int) -> list[int]:
        """Indices of the pictures of the least mIoU, worst first."""
        return [int(index) for index in np.argsort(self.picture_iou)[:count]]


def evaluate(predictor: Predictor, data: DataSet, labels: LabelSet) -> Evaluation:
    """Run a predictor over a data set.

    Raises:
        DataError: A file does not decode, or the data set's groups overlap.
    """
    to_group = np.full(256, IGNORE, np.uint8)
    for class_index, group in data.group_of_class.items():
        to_group[class_index] = group
    confusion = Confusion(data.names)
    result = Evaluation(data, labels, confusion, BoundaryScore())
    drivable = result.groups_within("drivable")
    for index in range(len(data)):
        image, actual = data.read(index)
        classes = predictor(image)
        predicted = to_group[classes]
        one = Confusion(data.names)
        one.add(actual, predicted)
        confusion.counts += one.counts
        occurring = one.counts.sum(1) > 0
        result.picture_iou.append(float(one.iou()[occurring].mean()) if occurring.any() else 1.0)
        result.predictions.append(classes)
        result.boundary.tolerance = 0.0075 * float(np.hypot(*actual.shape))
        result.boundary.add(
            np.isin(actual, drivable), np.isin(predicted, drivable), actual != IGNORE
        )
    return result


def draw_confusion(confusion: Confusion, path: Path) -> None:
    """Write the confusion matrix as a picture, each row in shares of the actual pixels."""
    from matplotlib.figure import Figure

    shares = confusion.counts / np.maximum(confusion.counts.sum(1, keepdims=True), 1)
    size = 2.5 + 0.5 * len(confusion.names)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(confusion.names))
    axes.set_xticks(ticks, confusion.names, rotation=90)
    axes.set_yticks(ticks, confusion.names)
    axes.set(xlabel="predicted", ylabel="actual")
    for row in ticks:
        for column in ticks:
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


def draw_pictures(evaluation: Evaluation, indices: Sequence[int], path: Path) -> None:
    """Write a sheet: for each picture its image, its labels and the prediction, left to right."""
    rows = []
    palette = evaluation.labels.palette
    for index in indices:
        image, actual = evaluation.data.read(index)
        # A group of several classes is shown as its first; void stays black.
        first = np.zeros(256, np.uint8)
        for group, members in enumerate(evaluation.data.members):
            first[group] = members[0] + 1
        shown = [image, palette[first[actual]], palette[evaluation.predictions[index] + 1]]
        row = np.hstack(shown).astype(np.uint8)
        rows.append(cv2.resize(row, (960, 960 * row.shape[0] // row.shape[1])))
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))
