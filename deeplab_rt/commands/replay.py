"""``deeplab_rt replay``: a recording in, its masks out."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from deeplab_rt.commands import add_model_arguments


def add_parser(subparsers: Any) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "replay",
        help="segment a recorded drive: every frame once, in order, stamps kept",
        description="Segment a rosbag2, a video or an image folder: every frame once, in order, with "
        "its own stamp. Without any output named, INPUT_masks is written.",
    )
    parser.add_argument(
        "input",
        nargs="+",
        metavar="INPUT",
        help="a rosbag2 (directory, .mcap, .db3), a video, an image folder; several in turn",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        help="masks bag: OUT (a rosbag2 directory), OUT.mcap, or OUT.db3 (sqlite3)",
    )
    parser.add_argument("--topic", help="the image topic, for a bag that has several")
    parser.add_argument(
        "--masks", type=Path, metavar="DIR", help="masks as PNG files of one byte a pixel"
    )
    parser.add_argument(
        "--overlay", type=Path, metavar="FILE.mp4", help="video of the frames with their labels"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Replay the inputs."""
    from deeplab_rt.segmenter import Segmenter
    from deeplab_rt.streams.base import MaskSink
    from deeplab_rt.streams.outputs import check_outputs
    from deeplab_rt.streams.progress import Progress
    from deeplab_rt.streams.replay import replay, summary
    from deeplab_rt.streams.sources import open_recordings

    outputs: dict[str, Path] = {
        kind: path
        for kind, path in (("bag", args.output), ("masks", args.masks), ("overlay", args.overlay))
        if path is not None
    }
    if not outputs:
        outputs["bag"] = Path(f"{Path(args.input[0]).resolve().stem}_masks")
    check_outputs(args.input, outputs)
    with (
        open_recordings(args.input, args.topic) as source,
        Segmenter(args.model, args.backend, args.precision, args.size) as segmenter,
    ):
        sinks: list[MaskSink] = []
        if "bag" in outputs:
            from deeplab_rt.streams.bag_writer import BagSink

            sinks.append(BagSink(outputs["bag"], segmenter.labels, args.overwrite))
        if "masks" in outputs:
            from deeplab_rt.streams.png import PngSink

            sinks.append(PngSink(outputs["masks"], args.overwrite))
        if "overlay" in outputs:
            from deeplab_rt.streams.overlays import OverlayVideo

            sinks.append(OverlayVideo(outputs["overlay"], segmenter.labels, args.overwrite))
        progress = Progress(source)
        try:
            stats, interrupted = replay(source, segmenter, sinks, on_frame=progress)
        finally:
            progress.close()
        result = summary(stats, segmenter, outputs)
    report(result, args.json, "replay")
    return 130 if interrupted else 0


def report(result: dict[str, Any], as_json: bool, command: str) -> None:
    """Print a run's warnings on stderr and its summary on stdout."""
    for warning in result["warnings"]:
        print(f"deeplab_rt {command}: warning: {warning}", file=sys.stderr)
    if as_json:
        print(json.dumps(result))
        return
    stages = ", ".join(
        f"{stage} {times['p50']:.1f}/{times['p99']:.1f}"
        for stage, times in result["latency_ms"].items()
    )
    print(
        f"{result['frames']} frames, {result['dropped']} dropped, {result['fps']:.1f} frames/s with "
        f"{result['model']} ({result['precision']}, {result['network_size']}) on {result['device']}"
    )
    print(f"ms at p50/p99: {stages}")
    if "threads" in result:
        threads = ", ".join(f"{name} {share:.0%}" for name, share in result["threads"].items())
        print(f"threads at work: {threads}; the bottleneck is {result['bottleneck']}")
    for kind, path in result["output"].items():
        print(f"{kind}: {path}")
