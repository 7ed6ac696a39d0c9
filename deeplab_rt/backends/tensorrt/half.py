"""The fp16 form of a model file, derived from its fp32 form: what a strongly typed engine is built from.

Models ship no fp16 file: TensorRT takes the precision from the types of the ONNX, so it is enough to
give every float tensor of ``model.onnx`` the type half. The image stays uint8.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deeplab_rt.errors import BackendError, ModelError, one_line

OPSET = 19  # from here on QuantizeLinear and DequantizeLinear take half scales
_LARGEST = 65504.0  # of a half


def to_half(network: Any) -> Any:
    """A copy of an ``onnx.ModelProto`` with half weights, arithmetic and logits.

    Scales of quantisers become half too, and weights that are int8 already are rounded anew to the
    scale that they now have, so that nothing is lost to the shorter scale.

    Raises:
        ModelError: a weight does not fit in a half.
    """
    onnx = _onnx()
    network = onnx.ModelProto.FromString(network.SerializeToString())
    graph, kinds = network.graph, onnx.TensorProto
    stay = {name for node in graph.node for name in _float_inputs(node)}
    _round_weights(onnx, graph)
    for tensor in graph.initializer:
        if tensor.data_type == kinds.FLOAT and tensor.name not in stay:
            tensor.CopyFrom(_half_tensor(onnx, tensor))
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == kinds.FLOAT:
                attribute.i = kinds.FLOAT16
            if (
                attribute.type == onnx.AttributeProto.TENSOR
                and attribute.t.data_type == kinds.FLOAT
                and node.output[0] not in stay
            ):
                attribute.t.CopyFrom(_half_tensor(onnx, attribute.t))
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == kinds.FLOAT:
            value.type.tensor_type.elem_type = kinds.FLOAT16
    del graph.value_info[:]  # they state the old types
    for opset in network.opset_import:
        if opset.domain in ("", "ai.onnx"):
            opset.version = max(opset.version, OPSET)
    onnx.checker.check_model(network)
    return network


def half_bytes(content: bytes, source: str) -> bytes:
    """The fp16 form of a serialised fp32 network.

    Args:
        content: of an ONNX file.
        source: its name, for messages.

    Raises:
        BackendError: the package ``onnx`` is not installed.
        ModelError: the file is no ONNX network, or a weight does not fit in a half.
    """
    onnx = _onnx()
    try:
        network = onnx.load_model_from_string(content)
        onnx.checker.check_model(network)
    except Exception as error:  # protobuf's and onnx's own, of no common class
        text = one_line(error)[:200]
        raise ModelError(f"{source}: not an ONNX network: {text}") from None
    return bytes(to_half(network).SerializeToString(deterministic=True))


def _onnx() -> Any:
    try:
        import onnx
        import onnx.numpy_helper
    except ImportError as error:
        raise BackendError(
            f"deriving the fp16 network needs the package onnx ({error}): `pip install onnx`, or "
            "build with --precision fp32"
        ) from None
    return onnx


def _float_inputs(node: Any) -> list[str]:
    """Inputs that the operator wants in float whatever the type of its data."""
    return list(node.input[1:3]) if node.op_type == "Resize" else []


def _half_tensor(onnx: Any, tensor: Any) -> Any:
    values = onnx.numpy_helper.to_array(tensor)
    if values.size and not np.abs(values).max() <= _LARGEST:
        raise ModelError(
            f"the tensor {tensor.name!r} has values beyond {_LARGEST:g}, the largest half: this model "
            "cannot run in fp16; build it with --precision fp32"
        )
    return onnx.numpy_helper.from_array(values.astype(np.float16), tensor.name)


def _round_weights(onnx: Any, graph: Any) -> None:
    """Give int8 weights the values that are nearest under their scale's half form."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    smallest = np.float32(np.finfo(np.float16).smallest_subnormal)
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in tensors:
            continue
        weight, scale = (tensors[name] for name in node.input[:2])
        if scale.data_type != onnx.TensorProto.FLOAT:
            continue
        old = onnx.numpy_helper.to_array(scale)
        # A scale below the smallest half belongs to a channel whose weights are all but nothing.
        new = np.maximum(old.astype(np.float16).astype(np.float32), smallest)
        values = onnx.numpy_helper.to_array(weight)
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        ratio = old / new
        if ratio.ndim:
            sides = [1] * values.ndim
            sides[axis] = -1
            ratio = ratio.reshape(sides)
        rounded = np.clip(np.rint(values.astype(np.float32) * ratio), -127, 127).astype(np.int8)
        weight.CopyFrom(onnx.numpy_helper.from_array(rounded, weight.name))
        scale.CopyFrom(onnx.numpy_helper.from_array(new, scale.name))
