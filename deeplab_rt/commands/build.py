"""``deeplab_rt build``: compile the TensorRT engine of a model."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from deeplab_rt.commands import size_argument
from deeplab_rt.options import GPU_PRECISIONS


def add_parser(subparsers: Any) -> None:
    """Add the command and its arguments."""
    from deeplab_rt.models import DEFAULT_MODEL

    parser = subparsers.add_parser(
        "build",
        help="compile the TensorRT engine for this GPU, or ahead of time for another",
        description="Compile the TensorRT engine of a model for the GPU of this machine, once; the "
        "node, replay and webcam then load it. With --target no GPU is needed.",
    )
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help="model name or directory (default: %(default)s)"
    )
    parser.add_argument(
        "--precision",
        choices=("auto", *GPU_PRECISIONS),
        default="auto",
        help="default: %(default)s, the model's own choice for a GPU",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--size",
        type=size_argument,
        metavar="WxH",
        help="network input size (default: the model's)",
    )
    size.add_argument(
        "--camera",
        type=size_argument,
        metavar="WxH",
        help="size of the camera's frames: the network's input takes their shape",
    )
    parser.add_argument(
        "--batch", type=int, default=1, metavar="N", help="frames at once, of several cameras"
    )
    parser.add_argument(
        "--target",
        metavar="SM86",
        help="build for any GPU of a compute capability, with TensorRT-RTX, without a GPU",
    )
    parser.add_argument("--force", action="store_true", help="build even if the engine is there")
    parser.add_argument(
        "--version-compatible",
        action="store_true",
        help="an engine for later TensorRT versions of the same major version too",
    )
    parser.add_argument(
        "--hardware-compatible",
        action="store_true",
        help="an engine for other desktop GPUs of Ampere and later too",
    )
    parser.add_argument(
        "--workspace",
        type=int,
        metavar="MB",
        help="the most scratch memory a layer may take (default: 1024)",
    )
    parser.add_argument(
        "--device", type=int, default=0, metavar="N", help="index of the GPU (default: 0)"
    )
    parser.add_argument(
        "--inspect",
        action="store_true",
        help="print the layers of the engine: their types and the bytes they move",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Build, or find the engine built."""
    from deeplab_rt.backends.tensorrt.builder import WORKSPACE_MB, build, layers_of
    from deeplab_rt.backends.tensorrt.engine_store import Options
    from deeplab_rt.backends.tensorrt.inspection import summary
    from deeplab_rt.input_shape import shape_for
    from deeplab_rt.models import load_model
    from deeplab_rt.progress import ProgressBar

    started = time.monotonic()
    model = load_model(args.model)
    built = False
    with ProgressBar(100, "%") as bar:

        def show(phase: str, done: float) -> None:
            nonlocal built
            built = built or done > 0
            bar.update(round(100 * done), phase[:40])

        engine = build(
            model,
            args.precision,
            shape_for(args.camera, model.input_size) if args.camera else args.size,
            args.batch,
            target=args.target,
            options=Options(args.version_compatible, args.hardware_compatible),
            force=args.force,
            workspace_mb=WORKSPACE_MB if args.workspace is None else args.workspace,
            device=args.device,
            progress=show,
        )
    seconds = time.monotonic() - started
    layers = layers_of(engine, args.device) if args.inspect else []
    spec = engine.spec
    height, width = spec.input_size
    if args.json:
        result: dict[str, Any] = {
            "engine": str(engine.path),
            "model": spec.model,
            "precision": spec.precision,
            "input_size": [height, width],
            "max_batch": spec.max_batch,
            "target": str(spec.target),
            "bytes": engine.path.stat().st_size,
            "built": built,
            "seconds": round(seconds, 1),
        }
        print(json.dumps({**result, **({"inspection": summary(layers)} if layers else {})}))
        return 0
    done = f"built in {seconds:.1f} s" if built else "was there already (--force builds anew)"
    print(f"{engine.path}\n{spec.model} {spec.precision} {width}x{height}, {spec.target}: {done}")
    for layer in layers:
        print(f"{layer.bytes / 1e6:9.3f} MB  {layer.types:<28} {layer.kind:<16} {layer.name[:80]}")
    if layers:
        found = summary(layers)
        kinds = ", ".join(f"{count} {types}" for types, count in found["convolutions"].items())
        print(
            f"{found['layers']} layers move {found['bytes_moved'] / 1e6:.1f} MB of activations a frame; "
            f"convolutions: {kinds}"
        )
    return 0
