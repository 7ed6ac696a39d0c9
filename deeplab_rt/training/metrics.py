"""RunStats of a segmentation against its labels, from one confusion matrix; pure NumPy/OpenCV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deeplab_rt.training.data import IGNORE


class Confusion:
    """Counts of (actual, predicted) pixels.

    Args:
        names: Name of each group.

    Attributes:
        counts: int64 [G, G + 1]; the last column counts predictions that are of no group.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        size = len(self.names)
        self.counts: NDArray[np.int64] = np.zeros((size, size + 1), np.int64)

    def add(self, actual: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> None:
        """Count one image: group indices uint8 [H, W]; IGNORE in ``actual`` is left out."""
        size = len(self.names)
        valid = actual != IGNORE
        columns = np.minimum(predicted[valid], size)
        pairs = actual[valid].astype(np.int64) * (size + 1) + columns
        self.counts += np.bincount(pairs, minlength=size * (size + 1)).reshape(size, size + 1)

    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each group; NaN where it has no truth."""
        hit = np.diag(self.counts).astype(np.float64)
        actual = self.counts.sum(1)
        union = self.counts[:, :-1].sum(0) + actual - hit
        return np.where(actual > 0, hit / np.maximum(union, 1), np.nan)

    def without_truth(self) -> list[str]:
        """Names of the groups that no pixel is labelled as."""
        return [n for n, row in zip(self.names, self.counts.sum(1), strict=True) if not row]

    def mean_iou(self) -> float:
        """Mean of :meth:`iou` over the groups that have truth; NaN where there are none."""
        iou = self.iou()
        return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")

    def pixel_accuracy(self) -> float:
        """Share of the valid pixels that are right."""
        return float(np.diag(self.counts).sum() / max(int(self.counts.sum()), 1))

    def binary(self, groups: Sequence[int]) -> dict[str, float]:
        """Precision, recall and IoU of a set of groups seen as one (drivable, objects)."""
        inside = np.isin(np.arange(len(self.names)), groups)
        hit = float(self.counts[np.ix_(inside, np.append(inside, False))].sum())
        predicted = float(self.counts[:, :-1][:, inside].sum())
        actual = float(self.counts[inside].sum())
        union = predicted + actual - hit
        return {
            "precision": hit / predicted if predicted else float("nan"),
            "recall": hit / actual if actual else float("nan"),
            "iou": hit / union if union else float("nan"),
        }

    def summary(self) -> dict[str, Any]:
        """mIoU, pixel accuracy and per-group IoU, rounded to four digits."""
        iou = {
            n: None if np.isnan(v) else round(v, 4)
            for n, v in zip(self.names, self.iou().tolist(), strict=True)
        }
        miou = self.mean_iou()
        return {
            "miou": None if np.isnan(miou) else round(miou, 4),
            "pixel_accuracy": round(self.pixel_accuracy(), 4),
            "iou": iou,
            "without_truth": self.without_truth(),
        }


class BoundaryScore:
    """F-score of the boundaries of a binary mask (Csurka et al., BMVC 2013).

    Args:
        tolerance: Distance in pixels up to which a boundary pixel is matched; the paper takes
            0.75 % of the image's diagonal, which is 4.5 pixels at 480x360.
    """

    def __init__(self, tolerance: float = 4.5) -> None:
        self.tolerance = tolerance
        self._scores: list[float] = []

    @staticmethod
    def _edges(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        edges = np.zeros_like(mask)
        edges[:, 1:] |= mask[:, 1:] != mask[:, :-1]
        edges[1:] |= mask[1:] != mask[:-1]
        return edges

    def _matched(self, these: NDArray[np.bool_], those: NDArray[np.bool_]) -> float:
        if not these.any():
            return 1.0
        if not those.any():
            return 0.0
        distance = cv2.distanceTransform((~those).astype(np.uint8), cv2.DIST_L2, 5)
        return float((distance[these] <= self.tolerance).mean())

    def add(
        self,
        actual: NDArray[np.bool_],
        predicted: NDArray[np.bool_],
        valid: NDArray[np.bool_],
    ) -> None:
        """Score one image [H, W]; boundaries that touch invalid pixels do not count."""
        near_void = cv2.dilate((~valid).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        theirs = self._edges(actual) & ~near_void
        ours = self._edges(predicted) & ~near_void
        if not theirs.any() and not ours.any():
            return
        precision, recall = self._matched(ours, theirs), self._matched(theirs, ours)
        total = precision + recall
        self._scores.append(2 * precision * recall / total if total else 0.0)

    def mean(self) -> float:
        """Mean F-score over the images that have a boundary; NaN where none has."""
        return float(np.mean(self._scores)) if self._scores else float("nan")
