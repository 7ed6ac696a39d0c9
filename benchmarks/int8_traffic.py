"""Bytes that fp16 and INT8 networks move on a GPU: how depthwise convolutions were decided on.

    python -m benchmarks.int8_traffic [--model NAME] [--target SM86]

Two columns. *Built*: the layers of a real engine that TensorRT-RTX builds here, without a GPU. *Fused*:
counted on the file, if a builder fuses what NVIDIA's documents say that TensorRT fuses (activation,
residual Add and the quantiser behind an INT8 convolution; not the quantiser behind a half one). Neither
is a time, and neither was seen on TensorRT proper: `deeplab_rt build --inspect` prints it there.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import onnx

from deeplab_rt.backends.tensorrt.builder import build
from deeplab_rt.backends.tensorrt.half import to_half
from deeplab_rt.backends.tensorrt.inspection import layers_of_log, summary
from deeplab_rt.models import DEFAULT_MODEL, Model, load_model, write_manifest
from deeplab_rt.network.export import synthetic_frames
from deeplab_rt.network.quantisation import quantise
from deeplab_rt.network.tensorrt_int8 import for_tensorrt

_FUSED_BEHIND = ("Relu", "Clip", "Add")
_FREE = ("QuantizeLinear", "DequantizeLinear", "Shape", "Expand", "Cast", "Transpose", "Sub", "Div")


def fused_traffic(network: onnx.ModelProto, size: tuple[int, int]) -> tuple[int, int]:
    """(kernels, bytes of activations read and written) if everything is fused that can be.

    Args:
        network: typed, half outside its quantisers.
        size: (height, width) of the input.
    """
    network = onnx.ModelProto.FromString(network.SerializeToString())
    for dim, side in zip(
        network.graph.input[0].type.tensor_type.shape.dim, (1, *size, 3), strict=True
    ):
        dim.dim_value = side
    network = onnx.shape_inference.infer_shapes(network, data_prop=True)
    graph = network.graph
    elements = {}
    for value in (*graph.value_info, *graph.output, *graph.input):
        count = 1
        for dim in value.type.tensor_type.shape.dim:
            count *= dim.dim_value
        elements[value.name] = count
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def is_int8(name: str) -> bool:
        node = makers.get(name)
        while node is not None and node.op_type in ("Concat", "Expand"):
            node = makers.get(node.input[0])
        return node is not None and node.op_type == "DequantizeLinear"

    def read(name: str) -> int:
        return elements[name] * (1 if is_int8(name) else 2)

    kernels = total = 0
    behind: set[str] = set()  # names of nodes that another kernel's epilogue takes
    for node in graph.node:
        if node.op_type in _FREE or node.name in behind:
            continue
        data = [name for name in node.input if name in makers and elements.get(name, 0) > 64]
        data = [n for n in data if makers[n].input and makers[n].input[0] not in _constants(graph)]
        if not data:
            continue
        kernels += 1
        total += sum(read(name) for name in data)
        (end,) = node.output
        following = readers.get(end, [])
        while node.op_type == "Conv" and [n.op_type for n in following] in [
            [f] for f in _FUSED_BEHIND
        ]:
            behind.add(following[0].name)
            total += sum(
                read(name) for name in following[0].input if name in makers and name != end
            )
            (end,) = following[0].output
            following = readers.get(end, [])
        quantised = [n for n in following if n.op_type == "QuantizeLinear"]
        takes_int8 = all(is_int8(name) for name in data)
        if quantised and len(quantised) == len([n for n in following if n.op_type != "Shape"]):
            total += elements[end]
            if not takes_int8:  # a pass of its own: half written, half read, int8 written
                kernels += 1
                total += 4 * elements[end]
        else:
            total += elements[end] * (1 if node.op_type == "Concat" and takes_int8 else 2)
    return kernels, total


def _constants(graph: onnx.GraphProto) -> set[str]:
    return {tensor.name for tensor in graph.initializer}


def built_traffic(
    model: Model, network: onnx.ModelProto, form: str, target: str
) -> tuple[int, int]:
    """(layers, bytes) of the engine that TensorRT-RTX builds."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        os.environ["DEEPLAB_RT_CACHE"] = folder
        onnx.save(network, str(directory / "network.onnx"))
        manifest = {**model.manifest, "files": {form: {"path": "network.onnx"}}}
        one = write_manifest(directory, manifest)
        engine = build(one, form.removesuffix("-trt"), target=target)
        found = summary(layers_of_log(engine.path.with_suffix(".log")))
    return found["layers"], found["bytes_moved"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--target", default="SM86")
    args = parser.parse_args()
    model = load_model(args.model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantise(model.file("fp32"), path, synthetic_frames((96, 128), 4), symmetric=True)
        int8 = onnx.load(str(path))
    networks = {
        "fp16": (to_half(onnx.load(str(model.file("fp32")))), "fp16"),
        "int8, depthwise too": (int8, "int8-trt"),
        "int8, depthwise half": (for_tensorrt(int8, depthwise=False), "int8-trt"),
    }
    height, width = model.input_size
    print(f"{model.name} at {width}x{height}; activations only, weights left out")
    print(
        f"| network | layers, MB: built by TensorRT-RTX for {args.target} | fused by the documents |"
    )
    print("|---|---|---|")
    for name, (network, form) in networks.items():
        layers, moved = built_traffic(model, network, form, args.target)
        kernels, least = fused_traffic(network, model.input_size)
        print(f"| {name} | {layers}, {moved / 1e6:.1f} | {kernels}, {least / 1e6:.1f} |")


if __name__ == "__main__":
    main()
