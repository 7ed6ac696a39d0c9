"""INT8 latency and accuracy of network arrangements on this CPU, side by side.

Latency does not depend on the weights, so it is taken with random ones: all arrangements are compiled
first and then run in turns, so that a busy moment hits all of them. With ``--train`` the arrangements
that have pretrained weights here are trained briefly by one recipe, and accuracy is plotted against
latency.

    python benchmarks/arrangements.py -o build/arrangements
    python benchmarks/arrangements.py -o build/arrangements --train DATA --init CHECKPOINT --steps 150
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino
import torch
import yaml

from deeplab_rt.network.export import fold_batchnorm, macs, parameter_count, synthetic_frames
from deeplab_rt.network.model import Architecture, DeepLab
from deeplab_rt.training.run import train

RECIPE = "deeplab_lite0"
PRETRAINED = "efficientnet_lite0"
"""The one encoder that pretrained weights are at hand for: the others are timed alone here."""

BASE = Architecture()
NARROW = replace(BASE, aspp_channels=96, decoder_channels=96, decoder_convs=1)
THIN = replace(
    BASE, aspp_channels=64, aspp_rates=(12,), low_channels=32, decoder_channels=64, decoder_convs=1
)
BASE_32, NARROW_32, THIN_32 = (replace(a, output_stride=32) for a in (BASE, NARROW, THIN))

Size = tuple[int, int]
"""Height and width of the network's input."""

LARGE, DEFAULT, SMALL, LEAST = (480, 640), (384, 512), (320, 448), (256, 352)
ARRANGEMENTS: dict[str, tuple[Architecture, Size]] = {
    "lite0 /16, 128 channels, 640x480": (BASE, LARGE),
    "lite0 /16, 128 channels": (BASE, DEFAULT),
    "lite0 /16, 96 channels": (replace(BASE, aspp_channels=96, decoder_channels=96), DEFAULT),
    "lite0 /16, 96 channels, 1 decoder conv": (NARROW, DEFAULT),
    "lite0 /16, 64 channels, 1 rate, 1 decoder conv": (THIN, DEFAULT),
    "lite0 /32, 128 channels": (BASE_32, DEFAULT),
    "lite0 /32, 96 channels, 1 decoder conv": (NARROW_32, DEFAULT),
    "lite0 /32, 64 channels, 1 rate, 1 decoder conv": (THIN_32, DEFAULT),
    "lite0 /32, 128 channels, 448x320": (BASE_32, SMALL),
    "lite0 /32, 96 channels, 1 decoder conv, 448x320": (NARROW_32, SMALL),
    "lite0 /16, 128 channels, 448x320": (BASE, SMALL),
    "lite0 /16, 128 channels, 352x256": (BASE, LEAST),
    "lite0 /32, 96 channels, 1 decoder conv, 384x288": (NARROW_32, (288, 384)),
    "mobilenet_v2 /16, 128 channels": (replace(BASE, encoder="mobilenet_v2"), DEFAULT),
    "mobilenet_v2 /32, 96 channels, 1 decoder conv": (
        replace(NARROW_32, encoder="mobilenet_v2"),
        DEFAULT,
    ),
}


def compile_int8(architecture: Architecture, size: Size) -> Any:
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


def train_briefly(
    name: str,
    architecture: Architecture,
    size: Size,
    data: Path,
    init: str,
    steps: int,
    rate: float,
    folder: Path,
) -> float:
    """Train an arrangement by the shipped recipe, its schedule shortened, and return the mIoU of the
    recipe's first validation set."""
    text = (resources.files("deeplab_rt.training") / "recipes" / f"{RECIPE}.yaml").read_text()
    recipe = yaml.safe_load(text)
    height, width = size
    recipe |= {
        "architecture": architecture.to_dict(),
        "input": {"height": height, "width": width},
        "init": init,
    }
    # The crop keeps its share of the frame.
    recipe["augment"]["crops"] = [[round(side * 0.85 / 32) * 32 for side in size]]
    slug = "".join(c if c.isalnum() else "_" for c in name)
    run = folder / slug
    path = folder / f"{slug}.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(recipe))
    train(path, run, data, overrides={"steps": steps, "epoch_steps": steps, "learning_rate": rate})
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    return float(next(iter(last["validation"].values()))["miou"])


