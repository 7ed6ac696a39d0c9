"""The report of a drive as an output of its replay."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deeplab_rt.errors import StreamError
from deeplab_rt.files import write_atomically
from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.segmenter import Segmenter
from deeplab_rt.streams.base import FrameSource
from deeplab_rt.streams.outputs import check_new_file, check_space, writing
from deeplab_rt.streams.overlays import frame_overlay
from deeplab_rt.streams.report.measures import (
    BoundedSeries,
    EvenSample,
    LeastConfident,
    Measurer,
    Still,
    mean_of,
)
from deeplab_rt.streams.report.page import DriveReport, render_drive
from deeplab_rt.streams.settings import ReplaySettings

CONTACT_SHEET = 12  # frames
LEAST_CONFIDENT = 6
_THUMBNAIL, _LARGE = 320, 640  # pixels wide
_QUALITY = 80


class ReportSink:
    """Measures every frame and writes the page when it is closed."""

    def __init__(
        self,
        path: Path,
        labels: LabelSet,
        source: FrameSource,
        about: Mapping[str, str],
        overwrite: bool = False,
    ) -> None:
        """Check the name; the page is written at the end.

        Args:
            path: ends in .html.
            labels: of the masks.
            source: of the frames to come.
            about: the settings, for the reader.
            overwrite: whether a file of this name is replaced.

        Raises:
            StreamError: it exists and may not be replaced, or jinja2 or matplotlib is missing.
        """
        check_libraries()
        check_new_file(path, overwrite)
        self.path = path
        self._labels = labels
        self._source = source
        self._about = about
        self._overwrite = overwrite
        self._measurer = Measurer(labels)
        self._series = BoundedSeries()
        self._sheet = EvenSample(CONTACT_SHEET)
        self._least = LeastConfident(LEAST_CONFIDENT)
        self._frames = 0
        self._first_ns = 0
        self._last_s = 0.0
        self._written = time.perf_counter()

    def write(self, frame: Frame, masks: Masks) -> None:
        """Measure one frame."""
        if not self._frames:
            self._first_ns = frame.stamp_ns
        self._frames += 1
        time_s = (frame.stamp_ns - self._first_ns) / 1e9
        self._last_s = max(self._last_s, time_s)
        measures = self._measurer.measure(frame, masks)
        now = time.perf_counter()
        took_s, self._written = now - self._written, now
        latency_ms = masks.timings.get("total", float("nan"))
        head = [time_s, measures.drivable, measures.flicker, measures.confidence]
        self._series.add(np.array([*head, latency_ms, took_s, *measures.shares]))
        if self._sheet.wants():
            shown = frame_overlay(frame, masks, self._labels)
            self._sheet.add(self._still(frame, time_s, measures.confidence, _THUMBNAIL, shown))
        if masks.confidence is not None and self._least.wants(time_s, measures.confidence):
            shown = frame_overlay(frame, masks, self._labels)
            heat = cv2.applyColorMap(masks.confidence, cv2.COLORMAP_VIRIDIS)
            self._least.add(
                self._still(frame, time_s, measures.confidence, _LARGE, frame.bgr, shown, heat)
            )

    def close(self) -> None:
        """Write the page; nothing where no frame came.

        Raises:
            StreamError: it cannot be written.
        """
        if not self._frames:
            return
        frames, self._frames = self._frames, 0
        check_space(self.path)
        page = render_drive(self._report(frames))
        with writing(self.path):
            write_atomically(self.path, page.encode(), self._overwrite)

    def _report(self, frames: int) -> DriveReport:
        rows = self._series.array()
        rate = 1 / np.maximum(_smoothed(rows[:, 5]), 1e-9)
        return DriveReport(
            name=Path(self._source.name).name,
            source=self._source.name,
            frames=frames,
            dropped=self._source.dropped,
            seconds=self._last_s,
            labels=self._labels,
            times_s=rows[:, 0],
            drivable=rows[:, 1],
            flicker=rows[:, 2],
            confidence=rows[:, 3],
            latency_ms=rows[:, 4],
            rate=rate,
            shares=rows[:, 6:],
            means={
                "drivable": mean_of(rows[:, 1]),
                "flicker": mean_of(rows[:, 2]),
                "confidence": mean_of(rows[:, 3]),
                "latency_ms": mean_of(rows[:, 4]),
                "rate": 1 / max(float(rows[:, 5].mean()), 1e-9),
            },
            sheet=self._sheet.items(),
            least=self._least.items(),
            about=dict(self._about),
            warnings=list(self._source.warnings),
        )

    @staticmethod
    def _still(
        frame: Frame, time_s: float, confidence: float, width: int, *images: np.ndarray
    ) -> Still:
        jpegs = tuple(_jpeg(image, width) for image in images)
        return Still(time_s, frame.index, frame.camera, confidence, jpegs)


def about_run(segmenter: Segmenter, settings: ReplaySettings) -> dict[str, str]:
    """The settings of a run by name, in words; those that are at their default are left out."""
    info = segmenter.info
    known = {
        "model": segmenter.model.name,
        "backend": f"{info.name} {info.version}",
        "device": info.device,
        "precision": info.precision,
        "network input": str(info.input_size),
        "why this backend": segmenter.reason,
    }
    default = ReplaySettings().to_dict()
    for name, value in settings.to_dict().items():
        if name in ("model", "backend", "precision", "kinds", "size") or value == default[name]:
            continue
        if isinstance(value, dict):
            value = _changed(value, default[name])
        known[name.replace("_", " ")] = str(value)
    return known


def _changed(values: dict[str, Any], default: dict[str, Any]) -> str:
    parts = []
    for name, value in values.items():
        if value == default[name]:
            continue
        text = _changed(value, default[name]) if isinstance(value, dict) else str(value)
        parts.append(f"{name.replace('_', ' ')} {text}")
    return ", ".join(parts)


def check_libraries() -> None:
    """Refuse a report where a library is missing.

    Raises:
        StreamError: says which, and what brings it.
    """
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise StreamError(
            f"--report needs the package {error.name}; `pip install '.[report]'` in the repository "
            "brings it"
        ) from None


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Means over a fiftieth of the drive: frames come out of a queue in bursts."""
    width = min(max(5, len(values) // 50), len(values))
    window = np.ones(width)
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")


def _jpeg(image: np.ndarray, width: int) -> bytes:
    if image.shape[1] > width:
        height = max(1, round(image.shape[0] * width / image.shape[1]))
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return bytes(encoded)
