"""Torch to ONNX: uint8 [N, H, W, 3] RGB in, stride-4 logits out, checked against torch."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from deeplab_rt.errors import DataError, ModelError
from deeplab_rt.files import PartialFile, sha256_of
from deeplab_rt.labels import LabelSet
from deeplab_rt.models import Model, check_input_size, write_manifest
from deeplab_rt.network.checkpoints import describe, save_checkpoint
from deeplab_rt.network.model import DeepLab

OPSET = 18
TOLERANCE = 1e-4
"""Greatest difference of the exported logits from torch's, relative to the largest logit."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


def read_frames(folder: Path, size: tuple[int, int], limit: int) -> NDArray[np.uint8]:
    """Up to ``limit`` images of a folder, evenly spaced, at the network's size.

    Returns:
        uint8 [N, H, W, 3] RGB.

    Raises:
        DataError: The folder has no image that decodes.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise DataError(
            f"{folder} has no images; expected files of {', '.join(IMAGE_SUFFIXES)} in it"
        )
    chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, min(limit, len(paths))).astype(int)]
    frames = []
    for path in chosen:
        frame = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if frame is None:
            raise DataError(f"{path} does not decode as an image")
        frame = cv2.resize(frame, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    return np.stack(frames).astype(np.uint8)


def synthetic_frames(size: tuple[int, int], count: int = 2) -> NDArray[np.uint8]:
    """Smooth coloured noise, uint8 [count, H, W, 3]: what stands in where no frames are given."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (count, 12, 16, 3), np.uint8)
    return np.stack(
        [cv2.resize(s, (size[1], size[0]), interpolation=cv2.INTER_CUBIC) for s in small]
    ).astype(np.uint8)


def fold_batchnorm(model: DeepLab) -> DeepLab:
    """A copy in evaluation mode whose BatchNorms are folded into their convolutions, in float32."""
    folded = copy.deepcopy(model).cpu().float().eval()
    for module in folded.modules():
        if isinstance(module, nn.Sequential) and hasattr(module, "norm"):
            conv, norm = module.get_submodule("conv"), module.get_submodule("norm")
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            module.add_module("conv", fuse_conv_bn_eval(conv, norm))
            del module._modules["norm"]
    return folded


