"""What the machine can do at most, and how near each part of the network comes to it.

Matrix peaks are those of large 1x1 convolutions through OpenVINO itself, so that a share of the
peak says what is lost to the network's shapes and not to the library.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deeplab_rt import parallel
from deeplab_rt.models import Model

GROUPS = ("stem", "depthwise", "pointwise", "encoder, other", "ASPP", "decoder", "head", "no MACs")
# OpenVINO's type of the arithmetic in an executed graph -> which peak it is held against.
_PEAK_OF = {"u8": "int8", "i8": "int8", "bf16": "bf16", "f32": "fp32", "f16": "fp32"}
_BYTES = {"u8": 1, "i8": 1, "boolean": 1, "bf16": 2, "f16": 2, "f32": 4, "i32": 4, "i64": 8}


def matrix_peaks(repeats: int = 30) -> dict[str, float]:
    """Greatest rate of multiply-accumulates by arithmetic, in GMAC/s: fp32, int8, and bf16 if any.

    Four 1x1 convolutions of 1024 channels on 16x64 cells, the best of ``repeats`` runs.
    """
    import openvino

    core = openvino.Core()
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    kinds = ["fp32", *(["bf16"] if "BF16" in capabilities else []), "int8"]
    peaks = {}
    for kind in kinds:
        graph, macs = _matrix_work(kind)
        hint = "bf16" if kind == "bf16" else "f32"
        config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
        request = core.compile_model(graph, "CPU", config).create_infer_request()
        times = []
        for _ in range(repeats + 2):
            request.infer()
            times.append(request.latency)
        peaks[kind] = round(macs / min(times) / 1e6, 1)
    return peaks


def _matrix_work(kind: str, channels: int = 1024, cells: tuple[int, int] = (16, 64)) -> Any:
    """An OpenVINO graph of four large 1x1 convolutions, and its multiply-accumulates."""
    import openvino
    from openvino import opset13 as op

    rng = np.random.default_rng(0)
    image = op.parameter([1, channels, *cells], openvino.Type.f32)
    node: Any = image
    ends = [np.float32(value) for value in (0, 4)]
    for _ in range(4):
        matrix = rng.normal(0, 0.03, (channels, channels, 1, 1)).astype(np.float32)
        weights: Any = op.constant(matrix)
        if kind == "int8":
            node = op.fake_quantize(node, *ends, *ends, 256)
            bounds = [np.float32(value) for value in (-0.127, 0.127)]
            weights = op.fake_quantize(weights, *bounds, *bounds, 255)
        node = op.relu(op.convolution(node, weights, [1, 1], [0, 0], [0, 0], [1, 1]))
    return openvino.Model([node], [image]), 4 * channels**2 * cells[0] * cells[1]


def copy_rates(repeats: int = 10) -> dict[str, float]:
    """Bytes read plus bytes written by copies on all cores at once, in GB/s, the best of ``repeats``.

    ``memory`` copies 64 MiB a core, more than caches hold; ``cache`` 256 KiB a core.
    """
    cores = parallel.cores()
    rates = {}
    with ThreadPoolExecutor(cores) as pool:
        for name, size, times in (("memory", 64 << 20, 1), ("cache", 256 << 10, 200)):
            pairs = [(np.zeros(size, np.uint8), np.ones(size, np.uint8)) for _ in range(cores)]

            def copy(pair: tuple[np.ndarray, np.ndarray], times: int = times) -> float:
                started = time.perf_counter()
                for _ in range(times):
                    np.copyto(*pair)
                return time.perf_counter() - started

            best = min(max(pool.map(copy, pairs)) for _ in range(repeats))
            rates[name] = round(2 * size * times * cores / best / 1e9, 1)
    return rates


@dataclass
class Layer:
    """One executed operation.

    Attributes:
        group: one of :data:`GROUPS`.
        name: in the model's own words where it has them.
        macs: multiply-accumulates.
        bytes: of its inputs, weights and outputs, each once.
        arithmetic: ``int8``, ``bf16`` or ``fp32``.
        ms: least time of several evaluations; 0 where it was not timed.
    """

    group: str
    name: str
    macs: int
    bytes: int
    arithmetic: str
    ms: float = 0.0


@dataclass
class Work:
    """The layers of a compiled network, with their sums."""

    layers: list[Layer] = field(default_factory=list)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def ms(self) -> float:
        return sum(layer.ms for layer in self.layers)


def profile(model: Model, precision: str, repeats: int = 60) -> Work:
    """Compile a model's file for this CPU, run it, and take each layer's work and least time.

    Args:
        model: its file is evaluated at the manifest's input size, on noise.
        precision: ``fp32``, ``bf16`` or ``int8``.
        repeats: evaluations; counting the layers' times costs a few per cent itself.
    """
    import openvino

    core = openvino.Core()
    network = core.read_model(model.file("int8" if precision == "int8" else "fp32"))
    network.reshape({0: [1, *model.input_size, 3]})
    model_ops = {op.get_friendly_name(): op for op in network.get_ordered_ops()}
    config = {"PERFORMANCE_HINT": "LATENCY", "PERF_COUNT": "YES"}
    if precision == "fp32":
        config["INFERENCE_PRECISION_HINT"] = "f32"
    compiled = core.compile_model(network, "CPU", config)
    request = compiled.create_infer_request()
    image = np.random.default_rng(0).integers(0, 256, (1, *model.input_size, 3), np.uint8)
    least: dict[str, float] = {}
    for _ in range(repeats + 1):
        request.infer([image])
        for node in request.profiling_info:
            ms = node.real_time.total_seconds() * 1e3
            least[node.node_name] = min(ms, least.get(node.node_name, ms))
    layers = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        ms = least.get(node.get_friendly_name(), 0.0)
        if ms > 0:
            layers.append(_layer(node, model_ops, ms))
    return Work(layers)


def _layer(node: Any, model_ops: dict[str, Any], ms: float) -> Layer:
    """One node of the executed graph, named after the model's weights that were fused into it."""
    info = {key: str(value.value) for key, value in node.get_rt_info().items()}
    moved = sum(_bytes(port) for port in [*node.inputs(), *node.outputs()])
    arithmetic = _PEAK_OF.get(info["runtimePrecision"].lower(), "fp32")
    name = node.get_friendly_name()
    if info["layerType"] not in ("Convolution", "GroupConvolution"):
        return Layer("no MACs", name, 0, moved, arithmetic, ms)
    originals = info["originalLayersNames"].split(",")
    weights = (_weights_name(model_ops[one]) for one in originals if one in model_ops)
    name = next(filter(None, weights), name)
    kernel = list(node.get_input_shape(1))  # [out, in, kh, kw], or [groups, out, in, kh, kw]
    macs = int(np.prod(list(node.get_output_shape(0)))) * int(np.prod(kernel[len(kernel) - 3 :]))
    return Layer(_group(name, kernel), name, macs, moved, arithmetic, ms)


