"""Time of a replay over the time of its network alone, with each kind of output.

``python -m benchmarks.replay_rate`` replays the street of 640x480 that the package ships, with nothing,
a bag, PNG files, and a bag with an overlay video as outputs. Each round times the network alone
(``Segmenter.segment`` on frames that lie in memory) before and after every replay, and a ratio is
taken within its round, so that a machine whose pace changes does not change it. Printed are the
medians over the rounds, and which thread waited least.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from deeplab_rt.bench.machine import describe, warn_if_busy
from deeplab_rt.commands import add_model_arguments
from deeplab_rt.errors import DeeplabError
from deeplab_rt.frame import Frame
from deeplab_rt.segmenter import Segmenter
from deeplab_rt.streams.bag_writer import BagSink
from deeplab_rt.streams.base import MaskSink
from deeplab_rt.streams.overlay_video import OverlayVideo
from deeplab_rt.streams.png import PngSink
from deeplab_rt.streams.replay import replay
from deeplab_rt.streams.sources import open_recording
from deeplab_rt.streams.stats import RunStats
from deeplab_rt.streams.street import STREET

Outputs = Callable[[Path, Segmenter], dict[str, MaskSink]]

CASES: dict[str, Outputs] = {
    "nothing": lambda place, segmenter: {},
    "bag": lambda place, segmenter: {"bag": BagSink(place / "bag.mcap", segmenter.labels)},
    "masks": lambda place, segmenter: {"masks": PngSink(place / "masks", segmenter.labels)},
    "bag and overlay": lambda place, segmenter: {
        "bag": BagSink(place / "both.mcap", segmenter.labels),
        "overlay": OverlayVideo(place / "overlay.mp4", segmenter.labels),
    },
}


def network_ms(segmenter: Segmenter, frames: Sequence[Frame]) -> float:
    """Milliseconds of a frame through the network and back, nothing beside it."""
    started = time.perf_counter()
    for frame in frames:
        segmenter.segment(frame)
    return 1e3 * (time.perf_counter() - started) / len(frames)


def replay_once(uri: str, frames: int, segmenter: Segmenter, outputs: Outputs) -> RunStats:
    with tempfile.TemporaryDirectory() as place, open_recording(uri) as source:
        stats, _ = replay(source, segmenter, outputs(Path(place), segmenter), frames=frames)
    return stats


def measure(
    uri: str, count: int, segmenter: Segmenter, rounds: int
) -> tuple[dict[str, list[float]], dict[str, RunStats]]:
    """Case -> ratio of each round, and the stats of its last replay."""
    with open_recording(uri) as source:
        frames = list(islice(source, count))
    ratios: dict[str, list[float]] = {name: [] for name in CASES}
    last: dict[str, RunStats] = {}
    replay_once(
        uri, len(frames), segmenter, CASES["bag and overlay"]
    )  # compiles and loads what is lazy
    for index in range(rounds):
        order = list(CASES.items()) if index % 2 == 0 else list(CASES.items())[::-1]
        before = network_ms(segmenter, frames)
        for name, outputs in order:
            last[name] = replay_once(uri, len(frames), segmenter, outputs)
            after = network_ms(segmenter, frames)
            ratios[name].append(1e3 / last[name].fps / ((before + after) / 2))
            before = after
    return ratios, last


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", default=STREET, help="a recording (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=150, help="of it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    add_model_arguments(parser)
    args = parser.parse_args()
    warn_if_busy()
    try:
        with Segmenter(args.model, args.backend, args.precision, args.size) as segmenter:
            ratios, last = measure(args.input, args.frames, segmenter, args.rounds)
    except DeeplabError as error:
        print(f"replay_rate: {error}", file=sys.stderr)
        return 1
    result: dict[str, Any] = {"machine": describe(), "input": args.input, "outputs": {}}
    for name, values in ratios.items():
        report = last[name].report()
        result["outputs"][name] = {
            "ratio": round(statistics.median(values), 2),
            "ratios": [round(value, 2) for value in values],
            **{key: report[key] for key in ("fps", "threads", "bottleneck")},
        }
    if args.json:
        print(json.dumps(result))
        return 0
    for name, output in result["outputs"].items():
        threads = ", ".join(f"{thread} {share:.0%}" for thread, share in output["threads"].items())
        print(
            f"{name:16} {output['ratio']:.2f} of the network alone "
            f"({min(output['ratios']):.2f} to {max(output['ratios']):.2f}), "
            f"{output['fps']:.0f} frames/s; busy: {threads}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
