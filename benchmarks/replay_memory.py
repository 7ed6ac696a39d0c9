"""Resident memory of a replay with every output on.

``python -m benchmarks.replay_memory`` replays 10,000 frames (the shipped street again and again, at
half its size) into a bag, PNG files, an overlay video and a report, and prints the resident memory
after every tenth of them. The growth is that from the first fifth on: until then buffers, caches and
the encoder's queue fill.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import psutil  # type: ignore[import-untyped]

from deeplab_rt.bench.machine import describe, warn_if_busy
from deeplab_rt.commands import add_model_arguments
from deeplab_rt.errors import DeeplabError
from deeplab_rt.frame import Frame
from deeplab_rt.streams.base import Recording
from deeplab_rt.streams.batch.run import open_segmenter
from deeplab_rt.streams.replay import replay
from deeplab_rt.streams.settings import ReplaySettings
from deeplab_rt.streams.sinks import open_sinks
from deeplab_rt.streams.sources import open_recording
from deeplab_rt.streams.stats import RunStats
from deeplab_rt.streams.street import STREET

_DIFFERENT = 60  # frames that are kept and given again and again
_PERIOD_NS = 33_333_333


class RepeatedDrive(Recording):
    """The first frames of the street, at half their size, again and again."""

    def __init__(self, count: int) -> None:
        super().__init__("street", count, 30.0)
        with open_recording(STREET) as source:
            frames = list(islice(source, _DIFFERENT))
        half = [
            cv2.resize(f.bgr, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for f in frames
        ]
        self._images = [np.asarray(image, np.uint8) for image in half]

    def __iter__(self) -> Iterator[Frame]:
        first = Frame(self._images[0])
        for index in range(self.total or 0):
            image = self._images[index % len(self._images)]
            yield replace(first, image=image, index=index, stamp_ns=index * _PERIOD_NS)


def measure(
    settings: ReplaySettings, frames: int, on_measure: Callable[[int, float], None]
) -> list[float]:
    """MiB resident after each tenth of the frames."""
    process = psutil.Process()
    resident: list[float] = []

    def on_frame(stats: RunStats) -> None:
        if stats.frames % (frames // 10) == 0:
            resident.append(process.memory_info().rss / 2**20)
            on_measure(stats.frames, resident[-1])

    source = RepeatedDrive(frames + 50)  # the last measure comes before the outputs are closed
    with tempfile.TemporaryDirectory() as place, open_segmenter(settings) as segmenter:
        out = Path(place)
        paths = {
            "bag": out / "bag.mcap",
            "masks": out / "masks",
            "overlay": out / "overlay.mp4",
            "report": out / "report.html",
        }
        sinks = open_sinks(paths, segmenter, settings, source)  # type: ignore[arg-type]
        replay(source, segmenter, sinks, on_frame=on_frame)  # type: ignore[arg-type]
    return resident


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    add_model_arguments(parser)
    args = parser.parse_args()
    warn_if_busy()
    settings = ReplaySettings(
        args.model, args.backend, args.precision, args.size, confidence=True, color=True
    )

    def on_measure(frames: int, mib: float) -> None:
        if not args.json:
            print(f"after {frames:6} frames {mib:8.1f} MiB", flush=True)

    try:
        resident = measure(settings, max(args.frames, 10), on_measure)
    except DeeplabError as error:
        print(f"replay_memory: {error}", file=sys.stderr)
        return 1
    growth = resident[-1] - resident[1]
    if args.json:
        result = {"machine": describe(), "frames": args.frames, "resident_mib": resident}
        print(json.dumps({**result, "growth_mib": round(growth, 1)}))
    else:
        print(f"growth from the first fifth on: {growth:.1f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
