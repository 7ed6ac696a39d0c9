"""Predictions of a network in torch, and their confusion on labelled images."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deeplab_rt.frame import Size
from deeplab_rt.input_shape import shape_for
from deeplab_rt.training.data import Dataset
from deeplab_rt.training.metrics import Confusion


@torch.no_grad()
def network_logits(
    model: nn.Module,
    image: NDArray[np.uint8],
    size: tuple[int, int],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Logits of a frame: float32 [1, C, h/4, w/4].

    Args:
        model: The network, in evaluation mode.
        image: uint8 [H, W, 3] RGB.
        size: Height and width the frame is resized to for the network.
        dtype: bfloat16 runs under autocast.
    """
    device = next(model.parameters()).device
    resized = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        logits: Tensor = model(torch.from_numpy(resized)[None].to(device)).float()
    return logits


@torch.no_grad()
def predict(
    model: nn.Module,
    image: NDArray[np.uint8],
    size: tuple[int, int],
    dtype: torch.dtype = torch.float32,
) -> NDArray[np.uint8]:
    """Class indices of a frame at the frame's own size; see :func:`network_logits`.

    Returns:
        uint8 [H, W].
    """
    logits = network_logits(model, image, size, dtype)
    full = nn.functional.interpolate(
        logits, size=image.shape[:2], mode="bilinear", align_corners=False
    )
    return full.argmax(1)[0].to(torch.uint8).cpu().numpy()


@torch.no_grad()
def predict_with_confidence(
    model: nn.Module, image: NDArray[np.uint8], size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """As :func:`predict`, and the winner's probability x 255, uint8 [H, W]."""
    logits = network_logits(model, image, size)
    full = nn.functional.interpolate(
        logits, size=image.shape[:2], mode="bilinear", align_corners=False
    )
    confidence, classes = full.softmax(1)[0].max(0)
    bytes_ = (255 * confidence).round().to(torch.uint8)
    return classes.to(torch.uint8).cpu().numpy(), bytes_.cpu().numpy()


def validate(
    model: nn.Module, data: Dataset, size: tuple[int, int], dtype: torch.dtype = torch.float32
) -> Confusion:
    """Confusion of a data set's measured groups, at each image's own size and aspect."""
    confusion = Confusion(data.names)
    for index in range(len(data)):
        image, groups = data.read(index)
        shape = shape_for(Size.of(image), Size(*size))
        classes = predict(model, image, shape, dtype)
        confusion.add(data.measured[groups], data.group_of_class[classes])
    return confusion
