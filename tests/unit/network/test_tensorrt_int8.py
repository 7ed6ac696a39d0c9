"""What NNCF's network becomes for TensorRT: the types and places of its quantisers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from deeplab_rt.models import DEFAULT_MODEL, load_model, model_names
from deeplab_rt.network.export import onnx_logits, synthetic_frames
from deeplab_rt.network.quantisation import quantise
from deeplab_rt.network.tensorrt_int8 import for_tensorrt, typed_logits

if DEFAULT_MODEL not in model_names():
    pytest.skip("no model is shipped", allow_module_level=True)

SIZE = (96, 128)
ACTIVATIONS = ("Relu", "Clip")


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default network quantised for TensorRT, calibrated on coloured noise."""
    path = tmp_path_factory.mktemp("int8") / "model.onnx"
    quantise(load_model().file("fp32"), path, synthetic_frames(SIZE, 8), symmetric=True)
    return path


class Net:
    """An ONNX graph by its edges."""

    def __init__(self, path: Path) -> None:
        self.graph = onnx.load(str(path)).graph
        self.constants = {t.name: numpy_helper.to_array(t) for t in self.graph.initializer}
        self.maker = {name: node for node in self.graph.node for name in node.output}

    def kind(self, name: str) -> str:
        return self.maker[name].op_type if name in self.maker else "constant"

    def readers(self, name: str) -> list[onnx.NodeProto]:
        return [node for node in self.graph.node if name in node.input]

    def convolutions(self) -> list[onnx.NodeProto]:
        *inner, classifier = [node for node in self.graph.node if node.op_type == "Conv"]
        assert classifier.output[0] == self.graph.output[0].name
        return inner


@pytest.fixture(scope="module")
def net(typed: Path) -> Net:
    return Net(typed)


def test_every_convolution_but_the_classifier_reads_int8(net: Net) -> None:
    assert len(net.convolutions()) > 40
    for conv in net.convolutions():
        image, weight, bias = conv.input
        while net.kind(image) == "Concat":
            (image,) = {net.maker[image].input[0]}
        while net.kind(image) == "Expand":
            image = net.maker[image].input[0]
        assert net.kind(image) == net.kind(weight) == "DequantizeLinear", conv.name
        values, scales, _ = (net.constants[name] for name in net.maker[weight].input)
        assert values.dtype == np.int8 and scales.shape == (len(values),), conv.name
        assert net.constants[bias].dtype == np.float16, "the bias is not quantised"


def test_activations_have_one_half_scale_and_zero_point_0(net: Net) -> None:
    pairs = [n for n in net.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    activations = [node for node in pairs if node.input[0] not in net.constants]
    assert len(activations) > 80
    for node in pairs:
        assert net.constants[node.input[1]].dtype == np.float16, node.name
        assert (
            net.constants[node.input[2]].dtype == np.int8 and not net.constants[node.input[2]].any()
        )
    assert all(net.constants[node.input[1]].shape == () for node in activations)


def test_nothing_is_float_but_the_scales_of_resizes(net: Net) -> None:
    floats = {name for name, value in net.constants.items() if value.dtype == np.float32}
    assert floats == {n.input[2] for n in net.graph.node if n.op_type == "Resize"}
    casts = [a.i for n in net.graph.node if n.op_type == "Cast" for a in n.attribute]
    assert TensorProto.FLOAT not in casts
    assert net.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT16


def test_a_residual_add_quantises_the_input_that_skips_and_no_other(net: Net) -> None:
    adds = [node for node in net.graph.node if node.op_type == "Add"]
    assert len(adds) >= 5
    for add in adds:
        kinds = sorted(net.kind(name) for name in add.input)
        assert kinds == ["Conv", "DequantizeLinear"], add.name
        (branch,) = [name for name in add.input if net.kind(name) == "Conv"]
        assert len(net.readers(branch)) == 1, "the convolution adds in its own epilogue"


def test_an_output_between_convolutions_is_quantised_at_once(net: Net) -> None:
    """So that TensorRT can fuse the quantiser into the convolution, which then puts out INT8."""
    to_quantiser = 0
    for conv in net.convolutions():
        (name,) = conv.output
        while [node.op_type for node in net.readers(name)] in [["Relu"], ["Clip"], ["Add"]]:
            (name,) = net.readers(name)[0].output
        kinds = {node.op_type for node in net.readers(name)}
        # The last activation goes to the classifier and the one before a Resize stays half.
        if kinds <= {"QuantizeLinear", "Shape", "ReduceMean"} and "QuantizeLinear" in kinds:
            to_quantiser += 1
        else:
            assert kinds in ({"Resize"}, {"Conv"}), (conv.name, kinds)
    assert to_quantiser == len(net.convolutions()) - 2


def test_inputs_of_a_concat_share_a_scale(net: Net) -> None:
    concats = [n for n in net.graph.node if n.op_type == "Concat"]
    features = [n for n in concats if any(net.kind(i) == "DequantizeLinear" for i in n.input)]
    assert len(features) == 2  # of the pyramid and of the decoder
    for concat in features:
        scales = set()
        for name in concat.input:
            name = net.maker[name].input[0] if net.kind(name) == "Expand" else name
            scales.add(float(net.constants[net.maker[name].input[1]]))
        assert len(scales) == 1


def test_labels_are_those_of_fp32(typed: Path) -> None:
    frames = synthetic_frames(SIZE, 4)
    expected = onnx_logits(load_model().file("fp32"), frames).argmax(1)
    assert (typed_logits(typed, frames).argmax(1) == expected).mean() > 0.9


def test_depthwise_convolutions_may_stay_half(typed: Path, tmp_path: Path) -> None:
    again = for_tensorrt(onnx.load(str(typed)), depthwise=False)
    onnx.save(again, str(tmp_path / "half.onnx"))
    net = Net(tmp_path / "half.onnx")
    for conv in net.convolutions():
        grouped = any(a.name == "group" and a.i > 1 for a in conv.attribute)
        assert (net.kind(conv.input[1]) == "constant") == grouped, conv.name
    frames = synthetic_frames(SIZE, 2)
    ours = typed_logits(tmp_path / "half.onnx", frames).argmax(1)
    assert (ours == typed_logits(typed, frames).argmax(1)).mean() > 0.9


def test_it_may_be_done_twice(typed: Path) -> None:
    network = onnx.load(str(typed))
    assert for_tensorrt(network).SerializeToString() == network.SerializeToString()
