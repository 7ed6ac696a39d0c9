"""A teacher whose soft labels a smaller network learns from (Hinton et al. 2015, arXiv:1503.02531)."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deeplab_rt.backends.openvino import compile_network
from deeplab_rt.errors import DataError
from deeplab_rt.labels import LabelSet
from deeplab_rt.models import SIZE_MULTIPLE, load_model


class Teacher:
    """An exported model evaluated by OpenVINO on the samples of each batch, one after the other.

    INT8 logits have fp32's winner in 99.5 % of the pixels and cost a third, which is why the teacher
    is a model directory and not a checkpoint.

    Args:
        model: Name or directory of the model.
        labels: The student's taxonomy, which has to be the teacher's.
        crop: Height and width of the samples.
        scale: The samples are enlarged by so much for the teacher: it sees finer than the student.

    Raises:
        DataError: The teacher has other labels.
        ModelError: There is no such model.
        BackendError: OpenVINO cannot use it.
    """

    def __init__(
        self, model: str | Path, labels: LabelSet, crop: tuple[int, int], scale: float
    ) -> None:
        found = load_model(model)
        if found.labels.names != labels.names:
            raise DataError(
                f"teacher {found.name} tells {', '.join(found.labels.names)} apart; expected the "
                f"recipe's labels: {', '.join(labels.names)}"
            )
        rows, columns = (max(1, round(side * scale / SIZE_MULTIPLE)) for side in crop)
        self.size = (rows * SIZE_MULTIPLE, columns * SIZE_MULTIPLE)
        self._request = compile_network(found, input_size=self.size).create_infer_request()

    def logits(self, images: Tensor) -> Tensor:
        """uint8 [N, h, w, 3] RGB to float32 [N, classes, H/4, W/4] of the teacher's own size."""
        return torch.stack([self._one(image.numpy()) for image in images])

    def _one(self, image: NDArray[np.uint8]) -> Tensor:
        height, width = self.size
        enlarged = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        output: NDArray[np.float32] = self._request.infer([enlarged[None]])[0][0]
        return torch.from_numpy(output.copy())


def distillation_loss(logits: Tensor, taught: Tensor) -> Tensor:
    """Mean over the cells of the Kullback-Leibler divergence of the student's classes from the
    teacher's, in nats. Pixels without a label count too.

    Args:
        logits: Float [N, C, h, w] of the student.
        taught: Float [N, C, h', w'] of the teacher, resized to the student's cells.
    """
    taught = nn.functional.interpolate(
        taught, logits.shape[2:], mode="bilinear", align_corners=False
    )
    own = nn.functional.log_softmax(logits.float(), dim=1)
    theirs = nn.functional.log_softmax(taught, dim=1)
    return (theirs.exp() * (theirs - own)).sum(1).mean()