def _bytes(port: Any) -> int:
    elements = int(np.prod(list(port.get_shape())))
    return elements * _BYTES[port.get_element_type().get_type_name()]


def _weights_name(operation: Any) -> str:
    """Whose weights a convolution takes, ``encoder.blocks.3.expand.conv``; empty for what is none."""
    if operation.get_type_name() not in ("Convolution", "GroupConvolution"):
        return ""
    queue = [operation.input_value(1).get_node()]
    while queue:
        node = queue.pop()
        # A quantised weight is several constants, each named after it: q_output_NAME, scale_NAME.
        named = re.search(
            r"((?:encoder|aspp|decoder|classifier)\b.*)\.weight", node.get_friendly_name()
        )
        if named:
            return named.group(1)
        queue += [value.get_node() for value in node.input_values()]
    return ""


def _group(name: str, kernel: list[int]) -> str:
    part = name.partition(".")[0]
    if part in ("aspp", "decoder", "classifier"):
        return {"aspp": "ASPP", "decoder": "decoder", "classifier": "head"}[part]
    if len(kernel) == 5:
        return "depthwise"
    if kernel[1] == 3:
        return "stem"
    return "pointwise" if kernel[2:] == [1, 1] else "encoder, other"


def roofline_report(
    work: Work, peaks: dict[str, float], copies: dict[str, float]
) -> list[dict[str, Any]]:
    """For every group of layers: its work, its time and how near it comes to the machine's limit.

    The limit of a layer is the longer of its MACs at the peak of its arithmetic and its bytes at
    the rate of a copy within the caches; ``share`` is the group's sum of roofline over its time.

    Returns:
        One row a group: ``group``, ``layers``, ``mmacs``, ``mbytes``, ``ms``, ``of_time``,
        ``gmac_s``, ``of_peak`` (MACs alone), ``share``; and a last row ``all``.
    """
    grouped: dict[str, list[Layer]] = defaultdict(list)
    for layer in work.layers:
        grouped[layer.group].append(layer)
    rows = [
        _row(group, grouped[group], work.ms, peaks, copies) for group in GROUPS if grouped[group]
    ]
    return [*rows, _row("all", work.layers, work.ms, peaks, copies)]


def _row(
    name: str,
    layers: Iterable[Layer],
    total_ms: float,
    peaks: dict[str, float],
    copies: dict[str, float],
) -> dict[str, Any]:
    layers = list(layers)
    macs, moved = sum(one.macs for one in layers), sum(one.bytes for one in layers)
    ms = sum(one.ms for one in layers)
    at_peak = sum(one.macs / peaks[one.arithmetic] / 1e6 for one in layers)
    limit = sum(
        max(one.macs / peaks[one.arithmetic] / 1e6, one.bytes / copies["cache"] / 1e6)
        for one in layers
    )
    return {
        "group": name,
        "layers": len(layers),
        "mmacs": round(macs / 1e6, 1),
        "mbytes": round(moved / 1e6, 2),
        "ms": round(ms, 3),
        "of_time": round(ms / total_ms, 3),
        "gmac_s": round(macs / ms / 1e6, 1),
        "of_peak": round(at_peak / ms, 3),
        "share": round(limit / ms, 3),
    }
