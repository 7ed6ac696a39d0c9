"""How long and how hard to train: options, and the learning rate over a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from deeplab_rt.network.model import DeepLab


@dataclass(frozen=True)
class LoopOptions:
    """How long and how hard to train.

    Args:
        steps: Length of the schedule in steps.
        minutes: Length of the schedule in minutes of wall time, in place of ``steps``: the
            learning rate then follows the clock, and what is there when it ends is finished.
        epoch_steps: Steps between validations and checkpoints.
        learning_rate: Of the head, at its peak (AdamW).
        encoder_rate: Factor on it for the encoder, which starts from ImageNet.
        weight_decay: Of convolution weights; norms and biases have none.
        warmup: Share of the schedule in which the rate rises from zero.
        ema: Decay of the averaged weights per step.
        balance: Exponent of the class weights, see :func:`balanced_weights`; 0 weighs all alike.
        jaccard: Weight of the soft Jaccard part of the loss.
        distil: Weight of :func:`distillation_loss`, where the recipe names a teacher.
        rare_share: Share of the samples whose crop is drawn around a pixel of a rare group.
        seed: Of everything random.
        keep: Epoch checkpoints kept; older ones are deleted.
        precision: "auto", "bf16" or "fp32".
        compile: Compile the network (torch.compile).
    """

    steps: int = 4000
    minutes: float | None = None
    epoch_steps: int = 250
    learning_rate: float = 1e-3
    encoder_rate: float = 0.4
    weight_decay: float = 0.05
    warmup: float = 0.03
    ema: float = 0.998
    balance: float = 0.1
    jaccard: float = 1.0
    distil: float = 2.0
    rare_share: float = 0.5
    seed: int = 0
    keep: int = 3
    precision: str = "auto"
    compile: bool = False

    def progress(self, step: int, elapsed: float) -> float:
        """How much of the schedule is done, 0 to 1, after so many steps and seconds."""
        if self.minutes is not None:
            return min(1.0, elapsed / (60 * self.minutes))
        return min(1.0, step / self.steps)


def parameter_groups(model: DeepLab, options: LoopOptions) -> list[dict[str, Any]]:
    """AdamW's groups: the encoder at its own rate, weight decay for convolution weights alone."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        rate = options.encoder_rate if name.startswith("encoder.") else 1.0
        decay = options.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": parameters, "factor": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def rate_at(progress: float, warmup: float) -> float:
    """Factor on the peak learning rate: linear warm-up, then half a cosine to 1 %."""
    if progress < warmup:
        return progress / warmup
    position = min(1.0, (progress - warmup) / (1 - warmup))
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * position))
