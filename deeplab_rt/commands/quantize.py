"""``deeplab_rt quantize``: INT8 files of a model, by post-training quantisation."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from deeplab_rt.commands import whole_number
from deeplab_rt.models import DEFAULT_MODEL


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "quantize",
        help="add INT8 files to a model, calibrated on real frames",
        description=(
            "Add INT8 files to a model directory by post-training quantisation: model.int8.onnx for "
            "CPUs, model.int8-trt.onnx for TensorRT. Frames at the network's own size are enough: no "
            "labels are needed."
        ),
        epilog="example: deeplab_rt quantize engines/mine --frames DATA/camvid/train --target cpu",
    )
    parser.add_argument("model", nargs="?", default=DEFAULT_MODEL, help="name or directory")
    parser.add_argument(
        "--frames",
        type=Path,
        nargs="+",
        required=True,
        help="folders of training images to calibrate on",
    )
    parser.add_argument(
        "--check",
        type=Path,
        help="folder of other images to compare with fp32 on (default: the first of --frames)",
    )
    parser.add_argument(
        "--target", choices=("cpu", "tensorrt", "both"), default="both", help="default: %(default)s"
    )
    parser.add_argument(
        "--count",
        type=whole_number(1, "a number of frames"),
        default=128,
        help="calibration frames (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    import numpy as np

    from deeplab_rt.models import load_model
    from deeplab_rt.network.export import read_frames
    from deeplab_rt.network.quantisation import TARGETS, quantise_model

    model = load_model(args.model)
    per_folder = -(-args.count // len(args.frames))
    frames = np.concatenate([read_frames(f, model.input_size, per_folder) for f in args.frames])
    check = read_frames(args.check or args.frames[0], model.input_size, 16)
    targets = list(TARGETS) if args.target == "both" else [args.target]
    model, agreement = quantise_model(model, frames, check, targets)
    for target, equal in agreement.items():
        path = model.file(TARGETS[target][0])
        print(f"{path}: same winner as fp32 in {equal:.2%} of {len(check)} images' cells")
    return 0