def export_onnx(model: DeepLab, path: Path, size: tuple[int, int]) -> None:
    """Write one ONNX file with a dynamic batch and dynamic multiples of the output stride.

    Args:
        model: The network; it is left as it is.
        size: Height and width it is traced at.
    """
    folded = fold_batchnorm(model)
    stride = model.architecture.output_stride
    dims = {
        0: torch.export.Dim("batch", min=1, max=64),
        1: stride * torch.export.Dim("rows", min=2, max=4096 // stride),
        2: stride * torch.export.Dim("columns", min=2, max=4096 // stride),
    }
    # A batch of two: a dimension of one at tracing time would be taken for a constant.
    example = torch.zeros((2, *size, 3), dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            folded,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=(dims,),
            optimize=True,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    # What the exporter notes of the source (paths, stack traces) is of no use to a reader.
    del proto.metadata_props[:]
    for item in [*proto.graph.node, *proto.graph.value_info, *proto.graph.input]:
        del item.metadata_props[:]
    with PartialFile(path, overwrite=True) as partial:
        onnx.save(proto, str(partial.path))
        partial.commit()


def onnx_logits(path: Path, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits of an ONNX file by ONNX Runtime on the CPU, one frame at a time: float32 [N, C, h, w]."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    parts = [session.run(None, {"image": frame[None]})[0] for frame in frames]
    return np.concatenate(parts).astype(np.float32)


@torch.no_grad()
def torch_logits(model: DeepLab, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits by torch in float32, one frame at a time: float32 [N, C, h, w]."""
    model = copy.deepcopy(model).cpu().float().eval()
    parts = [model(torch.from_numpy(frame[None])) for frame in frames]
    logits: NDArray[np.float32] = torch.cat(parts).numpy()
    return logits


def verify_onnx(
    path: Path, model: DeepLab, frames: NDArray[np.uint8], tolerance: float = TOLERANCE
) -> dict[str, float]:
    """Compare an ONNX file with the network it was made from.

    Args:
        frames: uint8 [N, H, W, 3] RGB.

    Returns:
        ``max_error``: the greatest difference of a logit over the greatest logit's size (or over 1,
        if that is greater); ``agreement``: share of stride-4 cells with the same winner.

    Raises:
        ModelError: ``max_error`` is above the tolerance or a logit is not finite.
    """
    expected, actual = torch_logits(model, frames), onnx_logits(path, frames)
    scale = max(1.0, float(np.abs(expected).max()))
    error = float(np.abs(expected - actual).max()) / scale
    if not error <= tolerance:
        raise ModelError(
            f"{path}: its logits differ from torch's by {error:.2e}; expected at most {tolerance:g}"
        )
    agreement = float((expected.argmax(1) == actual.argmax(1)).mean())
    return {"max_error": error, "agreement": agreement}


def export_model(
    model: DeepLab,
    labels: LabelSet,
    directory: Path,
    size: tuple[int, int],
    *,
    frames: NDArray[np.uint8] | None = None,
    rounded: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> tuple[Model, dict[str, float]]:
    """Write a model directory: ``model.onnx``, ``model.safetensors`` and the manifest.

    Args:
        model: The network.
        labels: Its classes.
        directory: Made if need be; files in it are replaced.
        size: Height and width of the network's input.
        frames: uint8 [N, H, W, 3] RGB to check with; None takes synthetic ones.
        rounded: Whether to round the exported weights to float16's precision (they stay float32):
            the file then compresses to little more than half.
        extra: More keys of the manifest (training data, licence).

    Returns:
        The model as read back, and what :func:`verify_onnx` found.

    Raises:
        ModelError: The size does not fit, or the exported file does not equal torch.
    """
    check_input_size(size)
    if len(labels) != model.classes:
        raise ModelError(f"the network has {model.classes} classes and the label set {len(labels)}")
    directory.mkdir(parents=True, exist_ok=True)
    frames = synthetic_frames(size) if frames is None else frames
    network = fold_batchnorm(model)
    if rounded:
        round_weights(network)
    export_onnx(network, directory / "model.onnx", size)
    check = verify_onnx(directory / "model.onnx", network, frames)
    weights = directory / "model.safetensors"
    save_checkpoint(weights, model, describe(model, labels, size, extra), dtype=torch.float16)
    manifest = {
        "name": directory.resolve().name,
        "architecture": model.architecture.to_dict(),
        "labels": labels.to_list(),
        "input": {"height": size[0], "width": size[1]},
        "files": {"fp32": {"path": "model.onnx"}},
        "weights": {"path": weights.name, "sha256": sha256_of(weights)},
        "cpu_precision": "fp32",
        "cost": {"parameters": parameter_count(model), "macs": macs(model, size)},
        **(extra or {}),
    }
    return write_manifest(directory, manifest), check


def compare_with_reference(path: Path, reference: Path, frame: Path) -> dict[str, float]:
    """Compare a model file's labels with logits that the author's own code gave.

    Args:
        path: The ONNX file.
        reference: Logits of one frame, float [C, h, w] or [1, C, h, w] (``numpy.save``), of any
            resolution.
        frame: The image they were made from; it has the network's input size.

    Returns:
        ``agreement``: share of the reference's cells with the same winner, ours resized to them
        bilinearly; ``max_error``: the greatest difference of a logit over the greatest logit.

    Raises:
        DataError: A file does not fit.
    """
    try:
        expected = np.load(reference, allow_pickle=False).astype(np.float32)
    except (OSError, ValueError) as error:
        raise DataError(f"{reference}: not an array of numpy.save: {error}") from error
    expected = expected[None] if expected.ndim == 3 else expected
    image = cv2.imread(str(frame), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{frame} does not decode as an image")
    actual = onnx_logits(path, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)[None].astype(np.uint8))
    if expected.ndim != 4 or expected.shape[:2] != actual.shape[:2]:
        raise DataError(
            f"{reference} has the shape {list(expected.shape)}; expected [1, {actual.shape[1]}, h, w]"
        )
    ours = torch.nn.functional.interpolate(
        torch.from_numpy(actual), expected.shape[2:], mode="bilinear", align_corners=False
    ).numpy()
    scale = max(1.0, float(np.abs(expected).max()))
    return {
        "agreement": float((ours.argmax(1) == expected.argmax(1)).mean()),
        "max_error": float(np.abs(ours - expected).max()) / scale,
    }


def round_weights(model: DeepLab) -> None:
    """Round all weights to float16's precision, in place; they stay float32."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half().float())


def parameter_count(model: nn.Module) -> int:
    """Trainable parameters, BatchNorm's included."""
    return sum(p.numel() for p in model.parameters())


@torch.no_grad()
def macs(model: DeepLab, size: tuple[int, int]) -> int:
    """Multiply-accumulates of one frame's convolutions."""
    total = 0

    def count(module: nn.Module, inputs: Sequence[Any], output: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        kernel = module.kernel_size[0] * module.kernel_size[1]
        total += output[0].numel() * kernel * module.in_channels // module.groups

    model = copy.deepcopy(model).eval().to("meta")
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    model(torch.zeros((1, *size, 3), dtype=torch.uint8, device="meta"))
    return total
