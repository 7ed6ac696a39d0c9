"""Work counted by layer, and rates that are of the machine's order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deeplab_rt.bench.roofline import (
    GROUPS,
    Layer,
    Work,
    copy_rates,
    matrix_peaks,
    profile,
    roofline_report,
)
from deeplab_rt.labels import LabelSet
from deeplab_rt.models import Model, write_manifest


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, camvid11: LabelSet) -> Model:
    """A network with a layer of each kind under the names that the export gives its weights."""
    directory = tmp_path_factory.mktemp("small")
    write_network(directory / "model.onnx")
    return write_manifest(
        directory,
        {
            "labels": camvid11.to_list(),
            "input": {"height": 32, "width": 64},
            "files": {"fp32": {"path": "model.onnx"}},
        },
    )


# name, output channels, input channels, kernel, groups: the small network's layers in order
LAYERS = [
    ("encoder.stem.conv", 8, 3, 3, 1),
    ("encoder.blocks.0.depthwise.conv", 8, 1, 3, 8),
    ("encoder.blocks.0.project.conv", 16, 8, 1, 1),
    ("encoder.blocks.1.conv", 16, 16, 3, 1),
    ("aspp.project.conv", 8, 16, 1, 1),
    ("decoder.reduce.conv", 8, 8, 1, 1),
    ("classifier", 11, 8, 1, 1),
]


def write_network(path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["t"], perm=[0, 3, 1, 2]),
    ]
    weights, last = [], "t"
    for index, (name, outputs, inputs, kernel, groups) in enumerate(LAYERS):
        value = rng.normal(0, 0.1, (outputs, inputs, kernel, kernel)).astype(np.float32)
        weights.append(numpy_helper.from_array(value, f"{name}.weight"))
        stride = 4 if index == 0 else 1
        out = "logits" if name == "classifier" else f"o{index}"
        nodes.append(
            helper.make_node(
                "Conv",
                [last, f"{name}.weight"],
                [out],
                group=groups,
                strides=[stride, stride],
                pads=[kernel // 2] * 4,
            )
        )
        last = out
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 11, "h4", "w4"])],
        weights,
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path
    )


def test_every_layer_is_counted_under_its_group(small: Model) -> None:
    work = profile(small, "fp32", repeats=2)
    cells = 8 * 16
    expected = {
        name: cells * outputs * inputs * kernel**2 for name, outputs, inputs, kernel, _ in LAYERS
    }
    assert {layer.name: layer.macs for layer in work.layers if layer.macs} == expected
    assert work.macs == sum(expected.values())
    groups = {layer.name: layer.group for layer in work.layers if layer.macs}
    assert [groups[name] for name, *_ in LAYERS] == list(GROUPS[:-1])
    head = next(layer for layer in work.layers if layer.name == "classifier")
    # fp32: 8 channels in, 11 out, the weights; a zero bias may be added by the compiler
    assert head.bytes - 4 * (cells * (8 + 11) + 88) in (0, 4 * 11)
    assert all(layer.ms > 0 and layer.arithmetic == "fp32" for layer in work.layers if layer.macs)


def test_shares_hold_each_layer_against_its_own_limit() -> None:
    work = Work(
        [
            Layer("pointwise", "a", macs=100_000_000, bytes=1000, arithmetic="int8", ms=2.0),
            Layer("pointwise", "b", macs=100_000_000, bytes=1000, arithmetic="bf16", ms=2.0),
            Layer("no MACs", "c", macs=0, bytes=8_000_000, arithmetic="int8", ms=1.0),
        ]
    )
    rows = {
        row["group"]: row for row in roofline_report(work, {"int8": 100, "bf16": 50}, {"cache": 16})
    }
    assert list(rows) == ["pointwise", "no MACs", "all"]
    assert rows["pointwise"]["of_peak"] == rows["pointwise"]["share"] == 0.75  # 1 + 2 of 4 ms
    assert rows["pointwise"]["gmac_s"] == 50
    assert rows["pointwise"]["of_time"] == 0.8
    assert rows["no MACs"]["share"] == 0.5  # 8 MB at 16 GB/s are half a millisecond
    assert rows["no MACs"]["of_peak"] == 0
    assert rows["all"]["layers"] == 3
    assert rows["all"]["share"] == 0.7


def test_peaks_are_of_the_machine() -> None:
    """Any machine that runs OpenVINO does a GMAC a second, and none of these days a million."""
    peaks = matrix_peaks(repeats=2)
    assert {"fp32", "int8"} <= set(peaks) <= {"fp32", "bf16", "int8"}
    assert all(1 < rate < 1e6 for rate in peaks.values())


def test_copies_are_of_the_machine() -> None:
    rates = copy_rates(repeats=2)
    assert set(rates) == {"memory", "cache"}
    assert all(0.1 < rate < 1e5 for rate in rates.values())
