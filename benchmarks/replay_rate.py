"""Time of a replay over the time of its network alone, with each kind of output.

``python -m benchmarks.replay_rate`` renders a 640x480 drive into a video and replays it with nothing,
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
from pathlib import Path
from typing import Any

from deeplab_rt.bench.machine import describe, warn_if_busy
from deeplab_rt.commands import add_model_arguments, size_argument
from deeplab_rt.errors import DeeplabError
from deeplab_rt.frame import Frame, Size
from deeplab_rt.segmenter import Segmenter
from deeplab_rt.streams.bag_writer import BagSink
from deeplab_rt.streams.base import MaskSink
from deeplab_rt.streams.overlays import OverlayVideo
from deeplab_rt.streams.png import PngSink
from deeplab_rt.streams.replay import replay
from deeplab_rt.streams.stats import RunStats
from deeplab_rt.streams.video import VideoFile
from tools.street.street import Street

Outputs = Callable[[Path, Segmenter], dict[str, MaskSink]]

CASES: dict[str, Outputs] = {
    "nothing": lambda place, segmenter: {},
    "bag": lambda place, segmenter: {"bag": BagSink(place / "bag.mcap", segmenter.labels)},
    "masks": lambda place, segmenter: {"masks": PngSink(place / "masks")},
    "bag and overlay": lambda place, segmenter: {
        "bag": BagSink(place / "both.mcap", segmenter.labels),
        "overlay": OverlayVideo(place / "overlay.mp4", segmenter.labels),
    },
}


def write_drive(path: Path, size: Size, frames: int) -> None:
    """An H.264 video of a rendered drive."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "veryfast"}
        street = Street(size)
        for index in range(frames):
            image, _ = street.render(index)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())


def network_ms(segmenter: Segmenter, frames: Sequence[Frame]) -> float:
    """Milliseconds of a frame through the network and back, nothing beside it."""
    started = time.perf_counter()
    for frame in frames:
        segmenter.segment(frame)
    return 1e3 * (time.perf_counter() - started) / len(frames)


def replay_once(video: Path, segmenter: Segmenter, outputs: Outputs) -> RunStats:
    with tempfile.TemporaryDirectory() as place, VideoFile(video) as source:
        stats, _ = replay(source, segmenter, outputs(Path(place), segmenter))
    return stats


def measure(
    video: Path, segmenter: Segmenter, rounds: int
) -> tuple[dict[str, list[float]], dict[str, RunStats]]:
    """Case -> ratio of each round, and the stats of its last replay."""
    with VideoFile(video) as source:
        frames = list(source)
    ratios: dict[str, list[float]] = {name: [] for name in CASES}
    last: dict[str, RunStats] = {}
    replay_once(video, segmenter, CASES["bag and overlay"])  # compiles and loads what is lazy
    for index in range(rounds):
        order = list(CASES.items()) if index % 2 == 0 else list(CASES.items())[::-1]
        before = network_ms(segmenter, frames)
        for name, outputs in order:
            last[name] = replay_once(video, segmenter, outputs)
            after = network_ms(segmenter, frames)
            ratios[name].append(1e3 / last[name].fps / ((before + after) / 2))
            before = after
    return ratios, last


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frame", type=size_argument, default=Size(480, 640), metavar="WxH")
    parser.add_argument("--frames", type=int, default=150, help="of the drive")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    add_model_arguments(parser)
    args = parser.parse_args()
    warn_if_busy()
    try:
        with (
            tempfile.TemporaryDirectory() as place,
            Segmenter(args.model, args.backend, args.precision, args.size) as segmenter,
        ):
            video = Path(place) / "drive.mp4"
            write_drive(video, args.frame, args.frames)
            ratios, last = measure(video, segmenter, args.rounds)
    except DeeplabError as error:
        print(f"replay_rate: {error}", file=sys.stderr)
        return 1
    result: dict[str, Any] = {"machine": describe(), "frame": str(args.frame), "outputs": {}}
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
