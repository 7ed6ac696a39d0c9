"""Weights that need not be stored: a function of each tensor's name and shape."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch


def reference_state(shapes: Mapping[str, Sequence[int]]) -> dict[str, torch.Tensor]:
    """A state dict of seeded random weights under which activations keep their scale."""
    state = {}
    for key, shape in shapes.items():
        rng = np.random.default_rng(zlib.crc32(key.encode()))
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(0)
            continue
        if len(shape) == 4:
            values = rng.standard_normal(shape, np.float32) * np.sqrt(2 / np.prod(shape[1:]))
        elif key.endswith(("weight", "running_var")):
            values = rng.uniform(0.7, 1.3, shape)
        else:
            values = rng.normal(0, 0.2, shape)
        state[key] = torch.from_numpy(np.asarray(values, np.float32))
    return state


def reference_image(height: int = 64, width: int = 96) -> np.ndarray:
    """uint8 [H, W, 3] noise."""
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)
