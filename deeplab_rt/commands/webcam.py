"""``deeplab_rt webcam``: a camera in, its masks on a screen or into a bag, live."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from deeplab_rt.commands import add_model_arguments, positive_number, whole_number


def add_parser(subparsers: Any) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "webcam",
        help="segment a live camera and look at it",
        description="Segment a live camera: always the newest frame. Ctrl-C ends it.",
    )
    parser.add_argument(
        "--device",
        default="0",
        metavar="N|PATH|URL",
        help="camera number, device path, URL, or a recording (default: %(default)s)",
    )
    parser.add_argument(
        "--view",
        choices=("window", "web", "none"),
        help="where to look at it: a window, a page on 127.0.0.1, nowhere "
        "(default: window where there is a display)",
    )
    parser.add_argument(
        "--record",
        type=Path,
        metavar="OUT.mcap",
        help="record frames and masks: OUT.mcap, OUT (a rosbag2 directory) or OUT.db3",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a recording that exists")
    parser.add_argument(
        "--frames",
        type=whole_number(1, "a number of frames"),
        metavar="N",
        help="end after N frames",
    )
    parser.add_argument("--seconds", type=positive_number, metavar="S", help="end after S seconds")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run until Ctrl-C, until the camera ends, or as long as asked for."""
    from deeplab_rt.commands.replay import report
    from deeplab_rt.errors import StreamError
    from deeplab_rt.segmenter import Segmenter
    from deeplab_rt.streams.base import MaskSink
    from deeplab_rt.streams.outputs import check_outputs
    from deeplab_rt.streams.progress import Progress
    from deeplab_rt.streams.replay import RealTime, replay, summary
    from deeplab_rt.streams.sources import open_source
    from deeplab_rt.streams.stats import RunStats
    from deeplab_rt.streams.window import Window, no_display

    outputs: dict[str, Path] = {} if args.record is None else {"bag": args.record}
    check_outputs([args.device], outputs)
    view = args.view
    if view in (None, "window") and (reason := no_display()) is not None:
        if view == "window":
            raise StreamError(f"no window: {reason}; take `--view web`")
        view = "none"
        print(f"deeplab_rt webcam: no window: {reason}; `--view web` shows a page", file=sys.stderr)
    # The network first: the camera's clock would run while it compiles.
    with (
        Segmenter(args.model, args.backend, args.precision, args.size) as segmenter,
        open_source(args.device) as source,
    ):
        stats = RunStats(source)
        sinks: list[MaskSink] = []
        if args.record is not None:
            from deeplab_rt.streams.bag_writer import BagSink

            sinks.append(BagSink(args.record, segmenter.labels, args.overwrite, with_frames=True))
        if view == "web":
            from deeplab_rt.streams.web import WebView

            page = WebView(segmenter.labels, stats)
            print(f"deeplab_rt webcam: look at {page.url}", file=sys.stderr, flush=True)
            sinks.append(page)
        elif view != "none":
            sinks.append(Window(segmenter.labels, stats))
        if view != "none" and not source.live:
            sinks.append(RealTime())
        progress = Progress(source)
        try:
            replay(source, segmenter, sinks, stats, progress, args.frames, args.seconds)
        finally:
            progress.close()
        result = summary(stats, segmenter, outputs)
    report(result, args.json, "webcam")
    return 0
