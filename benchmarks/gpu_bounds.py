"""The least time that the network can take on a GPU, computed from published peaks. Never measured.

``python -m benchmarks.gpu_bounds`` prints the table of docs/performance.md.

Two figures for each device and precision. ``arithmetic``: all multiply-accumulates at the tensor
cores' dense peak, which nothing can beat. ``layer by layer``: every layer reads its input and
weights from memory and writes its output there, or computes at the peak, whichever is longer; layers
that are fused, or whose tensors stay in the cache, take less, everything else takes more. Launches,
depthwise layers (which tensor cores do not run) and the kernels around the network are left out.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

from deeplab_rt.bench.roofline import Work, profile
from deeplab_rt.models import DEFAULT_MODEL, load_model

PRECISIONS = {"fp16": 2, "int8": 1}  # bytes of an activation or weight


@dataclass(frozen=True)
class Device:
    """Published peaks of a GPU.

    Attributes:
        name: with the memory or power variant.
        tera_ops: precision -> dense 10^12 operations a second; one multiply-accumulate is two.
        gb_s: memory bandwidth in 10^9 bytes a second.
        source: where they are published, and what was derived.
    """

    name: str
    tera_ops: dict[str, float]
    gb_s: float
    source: str


DEVICES = (
    Device(
        "Orin Nano 8 GB",
        {"fp16": 10, "int8": 20},
        68,
        "NVIDIA, Jetson Orin modules: 40 sparse INT8 TOPS; dense is half, FP16 half of that",
    ),
    Device(
        "Orin Nano 8 GB Super",
        {"fp16": 16.75, "int8": 33.5},
        102,
        "NVIDIA, Jetson Orin Nano Super: 67 sparse INT8 TOPS; dense and FP16 likewise",
    ),
    Device(
        "AGX Orin 64 GB, GPU alone",
        {"fp16": 42.5, "int8": 85},
        204.8,
        "NVIDIA, Jetson AGX Orin technical brief: 170 sparse INT8 TOPS; dense and FP16 likewise",
    ),
    Device(
        "Thor T5000",
        {"fp16": 258.75, "int8": 517.5},
        273,
        "NVIDIA, Jetson Thor: 2070 sparse FP4 TFLOPS; FP8 dense is a quarter, INT8 taken as FP8, "
        "FP16 half of that",
    ),
    Device(
        "RTX 4090",
        {"fp16": 330.3, "int8": 660.6},
        1008,
        "NVIDIA, Ada architecture: dense, FP16 with FP16 accumulation",
    ),
)


def arithmetic_ms(work: Work, device: Device, precision: str) -> float:
    """Every multiply-accumulate at the device's dense peak."""
    return 2 * work.macs / device.tera_ops[precision] / 1e9


def layers_ms(work: Work, device: Device, precision: str) -> float:
    """Layer by layer the longer of arithmetic and memory.

    Args:
        work: of the fp32 file: its bytes are scaled to the precision's.
        device: whose peaks are taken.
        precision: ``fp16`` or ``int8``.
    """
    size = PRECISIONS[precision] / 4
    return sum(
        max(
            2 * layer.macs / device.tera_ops[precision] / 1e9,
            size * layer.bytes / device.gb_s / 1e6,
        )
        for layer in work.layers
    )


def table(work: Work) -> str:
    """All devices, in Markdown."""
    lines = ["| device | " + " | ".join(f"{p}: {k}" for p in PRECISIONS for k in _KINDS) + " |"]
    lines.append("|---" * (1 + len(PRECISIONS) * len(_KINDS)) + "|")
    for device in DEVICES:
        times = [kind(work, device, p) for p in PRECISIONS for kind in _KINDS.values()]
        lines.append(f"| {device.name} | " + " | ".join(f"{ms:.2f} ms" for ms in times) + " |")
    return "\n".join(lines)


_KINDS = {"arithmetic": arithmetic_ms, "layer by layer": layers_ms}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    model = load_model(parser.parse_args().model)
    work = profile(model, "fp32", repeats=1)  # for its layers; their times are not used
    height, width = model.input_size
    moved = sum(layer.bytes for layer in work.layers)
    print(
        f"{model.name} at {width}x{height}: {work.macs / 1e9:.2f} GMAC; layer by layer "
        f"{moved / 2e6:.0f} MB in fp16, {moved / 4e6:.0f} MB in int8\n\n{table(work)}\n"
    )
    for device in DEVICES:
        peaks = ", ".join(f"{name} {value:g}" for name, value in device.tera_ops.items())
        print(f"- {device.name}: {peaks} TOPS, {device.gb_s:g} GB/s. {device.source}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
