"""ONNX to INT8 by post-training quantisation: one file for CPUs, another for TensorRT.

The two want different arithmetic: a CPU's VNNI multiplies unsigned activations by signed weights,
and TensorRT takes symmetric signed ones and no quantised bias. One file for both loses speed on
the first and accuracy with it.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from deeplab_rt.errors import ModelError
from deeplab_rt.files import PartialFile
from deeplab_rt.models import Model, write_manifest
from deeplab_rt.network.export import onnx_logits
from deeplab_rt.network.tensorrt_int8 import for_tensorrt, typed_logits

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


def quantise(source: Path, target: Path, frames: NDArray[np.uint8], *, symmetric: bool) -> None:
    """Write an INT8 ONNX file with explicit Q/DQ and signed per-channel weights (NNCF, whose bias
    correction is worth several points here). Biases stay in floating point.

    Args:
        source: The fp32 file.
        target: The file to write.
        frames: Calibration frames, uint8 [N, H, W, 3] RGB.
        symmetric: False: unsigned or asymmetric activations, for a CPU. True: signed ones with
            zero point 0 and half for what is not quantised, for TensorRT
            (:mod:`.tensorrt_int8`).
    """
    # NNCF talks while it is imported and while it works, to stdout too.
    with contextlib.redirect_stdout(io.StringIO()):
        import nncf
        from nncf.quantization import advanced_parameters as advanced

        # Not nncf.set_log_level, which silences the handlers of the whole process.
        logging.getLogger("nncf").setLevel(logging.ERROR)
        presets = nncf.QuantizationPreset
        # A CPU takes a scale per channel before depthwise convolutions, TensorRT one per tensor.
        activations = advanced.QuantizationParameters(per_channel=False) if symmetric else None
        quantised = nncf.quantize(
            onnx.load(str(source)),
            nncf.Dataset(list(frames), lambda frame: {"image": frame[None]}),
            preset=presets.PERFORMANCE if symmetric else presets.MIXED,
            subset_size=len(frames),
            ignored_scope=nncf.IgnoredScope(names=sensitive_nodes(source)),
            advanced_parameters=advanced.AdvancedQuantizationParameters(
                activations_quantization_params=activations
            ),
        )
    if symmetric:
        quantised = for_tensorrt(quantised)
    with PartialFile(target, overwrite=True) as partial:
        onnx.save(quantised, str(partial.path))
        partial.commit()


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
        quantise(source, path, calibration, symmetric=target == "tensorrt")
        files[precision] = {"path": name}
        logits = typed_logits if target == "tensorrt" else onnx_logits
        agreement[target] = float((logits(path, check).argmax(1) == expected).mean())
    if "cpu" in targets:
        manifest["cpu_precision"] = "int8"
    manifest["files"] = files
    return write_manifest(model.directory, manifest), agreement
