"""``deeplab_rt replay``: recordings in, their masks out."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplab_rt.commands import add_model_arguments
from deeplab_rt.commands.arguments import (
    argument,
    parse_count,
    parse_image_range,
    parse_shard,
    parse_time,
    parse_weight,
)

if TYPE_CHECKING:
    from deeplab_rt.streams.batch.inputs import Job
    from deeplab_rt.streams.batch.job import JobResult
    from deeplab_rt.streams.batch.run import BatchSummary
    from deeplab_rt.streams.settings import ReplaySettings


def add_parser(subparsers: Any) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "replay",
        help="segment recorded drives: every frame once, in order, stamps kept",
        description="Segment rosbags, videos or image folders: every frame once, in order, with its "
        "own stamp. Without any output named, INPUT_masks is written.",
    )
    parser.add_argument(
        "input",
        nargs="*",
        metavar="INPUT",
        help="a rosbag2 (directory, .mcap, .db3), a video, an image folder; with --out-dir also "
        "folders of recordings and glob patterns",
    )
    _add_outputs(parser)
    _add_selection(parser)
    _add_many(parser)
    parser.set_defaults(usage_error=parser.error)
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    add_model_arguments(parser)


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("outputs")
    group.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        help="masks bag: OUT (a rosbag2 directory), OUT.mcap, or OUT.db3 (sqlite3)",
    )
    group.add_argument(
        "--with-input", action="store_true", help="copy an input bag's messages into the masks bag"
    )
    group.add_argument(
        "--confidence", action="store_true", help="write the confidence beside the masks"
    )
    group.add_argument(
        "--color", action="store_true", help="write the label map in colours beside PNG masks"
    )
    group.add_argument("--no-bag", action="store_true", help="with --out-dir: write no masks bag")
    group.add_argument(
        "--masks",
        nargs="?",
        const=True,
        metavar="DIR",
        help="masks as PNG files of one byte a pixel; with --out-dir without a name",
    )
    group.add_argument(
        "--overlay",
        nargs="?",
        const=True,
        metavar="FILE.mp4",
        help="video of the frames with their labels; with --out-dir without a name",
    )
    group.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="an HTML page for each input and an index over all pages in DIR",
    )
    group.add_argument(
        "--alpha",
        type=argument(parse_weight),
        default=0.5,
        help="weight of the overlay's colours (default: 0.5)",
    )
    group.add_argument(
        "--only", choices=("drivable", "objects"), help="colour this group alone in the overlay"
    )
    group.add_argument("--contours", action="store_true", help="draw the borders of the classes")
    group.add_argument(
        "--side-by-side", action="store_true", help="show the frame beside its overlay"
    )


def _add_selection(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("which frames")
    group.add_argument(
        "--topic",
        action="append",
        default=[],
        help="image topic of a bag that has several; again for more cameras",
    )
    group.add_argument("--all-topics", action="store_true", help="every image topic of a bag")
    group.add_argument(
        "--from",
        dest="begin",
        type=argument(parse_time),
        default=0.0,
        metavar="TIME",
        help="begin so long after the first frame: seconds, MM:SS or H:MM:SS",
    )
    group.add_argument(
        "--to", dest="end", type=argument(parse_time), metavar="TIME", help="end there, likewise"
    )
    group.add_argument(
        "--every", type=argument(parse_count), default=1, metavar="N", help="take every N-th frame"
    )
    group.add_argument(
        "--image-range",
        type=argument(parse_image_range),
        metavar="LOW,HIGH",
        help="samples of 16-bit images that become black and white: 0,4095 for 12 bits, or 1%%,99%% "
        "of each image (default: all 16 bits)",
    )
    group.add_argument(
        "--unpack-limit",
        type=argument(parse_count),
        default=512,
        metavar="MB",
        help="largest message or chunk of a bag after decompression (default: %(default)s)",
    )
    group.add_argument(
        "--offset-stamps",
        action="store_true",
        help="several inputs into one output: let each begin where the one before it ends",
    )


def _add_many(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("many recordings")
    group.add_argument(
        "--out-dir", type=Path, metavar="DIR", help="give each input its own outputs: DIR/NAME..."
    )
    group.add_argument(
        "--list",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a text file that names an input a line",
    )
    group.add_argument(
        "--keep-going",
        action="store_true",
        help="go on after an input that fails; exit 1 at the end",
    )
    group.add_argument(
        "--resume", action="store_true", help="continue interrupted inputs, not begin them anew"
    )
    group.add_argument(
        "--jobs", type=argument(parse_count), default=1, metavar="N", help="processes"
    )
    group.add_argument(
        "--shard",
        type=argument(parse_shard),
        default=(1, 1),
        metavar="I/N",
        help="take the I-th of N parts of the inputs, for a scheduler of your own",
    )
    group.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="run on a Ray cluster: its address, auto, or local (needs the extra `fleet`)",
    )


def run(args: argparse.Namespace) -> int:
    """Replay the inputs."""
    _check_usage(args)
    return _run_one(args) if args.out_dir is None else _run_many(args)


def _check_usage(args: argparse.Namespace) -> None:
    """Refuse options that would be ignored, as argparse refuses a wrong value: exit code 2."""
    many = args.out_dir is not None
    if not args.input and not args.list:
        args.usage_error("name an INPUT, or --list FILE with --out-dir DIR")
    if args.end is not None and args.end <= args.begin:
        args.usage_error(f"--to {args.end:g} s is not after --from {args.begin:g} s")
    alone = {"-o": args.output is not None, "--offset-stamps": args.offset_stamps}
    together = {
        "--list": args.list,
        "--keep-going": args.keep_going,
        "--resume": args.resume,
        "--no-bag": args.no_bag,
        "--jobs": args.jobs > 1,
        "--shard": args.shard != (1, 1),
        "--ray": args.ray is not None,
    }
    for option, given in alone.items() if many else together.items():
        if given:
            args.usage_error(f"{option} {'has no place beside' if many else 'needs'} --out-dir DIR")
    if args.topic and args.all_topics:
        args.usage_error("--topic chooses some, --all-topics takes every one; give one of them")
    if args.with_input and not many and len(args.input) > 1:
        args.usage_error("--with-input takes one INPUT, or --out-dir DIR")
    for option in ("masks", "overlay"):
        value = getattr(args, option)
        if many and isinstance(value, str):
            args.usage_error(f"--{option} takes no name beside --out-dir, which gives it one")
        if not many and value is True:
            args.usage_error(f"--{option} needs a name, or --out-dir DIR")
    if many and args.no_bag and not (args.masks or args.overlay or args.report):
        args.usage_error("--no-bag leaves nothing to write; add --masks, --overlay or --report")


def settings_of(args: argparse.Namespace, kinds: tuple[str, ...]) -> ReplaySettings:
    """The settings that the arguments mean."""
    from deeplab_rt.camera.encodings import ALL_16_BITS
    from deeplab_rt.streams.base import ReadOptions, Selection
    from deeplab_rt.streams.overlays import OverlayStyle
    from deeplab_rt.streams.settings import ReplaySettings

    return ReplaySettings(
        args.model,
        args.backend,
        args.precision,
        args.size,
        kinds,
        read=ReadOptions(
            tuple(args.topic),
            args.all_topics,
            Selection(args.begin, args.end, args.every),
            unpack_bytes=args.unpack_limit << 20,
            image_range=args.image_range or ALL_16_BITS,
        ),
        confidence=args.confidence or "report" in kinds,  # it shows the least confident frames
        color=args.color,
        with_input=args.with_input,
        style=OverlayStyle(args.alpha, args.only, args.contours, args.side_by_side),
    )


def _run_one(args: argparse.Namespace) -> int:
    """Replay inputs into the outputs that were named, one after the other."""
    from deeplab_rt.streams.batch.run import open_segmenter
    from deeplab_rt.streams.outputs import check_outputs, make_folder
    from deeplab_rt.streams.progress import Progress
    from deeplab_rt.streams.recordings import open_recordings
    from deeplab_rt.streams.replay import replay, summary
    from deeplab_rt.streams.sinks import open_sinks, warnings_of

    outputs = {
        kind: Path(path)
        for kind, path in (("bag", args.output), ("masks", args.masks), ("overlay", args.overlay))
        if path is not None
    }
    if args.report is not None:
        outputs["report"] = args.report / f"{Path(args.input[0]).resolve().stem}.html"
        make_folder(args.report)
    elif not outputs:
        outputs["bag"] = Path(f"{Path(args.input[0]).resolve().stem}_masks")
    check_outputs(args.input, outputs)
    settings = settings_of(args, tuple(outputs))
    with (
        open_recordings(args.input, settings, args.offset_stamps) as source,
        open_segmenter(settings) as segmenter,
    ):
        sinks = open_sinks(outputs, segmenter, settings, source, args.overwrite)
        progress = Progress(source)
        try:
            stats, interrupted = replay(source, segmenter, sinks, on_frame=progress)
        finally:
            progress.close()
        result = summary(stats, segmenter, outputs)
        result["warnings"] = [*result["warnings"], *warnings_of(sinks)]
    _write_index(args)
    report(result, args.json, "replay")
    return 130 if interrupted else 0


def _run_many(args: argparse.Namespace) -> int:
    """Replay every input into outputs of its own in ``--out-dir``."""
    from deeplab_rt.streams.batch.inputs import expand_inputs, plan_jobs, shard_of
    from deeplab_rt.streams.batch.run import run_batch
    from deeplab_rt.streams.outputs import make_folder

    wanted = {"bag": not args.no_bag, "masks": args.masks, "overlay": args.overlay}
    wanted["report"] = args.report is not None
    settings = settings_of(args, tuple(kind for kind, given in wanted.items() if given))
    jobs = plan_jobs(expand_inputs(args.input, args.list), args.out_dir, args.report)
    jobs = shard_of(jobs, *args.shard)
    for folder in (args.out_dir, args.report):
        if folder is not None:
            make_folder(folder)
    with redirect_stdout(sys.stderr):  # where Ray prints that a worker was killed
        results = _results(args, jobs, settings)
        summary = run_batch(results, len(jobs), args.keep_going, _print_result)
    _write_index(args)
    if args.json:
        print(json.dumps(summary.to_dict()))
    else:
        counts = ", ".join(
            f"{summary.count(status)} {status}"
            for status in ("done", "skipped", "failed", "interrupted")
        )
        print(f"{summary.total} recordings: {counts}; in {args.out_dir}")
    return summary.exit_code


def _write_index(args: argparse.Namespace) -> None:
    if args.report is not None:
        from deeplab_rt.streams.report.page import write_index

        write_index(args.report)


def _results(args: argparse.Namespace, jobs: list[Job], settings: ReplaySettings) -> Any:
    from deeplab_rt.streams.batch.job import Mode
    from deeplab_rt.streams.batch.run import in_processes, in_turn

    mode = Mode(args.resume, args.overwrite)
    if args.ray is not None:
        from deeplab_rt.streams.batch.cluster import on_cluster

        return on_cluster(jobs, settings, mode, args.ray)
    if args.jobs > 1:
        return in_processes(jobs, settings, mode, min(args.jobs, len(jobs)))
    return in_turn(jobs, settings, mode)


def _print_result(summary: BatchSummary, result: JobResult) -> None:
    """A line on stderr for each recording as it ends."""
    place = f"[{len(summary.results)}/{summary.total}] {result.name}"
    if result.status == "failed":
        line = f"deeplab_rt replay: {place}: failed: {result.error}"
    else:
        line = f"{place}: {result.status}, {result.summary.get('frames', 0)} frames"
        if result.status != "skipped":
            line += f", {result.summary.get('fps', 0):.1f} frames/s"
        if result.resumed:
            line += f", {result.resumed} of them made before"
    print(line, file=sys.stderr, flush=True)
    if result.status != "skipped":
        for warning in result.summary.get("warnings", ()):
            print(f"deeplab_rt replay: warning: {warning}", file=sys.stderr)


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
