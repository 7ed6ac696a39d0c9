"""What users run instead: the same network through other libraries, full-size logits and all.

Every baseline takes the same camera frame and gives the same three masks. Each is written as its own
documentation shows, with its defaults for threads and memory layout. Torch, ONNX Runtime and
segmentation_models_pytorch are imported when a baseline of theirs is made; who lacks one of them gets
:class:`BaselineError` with the command that installs it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import cv2
import numpy as np

from deeplab_rt.bench.runner import Candidate
from deeplab_rt.errors import DeeplabError
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.models import Model

Size = tuple[int, int]


class BaselineError(DeeplabError):
    """A baseline cannot be made here; the message says what it lacks."""


def _require(package: str, module: str | None = None) -> Any:
    try:
        return import_module(module or package)
    except ImportError:
        raise BaselineError(f"not installed: pip install {package}") from None


def _masks(classes: np.ndarray, labels: LabelSet, marks: list[float]) -> Masks:
    """From uint8 [H, W] class indices; ``marks`` are the times before, between and after stages."""
    label_map = classes + np.uint8(1)
    drivable = cv2.LUT(label_map, labels.drivable_lut)
    objects = cv2.LUT(label_map, labels.objects_lut)
    marks.append(time.perf_counter())
    stages = np.diff(marks) * 1e3
    timings = dict(zip(("preprocess", "network", "labels"), map(float, stages), strict=True))
    return Masks(label_map, drivable, objects, timings=timings)


class InGraph:
    """An ONNX file with bilinear upsampling to the frame's size and argmax behind its logits.

    What remains outside is what OpenCV does for most users: resize and colour order before, a look
    into two tables after.
    """

    def __init__(self, name: str, model: Model, precision: str, frame: Size, engine: str) -> None:
        """Compile.

        Args:
            name: of the candidate.
            model: whose file of ``precision`` is taken.
            precision: ``fp32`` or ``int8``. OpenVINO runs an fp32 file in bf16 where the CPU has it.
            frame: (height, width) of the frames and masks in pixels.
            engine: ``onnxruntime`` or ``openvino``.

        Raises:
            BaselineError: a package, or the model's file of that precision, is not there.
        """
        self.name = name
        self._labels, self._input = model.labels, model.input_size
        if precision not in model.files:
            raise BaselineError(f"{model.name} has no {precision} file")
        graph = with_labels_in_graph(model, precision, frame)
        self._run = (_onnxruntime if engine == "onnxruntime" else _openvino)(graph)

    def run(self, frame: np.ndarray) -> Masks:
        marks = [time.perf_counter()]
        if frame.shape[:2] != self._input:
            frame = cv2.resize(frame, self._input[::-1], interpolation=cv2.INTER_LINEAR)
        image = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)[None]
        marks.append(time.perf_counter())
        classes = self._run(image)[0]
        marks.append(time.perf_counter())
        return _masks(classes, self._labels, marks)

    def close(self) -> None:
        del self._run


def with_labels_in_graph(model: Model, precision: str, frame: Size) -> bytes:
    """The model's ONNX file, serialised, for one input size, with output uint8 [1, H, W]: classes."""
    onnx = _require("onnx")
    helper, types = onnx.helper, onnx.TensorProto
    proto = onnx.load(str(model.file(precision)))
    graph = proto.graph
    logits = graph.output[0].name
    sizes = np.array([1, len(model.labels), *frame], np.int64)
    graph.initializer.append(onnx.numpy_helper.from_array(sizes, "frame_sizes"))
    graph.node.extend(
        [
            helper.make_node(
                "Resize",
                [logits, "", "", "frame_sizes"],
                ["frame_logits"],
                mode="linear",
                coordinate_transformation_mode="half_pixel",
            ),
            helper.make_node("ArgMax", ["frame_logits"], ["frame_index"], axis=1, keepdims=0),
            helper.make_node("Cast", ["frame_index"], ["frame_classes"], to=types.UINT8),
        ]
    )
    del graph.output[:], graph.value_info[:]
    graph.output.append(helper.make_tensor_value_info("frame_classes", types.UINT8, [1, *frame]))
    for dimension, size in zip(
        graph.input[0].type.tensor_type.shape.dim, (1, *model.input_size, 3), strict=True
    ):
        dimension.dim_value = size
    serialised: bytes = proto.SerializeToString()
    return serialised


def _onnxruntime(graph: bytes) -> Callable[[np.ndarray], Any]:
    runtime = _require("onnxruntime")
    session = runtime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})[0]


def _openvino(graph: bytes) -> Callable[[np.ndarray], Any]:
    openvino = _require("openvino")
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(graph), "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()
    return lambda image: request.infer([image])[0]


