"""The ONNX contract: typed, dynamic, equal to torch."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch

from deeplab_rt.errors import DataError, ModelError
from deeplab_rt.labels import LabelSet, load_label_set
from deeplab_rt.models import Model
from deeplab_rt.network.checkpoints import load_checkpoint
from deeplab_rt.network.export import (
    OPSET,
    compare_with_reference,
    export_model,
    fold_batchnorm,
    onnx_logits,
    read_frames,
    synthetic_frames,
    torch_logits,
    verify_onnx,
)
from deeplab_rt.network.model import Architecture, DeepLab
from deeplab_rt.network.quantisation import quantise_model
from tests.unit.network.tiny import TINY

SIZE = (64, 96)


@pytest.fixture(scope="module")
def network() -> DeepLab:
    """A network whose norms have statistics of their own, so that folding them is a test."""
    torch.manual_seed(0)
    model = DeepLab(TINY, 11)
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.from_numpy(synthetic_frames(SIZE, 4)))
    return model.eval()


@pytest.fixture(scope="module")
def exported(network: DeepLab, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("models") / "small"
    extra = {"licence": "none"}
    model, check = export_model(
        network,
        load_label_set("camvid11"),
        folder,
        SIZE,
        frames=synthetic_frames(SIZE),
        extra=extra,
    )
    assert check["max_error"] < 1e-4
    assert check["agreement"] == pytest.approx(1, abs=0.01)
    return model


def test_the_manifest_says_what_was_written(exported: Model) -> None:
    assert set(exported.files) == {"fp32"}
    assert exported.input_size == SIZE
    assert exported.labels == load_label_set("camvid11")
    assert exported.cpu_precision == "fp32"
    assert exported.manifest["licence"] == "none"
    assert Architecture.from_dict(exported.manifest["architecture"]) == TINY
    assert exported.manifest["cost"]["macs"] > exported.manifest["cost"]["parameters"] > 0


def test_the_contract_of_the_file(exported: Model) -> None:
    proto = onnx.load(str(exported.file("fp32")))
    onnx.checker.check_model(proto, full_check=True)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", OPSET)]
    (image,), (logits,) = proto.graph.input, proto.graph.output
    assert (image.name, logits.name) == ("image", "logits")
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert logits.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert image.type.tensor_type.shape.dim[3].dim_value == 3
    assert logits.type.tensor_type.shape.dim[1].dim_value == 11
    # Precision is a property of the file: no other floating type is in it.
    (resize,) = [node for node in proto.graph.node if node.op_type == "Resize"]
    assert onnx.TensorProto.FLOAT16 not in {t.data_type for t in proto.graph.initializer}
    operators = [node.op_type for node in proto.graph.node]
    assert next(n.op_type for n in proto.graph.node if "image" in n.input) == "Cast"
    assert not {"BatchNormalization", "ArgMax", "TopK", "If", "Loop"} & set(operators)
    # The one Resize is the decoder's, with constant scales.
    assert resize.input[2] in {tensor.name for tensor in proto.graph.initializer}
    # Nothing of the machine it was made on.
    assert str(Path.cwd()).encode() not in proto.SerializeToString()


def test_the_weights_can_be_trained_from(exported: Model, network: DeepLab) -> None:
    checkpoint = load_checkpoint(exported.directory / "model.safetensors")
    assert checkpoint.labels == exported.labels
    assert checkpoint.size == SIZE
    frames = synthetic_frames(SIZE)
    expected = torch_logits(network, frames)
    # Weights in float16, the rest in float32.
    error = np.abs(torch_logits(checkpoint.model, frames) - expected).max()
    assert error < 0.02 * np.abs(expected).max()


def test_rounded_weights_compress_and_compute_nearly_the_same(
    exported: Model, network: DeepLab, tmp_path: Path
) -> None:
    frames = synthetic_frames(SIZE)
    labels = load_label_set("camvid11")
    model, check = export_model(network, labels, tmp_path / "m", SIZE, frames=frames, rounded=True)
    assert check["max_error"] < 1e-4
    for tensor in onnx.load(str(model.file("fp32"))).graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and np.prod(tensor.dims) > 3:
            values = onnx.numpy_helper.to_array(tensor)
            assert np.array_equal(values, values.astype(np.float16).astype(np.float32))
    expected = torch_logits(network, frames)
    error = np.abs(onnx_logits(model.file("fp32"), frames) - expected).max()
    assert error < 0.02 * np.abs(expected).max()


def test_a_reference_of_the_author_is_compared_with(
    exported: Model, network: DeepLab, tmp_path: Path
) -> None:
    frame = synthetic_frames(SIZE, 1)
    cv2.imwrite(str(tmp_path / "frame.png"), cv2.cvtColor(frame[0], cv2.COLOR_RGB2BGR))
    logits = torch_logits(network, frame)
    found = {}
    for name, values in (("right", logits[0]), ("wrong", -logits)):
        np.save(tmp_path / f"{name}.npy", values)
        found[name] = compare_with_reference(
            exported.file("fp32"), tmp_path / f"{name}.npy", tmp_path / "frame.png"
        )
    assert found["right"]["agreement"] > 0.99
    assert found["right"]["max_error"] < 1e-4
    assert found["wrong"]["agreement"] < 0.5
    np.save(tmp_path / "odd.npy", logits[:, :3])
    with pytest.raises(DataError, match=r"expected \[1, 11, h, w\]"):
        compare_with_reference(exported.file("fp32"), tmp_path / "odd.npy", tmp_path / "frame.png")
    with pytest.raises(DataError, match=r"not an array of numpy\.save"):
        compare_with_reference(
            exported.file("fp32"), tmp_path / "frame.png", tmp_path / "frame.png"
        )


def test_batch_and_size_are_dynamic(exported: Model, network: DeepLab) -> None:
    frames = synthetic_frames((96, 64), 1)
    expected, actual = torch_logits(network, frames), onnx_logits(exported.file("fp32"), frames)
    assert actual.shape == (1, 11, 24, 16)
    np.testing.assert_allclose(actual, expected, atol=1e-4 * max(1, np.abs(expected).max()))


def test_folding_changes_nothing_and_leaves_the_network_alone(network: DeepLab) -> None:
    frames = synthetic_frames(SIZE)
    folded = fold_batchnorm(network)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    expected = torch_logits(network, frames)
    np.testing.assert_allclose(
        torch_logits(folded, frames), expected, atol=1e-5 * max(1, np.abs(expected).max())
    )


def test_a_file_that_differs_is_refused(exported: Model) -> None:
    torch.manual_seed(1)
    with pytest.raises(ModelError, match="its logits differ from torch's by"):
        verify_onnx(exported.file("fp32"), DeepLab(TINY, 11), synthetic_frames(SIZE))


def test_int8_files_for_both_targets(exported: Model) -> None:
    frames = synthetic_frames(SIZE, 6)
    model, agreement = quantise_model(exported, frames, frames[:2], ["cpu", "tensorrt"])
    assert set(model.files) == {"fp32", "int8", "int8-trt"}
    assert model.cpu_precision == "int8"
    assert all(0.3 < share <= 1 for share in agreement.values())  # random weights: no margin
    cpu, trt = (onnx.load(str(model.file(p))).graph for p in ("int8", "int8-trt"))
    zero_points = {node.input[2] for node in cpu.node if node.op_type == "QuantizeLinear"}
    types = {t.data_type for t in cpu.initializer if t.name in zero_points}
    assert onnx.TensorProto.UINT8 in types
    # TensorRT takes int8 with a zero point of 0, and no quantised bias.
    for node in trt.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2:
            zero = next(t for t in trt.initializer if t.name == node.input[2])
            assert zero.data_type == onnx.TensorProto.INT8
            assert not onnx.numpy_helper.to_array(zero).any()
    assert onnx.TensorProto.INT32 not in {t.data_type for t in trt.initializer}


def test_an_unknown_target_is_refused(exported: Model) -> None:
    frames = synthetic_frames(SIZE, 1)
    with pytest.raises(ModelError, match="target 'tpu' is unknown; expected cpu or tensorrt"):
        quantise_model(exported, frames, frames, ["tpu"])


def test_classes_and_size_must_fit(network: DeepLab, tmp_path: Path) -> None:
    labels = load_label_set("camvid11")
    with pytest.raises(ModelError, match="11 classes and the label set 10"):
        export_model(network, LabelSet(labels.labels[:10]), tmp_path, SIZE)
    with pytest.raises(ModelError, match="multiple"):
        export_model(network, labels, tmp_path, (60, 90))


def test_frames_are_read_evenly_and_resized(tmp_path: Path) -> None:
    for index in range(5):
        image = np.full((20, 30, 3), (index * 10, 0, 200), np.uint8)
        cv2.imwrite(str(tmp_path / f"{index}.png"), image)
    frames = read_frames(tmp_path, (32, 64), limit=3)
    assert frames.shape == (3, 32, 64, 3)
    assert frames[:, 0, 0].tolist() == [[200, 0, 0], [200, 0, 20], [200, 0, 40]]  # RGB
    (tmp_path / "0.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"0\.png does not decode"):
        read_frames(tmp_path, (32, 64), limit=3)
    with pytest.raises(DataError, match="has no images"):
        read_frames(tmp_path / "none", (32, 64), limit=3)
