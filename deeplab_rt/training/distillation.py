"""A teacher whose soft labels a smaller network learns from (Hinton et al. 2015, arXiv:1503.02531)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
        scale: The samples are enlarged by so much for the teacher: it sees finer than the student.

    Raises:
        DataError: The teacher has other labels.
        ModelError: There is no such model.
    """

    def __init__(self, model: str | Path, labels: LabelSet, scale: float) -> None:
        self._model = load_model(model)
        if self._model.labels.names != labels.names:
            raise DataError(
                f"teacher {self._model.name} tells {', '.join(self._model.labels.names)} apart; "
                f"expected the recipe's labels: {', '.join(labels.names)}"
            )
        self._scale = scale
        self._requests: dict[tuple[int, int], Any] = {}

    def logits(self, images: Tensor) -> Tensor:
        """uint8 [N, h, w, 3] RGB to float32 [N, classes, H/4, W/4] of the teacher's own size."""
        return torch.stack([self._one(image.numpy()) for image in images])

    def _one(self, image: NDArray[np.uint8]) -> Tensor:
        rows, columns = (
            SIZE_MULTIPLE * max(1, round(side * self._scale / SIZE_MULTIPLE))
            for side in image.shape[:2]
        )
        if (rows, columns) not in self._requests:  # the crops have a few shapes
            network = compile_network(self._model, input_size=(rows, columns))
            self._requests[rows, columns] = network.create_infer_request()
        enlarged = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_LINEAR)
        request = self._requests[rows, columns]
        output: NDArray[np.float32] = request.infer([enlarged[None]])[0][0]
        return torch.from_numpy(output.copy())


def distillation_loss(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Mean over the cells of the Kullback-Leibler divergence of the student's classes from the
    teacher's, in nats. Pixels without a label count too.

    Args:
        logits: Float [N, C, h, w] of the student.
        teacher_logits: Float [N, C, h', w'] of the teacher, resized to the student's cells.
    """
    teacher_logits = nn.functional.interpolate(
        teacher_logits, logits.shape[2:], mode="bilinear", align_corners=False
    )
    own = nn.functional.log_softmax(logits.float(), dim=1)
    theirs = nn.functional.log_softmax(teacher_logits, dim=1)
    return (theirs.exp() * (theirs - own)).sum(1).mean()
