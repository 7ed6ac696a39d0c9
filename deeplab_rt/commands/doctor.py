"""``deeplab_rt doctor``: what this machine has and lacks."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

_SIGNS = {"ok": "ok", "warning": "!", "missing": "-", "error": "ERROR"}


def add_parser(subparsers: Any) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "doctor",
        help="what this machine has and lacks, with the command that fixes each",
        description="Look at the GPU, TensorRT, ROS, OpenCV, cameras, models and engines of this "
        "machine. Exit 0 if frames can be segmented here, 1 if not.",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Examine and print."""
    from deeplab_rt.doctor import can_run, examine

    findings = examine()
    works = can_run(findings)
    if args.json:
        print(json.dumps({"ok": works, "findings": [one.to_dict() for one in findings]}))
    else:
        width = max(len(one.name) for one in findings)
        for one in findings:
            print(f"{_SIGNS[one.state]:>5}  {one.name:<{width}}  {one.found}")
            if one.fix:
                print(f"{'':>5}  {'':<{width}}  fix: {one.fix}")
    if not works:
        lacks = "; ".join(one.found for one in findings if one.state == "error")
        print(f"deeplab_rt doctor: no frame can be segmented here: {lacks}", file=sys.stderr)
    return 0 if works else 1
