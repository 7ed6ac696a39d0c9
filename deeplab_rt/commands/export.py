"""``deeplab_rt export``: torch weights to a model directory."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from deeplab_rt.commands import size_argument
from deeplab_rt.errors import CheckpointError


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser("export", help="turn torch weights into a model directory")
    parser.add_argument(
        "checkpoint",
        type=Path,
        help="a run's model.safetensors or epoch_NNNN.pt, or another project's state dict",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="the model directory")
    parser.add_argument(
        "--labels",
        metavar="SET",
        help="label set, shipped or a YAML file (default: the checkpoint's own)",
    )
    parser.add_argument(
        "--size",
        type=size_argument,
        metavar="WxH",
        help="network input size (default: the checkpoint's own, 640x480 where it tells none)",
    )
    parser.add_argument(
        "--output-stride",
        type=int,
        choices=(8, 16, 32),
        help="of another project's checkpoint, whose weights do not tell it",
    )
    parser.add_argument(
        "--frames", type=Path, help="folder of pictures to compare ONNX with torch on"
    )
    parser.add_argument("--no-fp16", action="store_true", help="leave model.fp16.onnx out")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from deeplab_rt.labels import load_label_set
    from deeplab_rt.models import check_input_size
    from deeplab_rt.network.checkpoints import load_checkpoint
    from deeplab_rt.network.export import export_model, read_frames

    checkpoint = load_checkpoint(args.checkpoint, args.output_stride)
    labels = load_label_set(args.labels) if args.labels else checkpoint.labels
    if labels is None:
        raise CheckpointError(
            f"{args.checkpoint} ({checkpoint.source}) has {checkpoint.model.classes} classes and no "
            "names for them; add --labels, as in --labels cityscapes19"
        )
    if len(labels) != checkpoint.model.classes:
        raise CheckpointError(
            f"{args.checkpoint} has {checkpoint.model.classes} classes and the label set "
            f"{args.labels} {len(labels)}; expected as many"
        )
    size = check_input_size(args.size or checkpoint.size or (480, 640))
    frames = read_frames(args.frames, size, limit=4) if args.frames else None
    model, checks = export_model(
        checkpoint.model,
        labels,
        args.output,
        size,
        frames=frames,
        fp16=not args.no_fp16,
        extra=checkpoint.extra,
    )
    for note in checkpoint.notes:
        print(f"note: {note}")
    for precision, check in checks.items():
        print(
            f"{model.file(precision)}: greatest difference from torch {check['max_error']:.1e} of the "
            f"greatest logit, same winner in {check['agreement']:.3%} of cells"
        )
    return 0
