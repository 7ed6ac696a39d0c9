"""The fp16 network that is derived from the fp32 file."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from deeplab_rt.backends.tensorrt.half import half_bytes, to_half
from deeplab_rt.errors import ModelError
from deeplab_rt.models import DEFAULT_MODEL, Model, load_model, model_names


@pytest.mark.skipif(DEFAULT_MODEL not in model_names(), reason="no model is shipped")
def test_every_float_of_a_shipped_network_becomes_half() -> None:
    source = load_model().file("fp32").read_bytes()
    network = onnx.load_model_from_string(half_bytes(source, "model.onnx"))
    kinds = {t.name: t.data_type for t in network.graph.initializer}
    resizes = {n.input[2] for n in network.graph.node if n.op_type == "Resize"}
    assert {name for name, kind in kinds.items() if kind == onnx.TensorProto.FLOAT} == resizes
    assert network.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert network.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16


@pytest.mark.skipif(DEFAULT_MODEL not in model_names(), reason="no model is shipped")
def test_its_labels_are_those_of_fp32() -> None:
    import onnxruntime

    frames = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3), np.uint8)
    frames = frames.repeat(16, 1).repeat(16, 2)
    source = load_model().file("fp32").read_bytes()
    labels = []
    for content in (source, half_bytes(source, "model.onnx")):
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        labels.append([session.run(None, {"image": f[None]})[0].argmax(1) for f in frames])
    assert (np.array(labels[0]) == np.array(labels[1])).mean() > 0.99


def test_the_source_is_left_as_it_is(palette_model: Model) -> None:
    network = onnx.load(palette_model.file("fp32"))
    before = network.SerializeToString()
    to_half(network)
    assert network.SerializeToString() == before


def test_a_weight_that_no_half_holds_is_named(palette_model: Model) -> None:
    network = onnx.load(palette_model.file("fp32"))
    for tensor in network.graph.initializer:
        if tensor.name == "bias":
            values = numpy_helper.to_array(tensor) + np.float32(1e6)
            tensor.CopyFrom(numpy_helper.from_array(values, "bias"))
    with pytest.raises(ModelError, match=r"'bias' has values beyond 65504.*--precision fp32"):
        to_half(network)


@pytest.mark.parametrize("content", [b"", b"garbage" * 9])
def test_what_is_no_network_is_refused_in_one_line(content: bytes) -> None:
    with pytest.raises(ModelError, match="model.onnx: not an ONNX network") as caught:
        half_bytes(content, "model.onnx")
    assert "\n" not in str(caught.value)
