"""``deeplab_rt eval``: accuracy of a model or a checkpoint on labelled images."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

from deeplab_rt.commands import add_model_arguments, data_argument
from deeplab_rt.errors import DataError

EPILOG = """\
examples:
  deeplab_rt eval --data camvid=DATA/camvid
  deeplab_rt eval --precision fp32 --compare int8 --data camvid=DATA/camvid --record
  deeplab_rt eval --sequence drive.mp4
"""


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "eval",
        help="measure a model on labelled images",
        description=(
            "Measure a model, or a checkpoint, on labelled images: IoU of every class, the drivable "
            "mask, the calibration of the confidence, and the flicker over a sequence."
        ),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--checkpoint", type=Path, help="torch weights, evaluated by torch in float32"
    )
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="SET=FOLDER",
        help="a shipped data set (camvid, idd_lite, ...) or a YAML file, and its folder",
    )
    parser.add_argument("--split", default="val", help="default: %(default)s")
    parser.add_argument("--limit", type=int, help="so many images of each set, evenly spaced")
    parser.add_argument(
        "--sequence",
        type=Path,
        action="append",
        default=[],
        metavar="INPUT",
        help="video or folder of frames in order: how many pixels change their label where the "
        "image does not",
    )
    parser.add_argument(
        "--void", action="store_true", help="say what pixels without a label are predicted as"
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        default=[],
        metavar="PRECISION",
        help="evaluate these precisions too and say how far each agrees with --precision",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help="folder for confusion matrices, reliability plots and the worst images",
    )
    parser.add_argument(
        "--record", action="store_true", help="write the figures to metrics.json and the card"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _name(path: Path) -> str:
    """A video by its name; a folder of frames, which may be called val, with its parent's."""
    resolved = path.resolve()
    return "/".join(resolved.parts[-2:]) if resolved.is_dir() else path.name


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from deeplab_rt.streams.sources import open_source
    from deeplab_rt.training.calibration import draw_reliability
    from deeplab_rt.training.evaluation import draw_confusion, draw_images
    from deeplab_rt.training.measure import measure, record

    if not args.data and not args.sequence:
        raise DataError("nothing to measure on; give --data SET=FOLDER or --sequence INPUT")
    measured = measure(
        model=args.model,
        checkpoint=args.checkpoint,
        backend=args.backend,
        precisions=[args.precision, *args.compare],
        size=args.size,
        data=[data_argument(text) for text in args.data],
        split=args.split,
        sequences=[(_name(path), partial(open_source, path)) for path in args.sequence],
        limit=args.limit,
    )
    if args.output is not None:
        args.output.mkdir(parents=True, exist_ok=True)
        for (name, runner), evaluation in measured.evaluations.items():
            stem = f"{name}-{runner}"
            draw_confusion(evaluation.confusion, args.output / f"{stem}-confusion.png")
            draw_reliability(evaluation.calibration, args.output / f"{stem}-reliability.png")
            draw_images(evaluation, evaluation.worst(6), args.output / f"{stem}-worst.png")
        (args.output / "eval.json").write_text(json.dumps(measured.full(), indent=1) + "\n")
    if args.record:
        if args.limit is not None:
            raise DataError("--record writes figures of whole data sets; leave out --limit")
        record(args.model, measured)
    print(json.dumps(measured.full()) if args.json else measured.text(args.void))
    return 0
