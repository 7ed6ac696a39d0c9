"""The baselines give the labels that our pipeline gives, so their times are of the same work."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from torch import nn

from deeplab_rt.backends.base import MaskRequest
from deeplab_rt.backends.openvino import OpenVINOBackend
from deeplab_rt.bench import BASELINES, baselines
from deeplab_rt.bench.baselines import BaselineError, InGraph, Torch, make_baseline, torch_network
from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.models import Model, write_manifest
from deeplab_rt.network.export import fold_batchnorm
from deeplab_rt.network.model import Architecture, DeepLab


@pytest.fixture(scope="module")
def ours(palette_model: Model):  # type: ignore[no-untyped-def]
    backend = OpenVINOBackend(palette_model, "fp32")

    def run(frame: np.ndarray) -> Masks:
        backend.submit([Frame(frame)], MaskRequest(palette_model.labels))
        return backend.collect()[0]

    yield run
    backend.close()


def smooth(size: tuple[int, int]) -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)


class Palette(nn.Module):
    """The palette model in torch, for a normalisation that divides by 255 alone."""

    def __init__(self, labels: LabelSet) -> None:
        super().__init__()
        colors = torch.tensor(labels.palette[1 : len(labels) + 1] / 255).float()
        self.weight, self.bias = 2 * colors[:, :, None, None], -(colors**2).sum(1)
        self.mean, self.std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(nn.functional.avg_pool2d(image, 4), self.weight, self.bias)


def assert_same(masks: Masks, expected: Masks, allowed: float) -> None:
    assert (masks.labels != expected.labels).mean() <= allowed
    same = masks.labels == expected.labels
    assert np.array_equal(masks.drivable[same], expected.drivable[same])
    assert np.array_equal(masks.objects[same], expected.objects[same])
    assert list(masks.timings) == ["preprocess", "network", "labels"]
    assert all(ms > 0 for ms in masks.timings.values())


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("size", [(96, 128), (75, 101)])
def test_labels_in_the_graph_equal_ours(
    engine: str, size: tuple[int, int], palette_model: Model, ours: Any
) -> None:
    baseline = make_baseline(engine, palette_model, size)
    assert baseline.name == engine
    # OpenVINO takes bf16 by itself where the CPU has it; what it moves, it moves at borders.
    assert_same(
        baseline.run(smooth(size)), ours(smooth(size)), 0.05 if engine == "openvino" else 1e-4
    )
    baseline.close()


@pytest.mark.parametrize("compiled", [False, True])
def test_torch_labels_equal_ours(
    compiled: bool, palette_model: Model, ours: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Captured by torch.compile for real, and run without its C++ code, which takes a minute to make.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    labels = palette_model.labels
    baseline = Torch("torch", Palette(labels), labels, (96, 128), compiled)
    assert_same(baseline.run(smooth((96, 128))), ours(smooth((96, 128))), 1e-4)
    baseline.close()


def test_torch_resizes_with_antialiasing_as_torchvision_does(palette_model: Model) -> None:
    """A fine chequerboard is grey when seen small, and not whichever pixels the grid falls on."""
    labels = palette_model.labels
    board = np.zeros((384, 512, 3), np.uint8)
    board[::2, ::2] = board[1::2, 1::2] = 255
    baseline = Torch("torch", Palette(labels), labels, (96, 128))
    grey = baseline.run(np.full((96, 128, 3), 128, np.uint8)).labels[48, 64]
    assert (baseline.run(board).labels[8:-8, 8:-8] == grey).all()


def test_our_network_is_rebuilt_in_torch_with_its_weights(
    tmp_path: Path, camvid11: LabelSet
) -> None:
    architecture = Architecture(encoder="mobilenet_v2", aspp_channels=16, decoder_channels=16)
    torch.manual_seed(0)
    network = DeepLab(architecture, 11)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
    model = write_weights(tmp_path, fold_batchnorm(network), architecture, camvid11)
    rebuilt = torch_network(model).eval()
    image = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    with torch.no_grad():
        normalised = (image.permute(0, 3, 1, 2) / 255 - rebuilt.mean) / rebuilt.std
        torch.testing.assert_close(rebuilt(normalised), network.eval()(image), rtol=1e-4, atol=1e-4)
    norms = [m for m in rebuilt.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())


def write_weights(
    directory: Path, folded: nn.Module, architecture: Architecture, labels: LabelSet
) -> Model:
    """A model directory whose ONNX file holds the weights under the names that the export gives."""
    weights = [
        onnx.numpy_helper.from_array(value.numpy(), name)
        for name, value in folded.state_dict().items()
    ]
    graph = onnx.helper.make_graph([], "weights", [], [], weights)
    onnx.save(onnx.helper.make_model(graph), directory / "model.onnx")
    return write_manifest(
        directory,
        {
            "labels": labels.to_list(),
            "architecture": architecture.to_dict(),
            "input": {"height": 64, "width": 96},
            "files": {"fp32": {"path": "model.onnx"}},
        },
    )


def test_model_without_an_architecture_has_no_torch_baseline(palette_model: Model) -> None:
    with pytest.raises(BaselineError, match="names no architecture"):
        make_baseline("torch", palette_model, (96, 128))


def test_model_without_an_int8_file_has_no_int8_baseline(palette_model: Model) -> None:
    with pytest.raises(BaselineError, match="no int8 file"):
        make_baseline("openvino-int8", palette_model, (96, 128))


@pytest.mark.parametrize("name", BASELINES)
def test_what_is_not_installed_is_named_with_its_command(
    name: str, palette_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(module: str) -> Any:
        raise ImportError(module)

    monkeypatch.setattr(baselines, "import_module", absent)
    monkeypatch.setitem(palette_model.files, "int8", palette_model.files["fp32"])  # type: ignore[arg-type]
    with pytest.raises(BaselineError, match="not installed: pip install "):
        make_baseline(name, palette_model, (96, 128))


def test_torchvision_of_another_torch_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(module: str) -> Any:
        if module == "segmentation_models_pytorch":
            raise RuntimeError("operator torchvision::nms does not exist")
        return torch

    monkeypatch.setattr(baselines, "import_module", broken)
    with pytest.raises(BaselineError, match=r"torchvision::nms.*pip install torch torchvision"):
        baselines.smp_network(11)


def test_ingraph_output_is_one_byte_a_pixel(palette_model: Model) -> None:
    proto = onnx.load_from_string(baselines.with_labels_in_graph(palette_model, "fp32", (75, 101)))
    onnx.checker.check_model(proto)
    (output,) = proto.graph.output
    assert output.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_value for d in output.type.tensor_type.shape.dim] == [1, 75, 101]
    assert isinstance(make_baseline("onnxruntime", palette_model, (75, 101)), InGraph)
