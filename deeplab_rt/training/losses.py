"""The loss over unions of classes: marginal likelihood, class weights and soft Jaccard."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deeplab_rt.training.data import IGNORE


def union_log_probabilities(
    log_probabilities: Tensor, class_ids: Sequence[Sequence[int]]
) -> Tensor:
    """The log-probability of each union: the logarithm of the sum over its members.

    Args:
        log_probabilities: Float [N, C, H, W], normalised over C.
        class_ids: For each of G groups the class indices it may be.

    Returns:
        Float [N, G, H, W].
    """
    if [list(m) for m in class_ids] == [[c] for c in range(log_probabilities.shape[1])]:
        return log_probabilities
    parts = [
        log_probabilities[:, ids[0]]
        if len(ids) == 1
        else torch.logsumexp(log_probabilities[:, list(ids)], dim=1)
        for ids in class_ids
    ]
    return torch.stack(parts, dim=1)


def balanced_weights(
    pixels: NDArray[np.int64], exponent: float, low: float = 0.6, high: float = 2.0
) -> NDArray[np.float32]:
    """Weight of each group: (median frequency / frequency) ** exponent, capped.

    Median-frequency balancing itself (arXiv:1411.4734, section 4.3; exponent 1) buys recall of rare
    classes with halos around them: a weight of 6 between neighbours moves their boundary to where the
    rare one has a probability of 1/7. At 0.25 walls were still taken for fences, people and signs.

    Args:
        pixels: Pixels of each group in the training split, [G].
        exponent: 0 weighs all alike.
    """
    frequency = np.maximum(pixels, 1) / max(int(pixels.sum()), 1)
    weights = (np.median(frequency) / frequency) ** exponent
    return np.clip(weights, low, high).astype(np.float32)


def segmentation_loss(
    logits: Tensor,
    groups: Tensor,
    class_ids: Sequence[Sequence[int]],
    weights: Tensor,
    jaccard: float = 0.5,
) -> Tensor:
    """Weighted marginal cross-entropy plus a soft Jaccard loss over the groups present.

    Args:
        logits: Float [N, C, H, W].
        groups: int64 [N, H, W]; IGNORE pixels count for nothing.
        class_ids: See :func:`union_log_probabilities`.
        weights: Float [G].
        jaccard: Weight of the Jaccard part, which counts every class present alike.

    Returns:
        A scalar; zero (with a gradient) where every pixel is ignored.
    """
    log_probabilities = union_log_probabilities(
        nn.functional.log_softmax(logits.float(), dim=1), class_ids
    )
    valid = groups != IGNORE
    if not bool(valid.any()):
        return log_probabilities.sum() * 0
    entropy = nn.functional.nll_loss(log_probabilities, groups, weight=weights, ignore_index=IGNORE)
    if not jaccard:
        return entropy
    target = groups.where(valid, 0)
    count = log_probabilities.shape[1]
    probabilities = log_probabilities.exp() * valid[:, None]
    predicted = probabilities.sum((0, 2, 3))
    flat = target.flatten()
    keep = valid.flatten().to(probabilities.dtype)
    hit = probabilities.gather(1, target[:, None])[:, 0].flatten() * keep
    intersection = probabilities.new_zeros(count).index_add(0, flat, hit)
    actual = probabilities.new_zeros(count).index_add(0, flat, keep)
    present = actual > 0
    iou = intersection[present] / (predicted + actual - intersection)[present]
    return entropy + jaccard * (1 - iou).mean()
