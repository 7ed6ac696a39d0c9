"""``deeplab_rt train``: fit a network by a recipe."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from deeplab_rt.commands import positive_number, whole_number


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "train",
        help="fit a network to labelled images by a recipe",
        description=(
            "Fit a network to labelled images by a recipe, and write model.safetensors (averaged "
            "weights), a log line and a resumable file for each epoch, and run.png to the run folder."
        ),
        epilog="example: deeplab_rt train deeplab_lite0 --data DATA -o runs/lite0 --minutes 90",
    )
    parser.add_argument("recipe", help="name of a shipped recipe or path of a YAML file")
    parser.add_argument("-o", "--output", type=Path, required=True, help="run folder")
    parser.add_argument(
        "--data", type=Path, default=Path(), help="folder the recipe's roots are relative to"
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="newest",
        metavar="EPOCH.pt",
        help="continue from the run folder's newest epoch, or from the given one",
    )
    parser.add_argument(
        "--steps", type=whole_number(1, "a number of steps"), help="length of the schedule in steps"
    )
    parser.add_argument(
        "--minutes", type=positive_number, help="length of the schedule in minutes instead"
    )
    parser.add_argument("--seed", type=whole_number(0, "a seed"))


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from deeplab_rt.training.run import train

    overrides = {
        key: getattr(args, key)
        for key in ("steps", "minutes", "seed")
        if getattr(args, key) is not None
    }
    path = train(args.recipe, args.output, args.data, resume=args.resume, overrides=overrides)
    print(f"trained weights: {path} (next: deeplab_rt export {path} -o engines/NAME)")
    return 0
