"""The choices that commands, parameters and models share: backends, precisions, mask sizes."""

from __future__ import annotations

from typing import Literal, get_args

BackendName = Literal["auto", "cpu", "tensorrt"]
Precision = Literal["fp32", "bf16", "fp16", "int8"]
MaskSize = Literal["input", "network"]

BACKENDS: tuple[str, ...] = get_args(BackendName)
PRECISIONS: tuple[str, ...] = get_args(Precision)
MASK_SIZES: tuple[str, ...] = get_args(MaskSize)

CPU_PRECISIONS = ("fp32", "bf16", "int8")
GPU_PRECISIONS = ("fp32", "fp16", "int8")
