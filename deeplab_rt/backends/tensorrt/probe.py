"""Whether TensorRT can run here, told without importing anything of CUDA where there is no driver."""

from __future__ import annotations

import ctypes

from deeplab_rt.model_store import Model


def why_not(
    model: Model, precision: str, input_size: tuple[int, int] | None, max_batch: int
) -> str | None:
    """None if TensorRT can run this model here, else what is missing, in words."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver (libcuda.so.1) on this machine"
    return "the TensorRT runner is not installed"
