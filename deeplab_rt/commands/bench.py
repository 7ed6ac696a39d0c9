"""``deeplab_rt bench``: the pipeline and what users would run instead, side by side."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from deeplab_rt.bench import BASELINES
from deeplab_rt.commands import size_argument
from deeplab_rt.models import DEFAULT_MODEL
from deeplab_rt.options import BACKENDS, PRECISIONS


def add_parser(subparsers: Any) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "bench",
        help="time the pipeline and its baselines side by side, against the machine's roofline",
        description="Time a camera frame to its masks: this pipeline, and the same network through "
        "other libraries, in turns, on the same frames; then the machine's roofline and how near each "
        "part of the network comes to them.",
    )
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help="model name or directory (default: %(default)s)"
    )
    parser.add_argument("--backend", choices=BACKENDS, default="auto")
    parser.add_argument("--precision", choices=("auto", *PRECISIONS), default="auto")
    parser.add_argument(
        "--input",
        default="street",
        metavar="PATH",
        help="frames of a recording (default: street, a rendered one)",
    )
    parser.add_argument(
        "--frame",
        type=size_argument,
        metavar="WxH",
        nargs="+",
        default=[(480, 640), (1080, 1920)],
        help="sizes of the camera's frames (default: 640x480 1920x1080)",
    )
    parser.add_argument(
        "--baselines",
        nargs="*",
        choices=BASELINES,
        default=list(BASELINES),
        metavar="NAME",
        help=f"which of {', '.join(BASELINES)} (default: all; none after a bare --baselines)",
    )
    parser.add_argument(
        "--rounds",
        type=_positive,
        default=8,
        metavar="N",
        help="turns of each (default: %(default)s)",
    )
    parser.add_argument(
        "--no-roofline", action="store_true", help="leave the machine's roofline out"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="write bench.json, bench.txt, bench.png"
    )
    parser.add_argument(
        "--layers",
        action="store_true",
        help="on TensorRT: time every layer of the network instead, by its own profiler",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def _layers(args: argparse.Namespace) -> int:
    """Print the network's layers with their times, the longest first."""
    from deeplab_rt.bench.layers import layer_times

    times = layer_times(args.model, args.precision, args.frame[0])
    if args.json:
        print(json.dumps({"layers_ms": times}))
        return 0
    total = sum(times.values())
    for name, ms in sorted(times.items(), key=lambda item: -item[1]):
        print(f"{ms:9.4f} ms {100 * ms / total:5.1f} %  {name[:90]}")
    print(f"{total:9.4f} ms in {len(times)} layers, call by call: a CUDA graph is quicker")
    return 0


def run(args: argparse.Namespace) -> int:
    """Measure, print, and write."""
    if args.layers:
        return _layers(args)
    from deeplab_rt.bench.report import plot, table
    from deeplab_rt.bench.run import BenchmarkConfig, bench
    from deeplab_rt.bench.runner import SamplingConfig
    from deeplab_rt.errors import DeeplabError, StreamError
    from deeplab_rt.files import write_atomically

    if args.output is not None:  # before minutes of work
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            raise DeeplabError(
                "the plot needs matplotlib: pip install matplotlib, or leave -o out"
            ) from None
        try:
            args.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StreamError(f"{args.output}: cannot be made: {error.strerror}") from None
    config = BenchmarkConfig(
        model=args.model,
        precision=args.precision,
        backend=args.backend,
        baselines=args.baselines,
        source=args.input,
        frame_sizes=args.frame,
        sampling=SamplingConfig(rounds=args.rounds),
        with_roofline=not args.no_roofline,
    )
    result = bench(config, progress=lambda text: print(text, file=sys.stderr, flush=True))
    text = table(result)
    print(json.dumps(result) if args.json else text)
    if args.output is not None:
        write_atomically(args.output / "bench.json", json.dumps(result, indent=1).encode())
        write_atomically(args.output / "bench.txt", f"{text}\n".encode())
        plot(result, args.output / "bench.png")
    return 0