class Torch:
    """PyTorch with torchvision's usual transforms: ToTensor, Resize, Normalize; full-size logits."""

    def __init__(
        self, name: str, network: Any, labels: LabelSet, input_size: Size, compiled: bool = False
    ) -> None:
        """Make it ready.

        Args:
            name: of the candidate.
            network: an nn.Module from float [1, 3, h, w], normalised RGB, to logits [1, C, ...], with
                ``mean`` and ``std`` of shape [3, 1, 1] in units of 0 to 1.
            labels: C labels.
            input_size: (height, width) that frames are resized to.
            compiled: through ``torch.compile`` (takes a minute and a C++ compiler at the first frame).

        Raises:
            BaselineError: torch is not installed.
        """
        torch = _require("torch")
        self.name = name
        self._torch, self._labels, self._input = torch, labels, input_size
        self._mean, self._std = network.mean, network.std
        self._network = torch.compile(network.eval()) if compiled else network.eval()
        self._classes = torch.compile(_argmax_at) if compiled else _argmax_at

    def run(self, frame: np.ndarray) -> Masks:
        torch = self._torch
        with torch.inference_mode():
            marks = [time.perf_counter()]
            rgb = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            image = torch.from_numpy(rgb).permute(2, 0, 1).contiguous().float().div(255)[None]
            if frame.shape[:2] != self._input:
                image = torch.nn.functional.interpolate(
                    image, self._input, mode="bilinear", align_corners=False, antialias=True
                )
            image = (image - self._mean) / self._std
            marks.append(time.perf_counter())
            logits = self._network(image)
            marks.append(time.perf_counter())
            classes = self._classes(logits, *frame.shape[:2])
            return _masks(classes.to(torch.uint8)[0].numpy(), self._labels, marks)

    def close(self) -> None:
        del self._network, self._classes


def _argmax_at(logits: Any, height: int, width: int) -> Any:
    """Class indices [N, height, width] by bilinear upsampling of all logits."""
    from torch.nn.functional import interpolate

    size = (height, width)
    return interpolate(logits, size, mode="bilinear", align_corners=False).argmax(1)


def torch_network(model: Model) -> Any:
    """Our network as an nn.Module with the weights of the model's fp32 file, for :class:`Torch`.

    The file's BatchNorms are folded into its convolutions. Here they are modules again, as in any
    user's network, that do nothing but add the folded bias.

    Raises:
        BaselineError: torch or onnx is not installed, or the manifest does not name the architecture.
    """
    torch, onnx = _require("torch"), _require("onnx")
    from deeplab_rt.network.model import Architecture, DeepLab

    if "architecture" not in model.manifest:
        raise BaselineError(f"{model.name}'s manifest names no architecture to rebuild in torch")
    architecture = Architecture.from_dict(dict(model.manifest["architecture"]))
    network = DeepLab(architecture, len(model.labels))
    weights = {
        tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
        for tensor in onnx.load(str(model.file("fp32"))).graph.initializer
    }
    with torch.no_grad():
        for name, module in network.named_modules():
            if not isinstance(module, torch.nn.Conv2d):
                continue
            module.weight.copy_(weights[f"{name}.weight"])
            if module.bias is not None:
                module.bias.copy_(weights[f"{name}.bias"])
                continue
            norm: Any = network.get_submodule(name.rpartition(".")[0]).norm
            norm.bias.copy_(weights[f"{name}.bias"])
            norm.weight.fill_(1)
            norm.running_mean.zero_()
            norm.running_var.fill_(1 - norm.eps)

    class Normalised(torch.nn.Module):  # type: ignore[misc, name-defined]
        """The network behind torchvision's Normalize instead of its own normalisation."""

        mean, std = network.mean[0] / 255, network.std[0] / 255

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: Any) -> Any:
            low, high = network.encoder(image)
            high = network.aspp(high)
            return network.classifier(
                high if network.decoder is None else network.decoder(low, high)
            )

    return Normalised()


def smp_network(classes: int) -> Any:
    """DeepLabV3Plus with MobileNetV2 of segmentation_models_pytorch, random weights.

    Raises:
        BaselineError: it, or a torchvision that imports beside this torch, is not installed.
    """
    torch = _require("torch")
    try:
        smp = _require("segmentation-models-pytorch", "segmentation_models_pytorch")
    except RuntimeError as error:  # torchvision's compiled part, built for another torch
        raise BaselineError(
            f"torchvision does not load beside torch {torch.__version__} ({error}): "
            "install both from one source, pip install torch torchvision"
        ) from None
    network = smp.DeepLabV3Plus("mobilenet_v2", encoder_weights=None, classes=classes)
    network.mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    network.std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    return network


def make_baseline(name: str, model: Model, frame: Size) -> Candidate:
    """One of :data:`deeplab_rt.bench.BASELINES` for a model and a frame size.

    Raises:
        BaselineError: it cannot be made here; the message says what it lacks.
    """
    labels, size = model.labels, model.input_size
    if name == "smp":
        return Torch(name, smp_network(len(labels)), labels, size)
    if name.startswith("torch"):
        return Torch(name, torch_network(model), labels, size, name == "torch-compile")
    engine, _, precision = name.partition("-")
    return InGraph(name, model, precision or "fp32", frame, engine)
