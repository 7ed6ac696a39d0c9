"""``deeplab_rt export``: torch weights to a model directory."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from deeplab_rt.commands import data_argument, size_argument
from deeplab_rt.errors import CheckpointError, DataError

EPILOG = """\
examples:
  deeplab_rt export runs/mine/model.safetensors -o engines/mine
  deeplab_rt export best_deeplabv3plus.pth -o engines/city --labels cityscapes19 --size 1024x512
  deeplab_rt export smp.pth -o engines/smp --labels mine.yaml --output-stride 8

a label set of your own (ids start at 1 and follow the network's classes):
  labels:
    - {id: 1, name: background, color: [0, 0, 0], groups: []}
    - {id: 2, name: road, color: [128, 64, 128], groups: [drivable]}
    - {id: 3, name: car, color: [0, 0, 142], groups: [objects]}
"""


def _rates(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; expected numbers, as in 12,24,36") from None


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "export",
        help="turn torch weights into a model directory",
        description=(
            "Turn torch weights, of this project or of another one that it recognises, into a model "
            "directory: model.onnx, model.safetensors (to train from) and the manifest."
        ),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
        "--atrous-rates",
        type=_rates,
        metavar="A,B,C",
        help="likewise, the ASPP's dilations at that stride (default: the project's own)",
    )
    parser.add_argument(
        "--frames", type=Path, help="folder of images to compare ONNX with torch on"
    )
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="LOGITS.npy",
        help="logits that the author's code gives for --reference-image, to compare with",
    )
    parser.add_argument(
        "--reference-image", type=Path, metavar="IMAGE", help="of the network's input size"
    )
    parser.add_argument(
        "--calibrate",
        action="append",
        default=[],
        metavar="SET=FOLDER",
        help="validation data to fit the confidence's temperature on; labels stay the same",
    )
    parser.add_argument(
        "--round",
        action="store_true",
        help="round the weights of model.onnx to float16's precision: it compresses better",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from deeplab_rt.labels import load_label_set
    from deeplab_rt.models import check_input_size
    from deeplab_rt.network.checkpoints import load_checkpoint
    from deeplab_rt.network.export import compare_with_reference, export_model, read_frames

    if (args.reference is None) != (args.reference_image is None):
        raise DataError("--reference and --reference-image belong together; give both or neither")
    checkpoint = load_checkpoint(args.checkpoint, args.output_stride, args.atrous_rates)
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
    extra = dict(checkpoint.extra)
    if args.calibrate:
        from deeplab_rt.training.calibration import fit_temperature, fold_temperature
        from deeplab_rt.training.data import load_data_set

        sets = [
            load_data_set(name, folder, "val", labels.names)
            for name, folder in map(data_argument, args.calibrate)
        ]
        temperature, errors = fit_temperature(checkpoint.model, sets, size)
        fold_temperature(checkpoint.model, temperature)
        extra["temperature"] = round(temperature * extra.get("temperature", 1.0), 4)
        print(f"temperature {temperature:.3f}, folded into the last convolution")
        for name, (before, after) in errors.items():
            print(f"  {name}: expected calibration error {before:.2%}, then {after:.2%}")
    model, check = export_model(
        checkpoint.model,
        labels,
        args.output,
        size,
        frames=frames,
        rounded=args.round,
        extra=extra,
    )
    for note in checkpoint.notes:
        print(f"note: {note}")
    print(
        f"{model.file('fp32')}: this network in ONNX against itself in torch: greatest difference "
        f"{check['max_error']:.1e} of the greatest logit, same winner in {check['agreement']:.3%} of "
        "cells"
    )
    if args.reference is not None:
        found = compare_with_reference(model.file("fp32"), args.reference, args.reference_image)
        print(
            f"against {args.reference}: same winner in {found['agreement']:.3%} of its cells, "
            f"greatest difference {found['max_error']:.1e} of the greatest logit"
        )
    elif checkpoint.source != "deeplab_rt":
        print(
            "whether the author's own code gives the same, this does not tell: compare with "
            "--reference LOGITS.npy"
        )
    return 0
