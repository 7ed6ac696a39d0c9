"""``deeplab_rt eval``: accuracy of a model or a checkpoint on labelled pictures."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from deeplab_rt.commands import add_model_arguments
from deeplab_rt.errors import DataError


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser("eval", help="measure a model on labelled pictures")
    add_model_arguments(parser)
    parser.add_argument(
        "--checkpoint", type=Path, help="torch weights, evaluated by torch in float32"
    )
    parser.add_argument(
        "--data",
        action="append",
        required=True,
        metavar="SET=FOLDER",
        help="a shipped data set (camvid, camvid_frames, idd_lite) or a YAML file, and its folder",
    )
    parser.add_argument("--split", default="val", help="default: %(default)s")
    parser.add_argument(
        "--compare",
        nargs="+",
        default=[],
        metavar="PRECISION",
        help="evaluate these precisions too and say how far each agrees with --precision",
    )
    parser.add_argument(
        "-o", "--output", type=Path, help="folder for confusion matrices and the worst pictures"
    )
    parser.add_argument("--record", action="store_true", help="write the figures to the manifest")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from deeplab_rt.training.evaluation import draw_confusion, draw_pictures
    from deeplab_rt.training.measure import measure, record

    pairs = []
    for text in args.data:
        name, separator, folder = text.partition("=")
        if not separator:
            raise DataError(f"--data {text!r}; expected SET=FOLDER, as in camvid=data/CamVid")
        pairs.append((name, Path(folder)))
    measured = measure(
        model=args.model,
        checkpoint=args.checkpoint,
        backend=args.backend,
        precisions=[args.precision, *args.compare],
        size=args.size,
        data=pairs,
        split=args.split,
    )
    if args.output is not None:
        args.output.mkdir(parents=True, exist_ok=True)
        for (name, runner), evaluation in measured.evaluations.items():
            stem = f"{name}-{runner}"
            draw_confusion(evaluation.confusion, args.output / f"{stem}-confusion.png")
            draw_pictures(evaluation, evaluation.worst(6), args.output / f"{stem}-worst.png")
        (args.output / "eval.json").write_text(json.dumps(measured.full(), indent=1) + "\n")
    if args.record:
        record(args.model, measured)
    print(json.dumps(measured.full()) if args.json else measured.text())
    return 0
