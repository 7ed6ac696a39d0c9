"""ONNX to INT8 by post-training quantisation: one file for CPUs, another for TensorRT.

The two want different arithmetic: a CPU's VNNI multiplies unsigned activations by signed weights,
and TensorRT takes symmetric signed ones and no quantised bias. One file for both loses speed on
the first and accuracy with it.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from deeplab_rt.errors import ModelError
from deeplab_rt.model_store import Model, write_manifest
from deeplab_rt.network.export import onnx_logits

TARGETS = {"cpu": ("int8", "model.int8.onnx"), "tensorrt": ("int8-trt", "model.int8-trt.onnx")}


def sensitive_nodes(path: Path) -> list[str]:
    """The nodes that stay in floating point: the normalisation, whose input is bytes already, and
    the classifier, the order of whose logits is the result. Together they are 1 % of the work.

    The image-pooling branch is no loss in INT8, and left alone it makes OpenVINO 2026.4 fail in
    bf16 ("No suitable implementations").
    """
    graph = onnx.load(str(path), load_external_data=False).graph
    return [
        node.name
        for node in graph.node
        if node.op_type in ("Sub", "Div") or node.output[0] == graph.output[0].name
    ]


def quantise_for_cpu(source: Path, target: Path, frames: NDArray[np.uint8]) -> None:
    """Write an ONNX file of unsigned 8-bit activations and signed per-channel weights (NNCF).

    Args:
        source: The fp32 file.
        target: The file to write.
        frames: Calibration frames, uint8 [N, H, W, 3] RGB.
    """
    # NNCF talks while it is imported and while it works, to stdout too.
    with contextlib.redirect_stdout(io.StringIO()):
        import nncf

        nncf.set_log_level(logging.ERROR)
        quantised = nncf.quantize(
            onnx.load(str(source)),
            nncf.Dataset(list(frames), lambda frame: {"image": frame[None]}),
            # Symmetric where a tensor has a sign: zero points cost OpenVINO 10 % of the network's
            # time and gain nothing (CamVid validation: mIoU and agreement equal to 0.1 points).
            preset=nncf.QuantizationPreset.PERFORMANCE,
            subset_size=len(frames),
            ignored_scope=nncf.IgnoredScope(names=sensitive_nodes(source)),
        )
    _save(quantised, target)


def quantise_for_tensorrt(source: Path, target: Path, frames: NDArray[np.uint8]) -> None:
    """Write an ONNX file with explicit symmetric Q/DQ: int8 activations with zero point 0, int8
    weights per channel, no quantised bias.

    Args:
        source: The fp32 file.
        target: The file to write.
        frames: Calibration frames, uint8 [N, H, W, 3] RGB.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Frames(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left: Iterator[NDArray[np.uint8]] = iter(frames)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            frame = next(self._left, None)
            return None if frame is None else {"image": frame[None]}

    partial = target.with_suffix(".partial")
    quantize_static(
        str(source),
        str(partial),
        Frames(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        nodes_to_exclude=sensitive_nodes(source),
        # Sums and concatenations stay in floating point: a symmetric int8 for both of a residual's
        # sides costs more accuracy than the convolutions together.
        op_types_to_quantize=["Conv"],
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
        },
    )
    partial.replace(target)


def _save(model: onnx.ModelProto, target: Path) -> None:
    partial = target.with_suffix(".partial")
    onnx.save(model, str(partial))
    partial.replace(target)


def quantise_model(
    model: Model, calibration: NDArray[np.uint8], check: NDArray[np.uint8], targets: Sequence[str]
) -> tuple[Model, dict[str, float]]:
    """Add INT8 files to a model directory and its manifest.

    Args:
        model: A model with an fp32 file.
        calibration: Real training frames at the network's size, uint8 [N, H, W, 3] RGB.
        check: Other frames, on which each file is compared with fp32.
        targets: Some of "cpu" and "tensorrt".

    Returns:
        The model as read back, and per target the share of stride-4 cells whose winner is fp32's,
        both evaluated by ONNX Runtime on the CPU.

    Raises:
        ModelError: The fp32 file is missing or a target is unknown.
    """
    for target in targets:
        if target not in TARGETS:
            raise ModelError(f"target {target!r} is unknown; expected {' or '.join(TARGETS)}")
    source = model.file("fp32")
    expected = onnx_logits(source, check).argmax(1)
    manifest = dict(model.manifest)
    files = {k: {"path": path.name} for k, (path, _) in model.files.items()}
    agreement = {}
    for target in targets:
        precision, name = TARGETS[target]
        path = model.directory / name
        quantise = quantise_for_cpu if target == "cpu" else quantise_for_tensorrt
        quantise(source, path, calibration)
        files[precision] = {"path": name}
        agreement[target] = float((onnx_logits(path, check).argmax(1) == expected).mean())
    if "cpu" in targets:
        manifest["cpu_precision"] = "int8"
    manifest["files"] = files
    return write_manifest(model.directory, manifest), agreement
