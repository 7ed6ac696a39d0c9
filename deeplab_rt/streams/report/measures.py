"""What a report measures of a drive, in memory that does not grow with its length."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks

STEP = 2  # every second row and column is measured: a quarter of the pixels tells the same


class BoundedSeries:
    """Values over time as the means of equal runs of frames; the runs grow, their number does not."""

    def __init__(self, most: int = 1000) -> None:
        """Keep ``most`` to twice as many means."""
        self._most = most
        self._run = 1  # frames of one mean
        self._means: list[np.ndarray] = []
        self._sum: np.ndarray | None = None
        self._count = 0

    def add(self, values: np.ndarray) -> None:
        """Add the values of one frame, float [N]."""
        self._sum = values.astype(np.float64) if self._sum is None else self._sum + values
        self._count += 1
        if self._count == self._run:
            self._means.append(self._sum / self._count)
            self._sum, self._count = None, 0
        if len(self._means) == 2 * self._most:
            pairs = zip(self._means[::2], self._means[1::2], strict=True)
            self._means = [(one + other) / 2 for one, other in pairs]
            self._run *= 2

    def array(self) -> np.ndarray:
        """float64 [runs, N]."""
        rest = [self._sum / self._count] if self._sum is not None else []
        return np.array([*self._means, *rest])


@dataclass(frozen=True)
class Still:
    """An image of a report.

    Attributes:
        time_s: since the first frame.
        index: of the frame.
        camera: of the frame.
        confidence: mean of its pixels, 0 to 1; NaN where it was not measured.
        jpegs: the images, encoded.
    """

    time_s: float
    index: int
    camera: str
    confidence: float
    jpegs: tuple[bytes, ...]


class EvenSample:
    """Some of a stream's items, evenly spaced, however many come."""

    def __init__(self, most: int) -> None:
        """Keep ``most`` to twice as many."""
        self._most = most
        self._step = 1
        self._seen = 0
        self._items: list[Still] = []

    def wants(self) -> bool:
        """Whether the next item is to be given to :meth:`add`; called once for each."""
        self._seen += 1
        return (self._seen - 1) % self._step == 0

    def add(self, item: Still) -> None:
        """Keep an item that was wanted."""
        self._items.append(item)
        if len(self._items) == 2 * self._most:
            self._items = self._items[::2]
            self._step *= 2

    def items(self) -> list[Still]:
        """At most ``most``, evenly spaced, the first among them."""
        if len(self._items) <= self._most:
            return list(self._items)
        places = np.linspace(0, len(self._items) - 1, self._most).round().astype(int)
        return [self._items[place] for place in places]


class LeastConfident:
    """The frames of the lowest mean confidence, no two within a second of each other."""

    APART_S = 1.0

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[Still] = []

    def wants(self, time_s: float, confidence: float) -> bool:
        """Whether such a frame would be kept."""
        near = [still for still in self._kept if abs(still.time_s - time_s) < self.APART_S]
        if near:
            return all(confidence < still.confidence for still in near)
        full = len(self._kept) >= self._most
        return not full or confidence < self._kept[-1].confidence

    def add(self, still: Still) -> None:
        """Keep a frame that was wanted."""
        apart = [one for one in self._kept if abs(one.time_s - still.time_s) >= self.APART_S]
        self._kept = sorted([*apart, still], key=lambda one: one.confidence)[: self._most]

    def items(self) -> list[Still]:
        """The least confident first."""
        return list(self._kept)


@dataclass
class FrameMeasures:
    """Measures of one frame.

    Attributes:
        shares: float64 [labels], share of the pixels of each label.
        drivable: share of drivable pixels.
        flicker: share of pixels whose label differs from the frame before; NaN for the first.
        confidence: mean, 0 to 1; NaN where the masks have none.
    """

    shares: np.ndarray
    drivable: float
    flicker: float
    confidence: float


@dataclass
class Measurer:
    """Measures frames one after the other."""

    labels: LabelSet
    _before: dict[str, np.ndarray] = field(default_factory=dict)  # label map of each camera

    def measure(self, frame: Frame, masks: Masks) -> FrameMeasures:
        """The measures of the next frame."""
        label_map = masks.labels[::STEP, ::STEP]
        shares = np.bincount(label_map.ravel(), minlength=256)[1 : len(self.labels) + 1]
        before = self._before.get(frame.camera)
        flicker = float("nan")
        if before is not None and before.shape == label_map.shape:
            flicker = float(np.count_nonzero(before != label_map)) / label_map.size
        self._before[frame.camera] = label_map
        confidence = float("nan")
        if masks.confidence is not None:
            confidence = float(masks.confidence[::STEP, ::STEP].mean()) / 255
        drivable = masks.drivable[::STEP, ::STEP]
        return FrameMeasures(
            shares / label_map.size,
            float(np.count_nonzero(drivable)) / drivable.size,
            flicker,
            confidence,
        )


def mean_of(values: np.ndarray) -> float | None:
    """The mean of what is no NaN; None where all is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None


def clock(seconds: float) -> str:
    """``M:SS.s`` or ``H:MM:SS``."""
    minutes, rest = divmod(seconds, 60)
    if minutes < 60:
        return f"{int(minutes)}:{rest:04.1f}"
    return f"{int(minutes // 60)}:{int(minutes % 60):02d}:{int(rest):02d}"
