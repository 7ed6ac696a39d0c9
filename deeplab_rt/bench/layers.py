"""Times of a network's layers on a GPU, by TensorRT's own profiler."""

from __future__ import annotations

import numpy as np

from deeplab_rt.backends.base import MaskRequest
from deeplab_rt.backends.choice import open_backend
from deeplab_rt.errors import BackendError
from deeplab_rt.frame import Frame
from deeplab_rt.models import load_model

FRAMES = 50


def layer_times(
    name: str, precision: str, size: tuple[int, int], frames: int = FRAMES
) -> dict[str, float]:
    """Mean milliseconds of every layer of a model's engine.

    Args:
        name: of the model, or its directory.
        precision: as of ``--precision``.
        size: (height, width) of the frames.
        frames: how many are evaluated.

    Raises:
        BackendError: TensorRT cannot run here, or tells no times.
    """
    model = load_model(name)
    backend, _ = open_backend(model, "tensorrt", precision)
    try:
        # Importable now: it was opened.
        from deeplab_rt.backends.tensorrt.runner import TensorRTBackend

        assert isinstance(backend, TensorRTBackend)
        frame = Frame(np.zeros((*size, 3), np.uint8))
        times = backend.profile_layers(frame, MaskRequest(model.labels), frames)
    finally:
        backend.close()
    if not times:
        raise BackendError("TensorRT's profiler told no layer's time")
    return times
