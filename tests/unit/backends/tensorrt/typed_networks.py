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


def of_one_size(network: onnx.ModelProto, size: tuple[int, int]) -> bytes:
    """A network for any number of frames of one (height, width), as a builder makes it."""
    height, width = size
    classes = network.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    image, logits = (height, width, 3), (classes, height // 4, width // 4)
    for tensor, sides in ((network.graph.input[0], image), (network.graph.output[0], logits)):
        for dim, side in zip(list(tensor.type.tensor_type.shape.dim)[1:], sides, strict=True):
            dim.dim_value = side
    return network.SerializeToString()
