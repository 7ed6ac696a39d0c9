"""The palette network of the tests in every precision that TensorRT takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from deeplab_rt.models import Model, write_manifest


def make_typed_model(palette_model: Model, directory: Path) -> Model:
    """A model directory with fp32, typed fp16 and, for TensorRT, symmetric int8."""
    directory.mkdir()
    network = onnx.load(palette_model.files["fp32"][0])
    onnx.save(network, directory / "model.onnx")
    onnx.save(as_half(network), directory / "model.fp16.onnx")
    onnx.save(as_int8(network), directory / "model.int8-trt.onnx")
    names = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8-trt": "model.int8-trt.onnx"}
    return write_manifest(
        directory,
        {
            "name": "typed",
            "labels": palette_model.labels.to_list(),
            "input": {"height": 96, "width": 128},
            "files": {precision: {"path": name} for precision, name in names.items()},
        },
    )


def as_half(network: onnx.ModelProto) -> onnx.ModelProto:
    """Every float a half: what exporting ``model.half()`` gives."""
    network = onnx.ModelProto.FromString(network.SerializeToString())
    for tensor in network.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            half = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    for node in network.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
    network.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    return network


def as_int8(network: onnx.ModelProto) -> onnx.ModelProto:
    """Symmetric Q/DQ around the convolution: int8, zero point 0, bias in float."""
    network = onnx.ModelProto.FromString(network.SerializeToString())
    graph, helper = network.graph, onnx.helper
    (weight,) = (t for t in graph.initializer if t.name == "weight")
    values = numpy_helper.to_array(weight)
    scales = np.maximum(np.abs(values).max(axis=(1, 2, 3)), 1e-6).astype(np.float32) / 127
    quantised = np.rint(values / scales[:, None, None, None]).astype(np.int8)
    constants = {
        "weight_q": quantised,
        "weight_scale": scales,
        "weight_zero": np.zeros(len(scales), np.int8),
        "cells_scale": np.float32(1 / 127),
        "cells_zero": np.int8(0),
    }
    graph.initializer.remove(weight)
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()
    )
    conv = graph.node[-1]
    cells = ["cells_scale", "cells_zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["cells", *cells], ["cells_q"]),
        helper.make_node("DequantizeLinear", ["cells_q", *cells], ["cells_dq"]),
        helper.make_node(
            "DequantizeLinear", ["weight_q", "weight_scale", "weight_zero"], ["weight_dq"], axis=0
        ),
    ]
    conv.input[:2] = ["cells_dq", "weight_dq"]
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*rest[:-1], *nodes, conv])
    return network


def int8_chain(half: bool, activation: str | None) -> onnx.ModelProto:
    """Four dense convolutions with quantisers between, the plainest network that INT8 is made for."""
    helper, channels = onnx.helper, 64
    real, kind = (np.float16, TensorProto.FLOAT16) if half else (np.float32, TensorProto.FLOAT)
    rng, constants, nodes = np.random.default_rng(0), [], []

    def constant(name: str, values: object) -> str:
        constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(op: str, inputs: list[str], output: str, **attributes: object) -> str:
        nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    scale, zero = constant("scale", real(0.05)), constant("zero", np.int8(0))
    weight_scale = constant("weight_scale", np.full(channels, 0.01, real))
    weight_zero = constant("weight_zero", np.zeros(channels, np.int8))
    stem = constant("stem", rng.normal(0, 0.1, (channels, 3, 4, 4)).astype(real))
    at = node("Transpose", [node("Cast", ["image"], "cast", to=kind)], "planes", perm=[0, 3, 1, 2])
    at = node("Conv", [at, stem], "first", strides=[4, 4])
    for i in range(4):
        weight = constant(
            f"w{i}", rng.integers(-127, 127, (channels, channels, 3, 3)).astype(np.int8)
        )
        at = node("QuantizeLinear", [at, scale, zero], f"q{i}")
        at = node("DequantizeLinear", [at, scale, zero], f"dq{i}")
        weight = node("DequantizeLinear", [weight, weight_scale, weight_zero], f"wdq{i}", axis=0)
        at = node("Conv", [at, weight], f"conv{i}", pads=[1] * 4)
        if activation:
            at = node(activation, [at], f"act{i}")
    last = constant("last", rng.normal(0, 0.1, (11, channels, 1, 1)).astype(real))
    node("Conv", [at, last], "logits")
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])
    logits = helper.make_tensor_value_info("logits", kind, ["n", 11, "hh", "ww"])
    graph = helper.make_graph(nodes, "chain", [image], [logits], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])


def reshape(network: onnx.ModelProto, change: str) -> None:
    """Give the palette network an output that is not the contract's, in place.

    Args:
        network: with a convolution at its end.
        change: ``scalar``, ``stride`` (8 instead of 4) or ``classes`` (7 of 11).
    """
    graph, output = network.graph, network.graph.output[0]
    if change == "classes":
        for tensor in graph.initializer:
            if tensor.name in ("weight", "bias"):
                array = numpy_helper.to_array(tensor)[:7]
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        output.type.tensor_type.shape.dim[1].dim_value = 7
        return
    graph.node[-1].output[0] = "inner"
    if change == "scalar":
        node = onnx.helper.make_node("ReduceSum", ["inner"], [output.name], keepdims=0)
        shape: list[int | str] = []
    else:
        node = onnx.helper.make_node(
            "MaxPool", ["inner"], [output.name], kernel_shape=[2, 2], strides=[2, 2]
        )
        shape = ["n", 11, "hh", "ww"]
    graph.node.append(node)
    value = onnx.helper.make_tensor_value_info(output.name, TensorProto.FLOAT, shape)
    output.CopyFrom(value)


def of_one_size(network: onnx.ModelProto, size: tuple[int, int]) -> bytes:
    """A network for any number of frames of one (height, width), as a builder makes it."""
    height, width = size
    classes = network.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    image, logits = (height, width, 3), (classes, height // 4, width // 4)
    for tensor, sides in ((network.graph.input[0], image), (network.graph.output[0], logits)):
        for dim, side in zip(list(tensor.type.tensor_type.shape.dim)[1:], sides, strict=True):
            dim.dim_value = side
    return network.SerializeToString()
