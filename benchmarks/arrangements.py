"""INT8 latency of network arrangements on this CPU, side by side.

Weights are random: latency does not depend on them. All arrangements are compiled first and then
run in turns, so that a busy moment hits all of them; the minimum of the runs is reported.

    python benchmarks/arrangements.py -o build/arrangements
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino
import torch

from deeplab_rt.network.export import fold_batchnorm, macs, parameter_count, synthetic_frames
from deeplab_rt.network.model import Architecture, DeepLab

BASE = Architecture()
SIZE = (480, 640)
ARRANGEMENTS: dict[str, tuple[Architecture, tuple[int, int]]] = {
    "lite0 os16 128": (BASE, SIZE),
    "lite0 os16 96": (replace(BASE, aspp_channels=96, decoder_channels=96), SIZE),
    "lite0 os32 128": (replace(BASE, output_stride=32), SIZE),
    "lite0 os32 96, 1 conv": (
        replace(BASE, output_stride=32, aspp_channels=96, decoder_channels=96, decoder_convs=1),
        SIZE,
    ),
    "lite0 os32 64, 1 rate, 1 conv": (
        replace(
            BASE,
            output_stride=32,
            aspp_channels=64,
            aspp_rates=(12,),
            low_channels=32,
            decoder_channels=64,
            decoder_convs=1,
        ),
        SIZE,
    ),
    "mobilenet_v2 os16 128": (replace(BASE, encoder="mobilenet_v2"), SIZE),
    "mobilenet_v2 os32 64, 1 conv": (
        replace(
            BASE,
            encoder="mobilenet_v2",
            output_stride=32,
            aspp_channels=64,
            low_channels=32,
            decoder_channels=64,
            decoder_convs=1,
        ),
        SIZE,
    ),
    "lite0 os16 128 at 448x352": (BASE, (352, 448)),
    "lite0 os16 128 at 448x320": (BASE, (320, 448)),
    "lite0 os32 96, 1 conv at 544x416": (
        replace(BASE, output_stride=32, aspp_channels=96, decoder_channels=96, decoder_convs=1),
        (416, 544),
    ),
}


def compile_int8(architecture: Architecture, size: tuple[int, int]) -> Any:
    """An OpenVINO request of the quantised network; straight from torch, which saves the time of
    an ONNX export and gives the same graph."""
    model = fold_batchnorm(DeepLab(architecture, 11))
    example = torch.zeros((1, *size, 3), dtype=torch.uint8)
    network = openvino.convert_model(model, example_input=example, input=[[1, *size, 3]])
    frames = synthetic_frames(size, 2)
    quantised = nncf.quantize(
        network,
        nncf.Dataset(list(frames), lambda frame: frame[None]),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(frames),
    )
    compiled = openvino.Core().compile_model(quantised, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(frames[:1]))
    return request


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--only", nargs="+", help="some of the arrangements, by their names")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    rows: list[dict[str, Any]] = []
    requests = []
    for name, (architecture, size) in ARRANGEMENTS.items():
        if args.only and name not in args.only:
            continue
        requests.append(compile_int8(architecture, size))
        model = DeepLab(architecture, 11)
        rows.append(
            {
                "arrangement": name,
                "gmacs": round(macs(model, size) / 1e9, 2),
                "mparams": round(parameter_count(model) / 1e6, 2),
            }
        )
        print(f"compiled {name}", flush=True)
    times = np.full((args.rounds, len(requests)), np.inf)
    for turn in times:
        for index, request in enumerate(requests):
            started = time.perf_counter()
            request.infer()
            turn[index] = 1e3 * (time.perf_counter() - started)
    for row, column in zip(rows, times.T, strict=True):
        row["int8_ms_min"] = round(float(column.min()), 2)
        row["int8_ms_p50"] = round(float(np.median(column)), 2)
    device = openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")
    result = {"device": device, "rounds": args.rounds, "rows": rows}
    (args.output / "arrangements.json").write_text(json.dumps(result, indent=1) + "\n")
    lines = [
        f"INT8 on {device}, {args.rounds} interleaved runs, milliseconds",
        "",
        "| arrangement | GMAC | M parameters | min | p50 |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['arrangement']} | {r['gmacs']} | {r['mparams']} | {r['int8_ms_min']} "
        f"| {r['int8_ms_p50']} |"
        for r in rows
    ]
    (args.output / "arrangements.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))

    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        axes.plot(row["gmacs"], row["int8_ms_min"], "o", color="tab:blue")
        axes.annotate(
            row["arrangement"],
            (row["gmacs"], row["int8_ms_min"]),
            textcoords="offset points",
            xytext=(5, 4),
            fontsize=8,
        )
    axes.set(xlabel="GMAC", ylabel="INT8 latency, minimum (ms)", xlim=(0, None), ylim=(0, None))
    figure.savefig(args.output / "arrangements.png")


if __name__ == "__main__":
    main()