def measure(names: list[str], rounds: int) -> list[dict[str, Any]]:
    """Cost and INT8 latency of the arrangements, run in turns."""
    rows: list[dict[str, Any]] = []
    requests = []
    for name in names:
        architecture, size = ARRANGEMENTS[name]
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
    times = np.full((rounds, len(requests)), np.inf)
    for turn in times:
        for index, request in enumerate(requests):
            started = time.perf_counter()
            request.infer()
            turn[index] = 1e3 * (time.perf_counter() - started)
    for row, column in zip(rows, times.T, strict=True):
        row["int8_ms_min"] = round(float(column.min()), 2)
        row["int8_ms_p50"] = round(float(np.median(column)), 2)
    return rows


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        f"INT8 on {result['device']}, {result['rounds']} interleaved runs, milliseconds; input 512x384 "
        "where no size is given",
        "",
        "| arrangement | GMAC | M parameters | min | p50 | mIoU after a brief training |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['arrangement']} | {r['gmacs']} | {r['mparams']} | {r['int8_ms_min']} "
        f"| {r['int8_ms_p50']} | {r.get('miou', '')} |"
        for r in result["rows"]
    ]
    return "\n".join(lines) + "\n"


def plot(result: dict[str, Any], path: Path) -> None:
    """Accuracy against latency; cost against latency where nothing was trained."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    # The encoder's weights suit its output stride and scale from the start, a head of another width is
    # random: the plot shows how far each has come.
    trained = [row for row in result["rows"] if "miou" in row]
    key, label = ("miou", "CamVid validation mIoU") if trained else ("gmacs", "GMAC")
    shown = sorted(trained or result["rows"], key=lambda row: row["int8_ms_min"])
    for index, row in enumerate(shown):
        axes.plot(row["int8_ms_min"], row[key], "o", color="tab:blue")
        axes.annotate(
            row["arrangement"],
            (row["int8_ms_min"], row[key]),
            textcoords="offset points",
            xytext=(5, -11 if index % 2 else 5),
            fontsize=7,
        )
    slowest = shown[-1]["int8_ms_min"]
    axes.set(xlabel="INT8 latency, minimum (ms)", ylabel=label, xlim=(0, 1.4 * slowest))
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--only", nargs="+", help="some of the arrangements, by their names")
    parser.add_argument("--train", type=Path, metavar="DATA", help="train each briefly on DATA")
    parser.add_argument("--init", default="imagenet", help="where training starts (a checkpoint)")
    parser.add_argument("--steps", type=int, default=150, help="of each training")
    parser.add_argument("--rate", type=float, default=5e-4, help="of learning, at its peak")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    written = args.output / "arrangements.json"
    if args.train and written.is_file():
        result = json.loads(written.read_text())  # the latencies were taken before, on idle cores
    else:
        result = {
            "device": openvino.Core().get_property("CPU", "FULL_DEVICE_NAME"),
            "rounds": args.rounds,
            "rows": measure(args.only or list(ARRANGEMENTS), args.rounds),
        }
        written.write_text(json.dumps(result, indent=1) + "\n")
    for row in result["rows"] if args.train else []:
        name = row["arrangement"]
        architecture, size = ARRANGEMENTS[name]
        if architecture.encoder != PRETRAINED or (args.only and name not in args.only):
            continue
        row["miou"] = train_briefly(
            name,
            architecture,
            size,
            args.train,
            args.init,
            args.steps,
            args.rate,
            args.output / "runs",
        )
        row["steps"] = args.steps
        written.write_text(json.dumps(result, indent=1) + "\n")
    text = table(result)
    (args.output / "arrangements.md").write_text(text)
    print(text)
    plot(result, args.output / "arrangements.png")


if __name__ == "__main__":
    main()
