"""``deeplab_rt webcam``: a camera in, its masks on a screen or into a bag, live."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplab_rt.commands import add_model_arguments, positive_number, whole_number

if TYPE_CHECKING:
    from deeplab_rt.segmenter import Segmenter
    from deeplab_rt.streams.base import FrameSource
    from deeplab_rt.streams.page import PageView
    from deeplab_rt.streams.stats import RunStats


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
        help="camera number, device path, URL, GStreamer pipeline, or a recording "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--view",
        choices=("window", "web", "none"),
        help="where to look at it: a window, a page in the browser, nowhere "
        "(default: window where there is a display, or else the page)",
    )
    parser.add_argument(
        "--port",
        type=whole_number(0, "a port"),
        metavar="N",
        help="of the page (default: 8088, or a free one where that is in use)",
    )
    parser.add_argument(
        "--host",
        metavar="ADDRESS",
        help="open the page to the network, on this address of this machine (0.0.0.0 for all), to "
        "those who have the printed link (default: this machine only)",
    )
    parser.add_argument(
        "--loop", action="store_true", help="begin a recording again when it has ended"
    )
    parser.add_argument(
        "--wait", action="store_true", help="wait for a camera that is silent, however long"
    )
    parser.add_argument(
        "--rtsp-transport",
        choices=("tcp", "udp"),
        default="tcp",
        help="what carries the frames of an RTSP camera (default: %(default)s)",
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
    from deeplab_rt.segmenter import Segmenter
    from deeplab_rt.streams.base import MaskSink
    from deeplab_rt.streams.outputs import check_outputs
    from deeplab_rt.streams.progress import Progress
    from deeplab_rt.streams.replay import RealTime, replay, summary
    from deeplab_rt.streams.stats import RunStats

    outputs: dict[str, Path] = {} if args.record is None else {"bag": args.record}
    check_outputs([args.device], outputs)
    view = _view(args)
    # The network first: the camera's clock would run while it compiles.
    with (
        Segmenter(args.model, args.backend, args.precision, args.size) as segmenter,
        _open(args, view) as source,
    ):
        stats = RunStats(source)
        sinks: list[MaskSink] = []
        page: PageView | None = None
        if args.record is not None:
            from deeplab_rt.streams.bag_writer import BagSink

            sinks.append(BagSink(args.record, segmenter.labels, args.overwrite, with_frames=True))
        if view == "web":
            sinks.append(page := _open_page(args, segmenter, source, stats))
        elif view == "window":
            from deeplab_rt.streams.player import Player
            from deeplab_rt.streams.window import Window

            player = source if isinstance(source, Player) else None
            sinks.append(Window(segmenter.labels, stats, player))
        if view != "none" and not source.live:
            sinks.append(RealTime())
        progress = Progress(source)

        def on_frame(stats: RunStats) -> None:
            if page is not None:
                segmenter.confidence = page.watched  # made only while somebody can point at it
            progress(stats)

        try:
            replay(source, segmenter, sinks, stats, on_frame, args.frames, args.seconds)
        finally:
            progress.close()
        result = summary(stats, segmenter, outputs)
    report(result, args.json, "webcam")
    return 1 if getattr(source, "lost", False) else 0


def _view(args: argparse.Namespace) -> str:
    """Where to look: as asked for, or what this machine has.

    Raises:
        StreamError: there is no display for the window that was asked for, or options that do not
            belong together.
    """
    from deeplab_rt.errors import StreamError
    from deeplab_rt.streams.window import no_display

    for_page = args.host is not None or args.port is not None
    if for_page and args.view not in (None, "web"):
        raise StreamError(f"--host and --port are of the page; take `--view web`, not {args.view}")
    if args.view in ("web", "none"):
        return str(args.view)
    if for_page:
        return "web"
    reason = no_display()
    if reason is None:
        return "window"
    if args.view == "window":
        raise StreamError(f"no window: {reason}; take `--view web`")
    print(f"deeplab_rt webcam: no window: {reason}; here is a page instead", file=sys.stderr)
    return "web"


def _open(args: argparse.Namespace, view: str) -> FrameSource:
    """The camera, or the recording as a player where it is looked at and not recorded."""
    from deeplab_rt.errors import StreamError
    from deeplab_rt.streams.live_camera import CameraOptions, LiveCamera, is_camera
    from deeplab_rt.streams.player import Player
    from deeplab_rt.streams.sources import open_source, opener

    if is_camera(args.device):
        if args.loop:
            raise StreamError(f"--loop is for recordings, and {args.device} is a camera")
        reconnect_s = None if args.wait else CameraOptions.reconnect_s
        options = CameraOptions(reconnect_s=reconnect_s, rtsp_transport=args.rtsp_transport)
        return LiveCamera(args.device, options)
    if args.wait:
        raise StreamError(f"--wait is for cameras, and {args.device} is none")
    if args.loop and args.record is not None:
        raise StreamError("--loop and --record: the stamps of what is recorded would run backwards")
    if args.loop or (view != "none" and args.record is None):
        return Player(opener(args.device), args.loop)
    return open_source(args.device)


def _open_page(
    args: argparse.Namespace, segmenter: Segmenter, source: FrameSource, stats: RunStats
) -> PageView:
    """The page, with a line that says where it is and who can see it."""
    from deeplab_rt.streams.page import Access, PageView
    from deeplab_rt.streams.player import Player

    access = Access(port=args.port) if args.host is None else Access(args.host, args.port)
    info = segmenter.info
    page = PageView(
        segmenter.labels,
        stats,
        access,
        player=source if isinstance(source, Player) else None,
        facts={
            "Model": segmenter.model.name,
            "Device": info.device,
            "Precision": info.precision,
            "Network input": str(info.input_size),
        },
        status=lambda: getattr(source, "status", ""),
    )
    if page.is_open:
        print(
            "deeplab_rt webcam: warning: the page is open to the network: whoever has this link sees "
            "what the camera sees, and what travels is not encrypted",
            file=sys.stderr,
        )
    print(f"deeplab_rt webcam: look at {page.url}", file=sys.stderr, flush=True)
    return page
