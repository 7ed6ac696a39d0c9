"""NNCF's quantised network made into what TensorRT runs in INT8.

NNCF places quantisers for a CPU. TensorRT fuses a convolution with the quantiser behind it only if
activations have one scale for the whole tensor, zero point 0, and if what lies between the quantisers
is half: in a strongly typed network a float scale makes the whole network float.
Source: NVIDIA's documentation, "Working with Quantized Types", "Q/DQ Layer-Placement Recommendations".
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
from numpy.typing import NDArray

from deeplab_rt.backends.tensorrt.half import to_half
from deeplab_rt.errors import ModelError

Graph = onnx.GraphProto
Node = onnx.NodeProto
_QDQ = ("QuantizeLinear", "DequantizeLinear")


def for_tensorrt(network: onnx.ModelProto, *, depthwise: bool = True) -> onnx.ModelProto:
    """A typed INT8 network for TensorRT: half outside the quantisers, half scales, int8 within.

    Args:
        network: quantised by NNCF with the symmetric preset, float outside.
        depthwise: whether depthwise convolutions run in INT8 too. They should: left in half, each
            needs a quantising pass behind it, and the network moves as much as fp16's (201 MB for
            188; with them in INT8 104, counted by ``benchmarks.int8_traffic``).

    Raises:
        ModelError: a zero point is not 0, or a weight does not fit in a half.
    """
    network = onnx.ModelProto.FromString(network.SerializeToString())
    make_signed(network)
    graph = network.graph
    give_tensors_one_scale(graph)
    if not depthwise:
        leave_depthwise(graph)
    free_residual_branches(graph)
    free_resizes(graph)
    join_concat_scales(graph)
    drop_unused(graph)
    typed: onnx.ModelProto = to_half(network)
    return typed


def typed_logits(path: Path, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits of a typed INT8 file by ONNX Runtime on the CPU: float32 [N, C, h, w].

    Operator by operator: ONNX Runtime's integer fusion multiplies the scales of activation and
    weight in half, where the product of two small ones vanishes (agreement 0.64 instead of 0.99).
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    parts = [session.run(None, {"image": frame[None]})[0] for frame in frames]
    return np.concatenate(parts).astype(np.float32)


def make_signed(model: onnx.ModelProto) -> None:
    """Turn unsigned quantisers with zero point 0 into signed ones of the same range, in place.

    The symmetric preset takes uint8 where activations are not negative; TensorRT takes int8 alone.
    The step becomes 255 / 127 times as long.

    Raises:
        ModelError: An unsigned zero point is not 0.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    scales, zeros = set(), set()
    for node in model.graph.node:
        if node.op_type in _QDQ:
            _, scale, zero = node.input
            if tensors[zero].data_type == onnx.TensorProto.UINT8:
                scales.add(scale)
                zeros.add(zero)
    for name in zeros:
        values = onnx.numpy_helper.to_array(tensors[name])
        if values.any():
            raise ModelError(f"{name}: an unsigned zero point of {values}; expected 0")
        _set(tensors[name], values.astype(np.int8))
    for name in scales:
        _set(tensors[name], onnx.numpy_helper.to_array(tensors[name]) * np.float32(255 / 127))
    del model.graph.value_info[:]  # they state the old types


def give_tensors_one_scale(graph: Graph) -> None:
    """One scale for each activation: its greatest. TensorRT takes scales per channel for weights alone."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in _QDQ and node.input[0] not in tensors:
            _, scale, zero = node.input
            _set(tensors[scale], onnx.numpy_helper.to_array(tensors[scale]).max())
            _set(tensors[zero], np.int8(0))
            for attribute in [a for a in node.attribute if a.name == "axis"]:
                node.attribute.remove(attribute)


def free_residual_branches(graph: Graph) -> None:
    """Of the two inputs of a residual Add quantise the one that skips alone: the other's convolution
    then adds it in its own epilogue. It is the convolution whose output nothing else reads."""
    makers, readers = _makers(graph), _readers(graph)
    for add in graph.node:
        if add.op_type != "Add":
            continue
        chains = [_chain(name, makers) for name in add.input]
        if None in chains:
            continue
        alone = [
            index
            for index, (source, quantise, dequantise) in enumerate(c for c in chains if c)
            if makers[source].op_type == "Conv"
            and len(readers[source]) == len(readers[quantise]) == len(readers[dequantise]) == 1
        ]
        if alone:
            index = alone[-1]  # the branch is the later of two convolutions
            chain = chains[index]
            assert chain is not None
            add.input[index] = chain[0]


def free_resizes(graph: Graph) -> None:
    """Resize in half and quantise behind it: TensorRT has no bilinear resize from int8 to int8."""
    makers = _makers(graph)
    for node in graph.node:
        if node.op_type == "Resize" and (chain := _chain(node.input[0], makers)):
            node.input[0] = chain[0]


def join_concat_scales(graph: Graph) -> None:
    """One scale for all inputs of a Concat, the greatest, so that it moves int8 as it is."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    makers = _makers(graph)
    for node in graph.node:
        if node.op_type != "Concat":
            continue
        scales = set()
        for name in node.input:
            while name in makers and makers[name].op_type == "Expand":
                name = makers[name].input[0]
            if chain := _chain(name, makers):
                scales |= {makers[chain[1]].input[1], makers[chain[2]].input[1]}
        if scales:
            greatest = max(onnx.numpy_helper.to_array(tensors[scale]).max() for scale in scales)
            for scale in scales:
                _set(tensors[scale], greatest)


def leave_depthwise(graph: Graph) -> None:
    """Take the quantisers away from depthwise convolutions: activations and weights."""
    makers = _makers(graph)
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "Conv" or _groups(node) == 1:
            continue
        if chain := _chain(node.input[0], makers):
            node.input[0] = chain[0]
        dequantise = makers.get(node.input[1])
        if dequantise is not None and dequantise.op_type == "DequantizeLinear":
            weight, scale = (onnx.numpy_helper.to_array(tensors[n]) for n in dequantise.input[:2])
            values = weight.astype(np.float32) * scale.reshape(-1, 1, 1, 1)
            name = f"{dequantise.input[0]}_float"
            graph.initializer.append(onnx.numpy_helper.from_array(values, name))
            node.input[1] = name


def drop_unused(graph: Graph) -> None:
    """Remove nodes and tensors that nothing reads."""
    outputs = {value.name for value in graph.output}
    while True:
        read = {name for node in graph.node for name in node.input} | outputs
        unused = [node for node in graph.node if not read & set(node.output)]
        if not unused:
            break
        for node in unused:
            graph.node.remove(node)
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)


def _groups(conv: Node) -> int:
    return next((a.i for a in conv.attribute if a.name == "group"), 1)


def _set(tensor: onnx.TensorProto, values: np.ndarray | np.generic) -> None:
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.asarray(values), tensor.name))


def _makers(graph: Graph) -> dict[str, Node]:
    return {name: node for node in graph.node for name in node.output}


def _readers(graph: Graph) -> dict[str, list[Node]]:
    readers: dict[str, list[Node]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    return readers


def _chain(name: str, makers: dict[str, Node]) -> tuple[str, str, str] | None:
    """(what is quantised, its int8 form, its half form) if a tensor comes from a quantiser pair."""
    dequantise = makers.get(name)
    if dequantise is None or dequantise.op_type != "DequantizeLinear":
        return None
    quantise = makers.get(dequantise.input[0])
    if quantise is None:
        return None
    return quantise.input[0], dequantise.input[0], name
