"""The loss: marginal likelihood of unions, weights, soft Jaccard."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from deeplab_rt.training.data import IGNORE
from deeplab_rt.training.losses import (
    balanced_weights,
    segmentation_loss,
    union_log_probabilities,
)

SINGLE = [[0], [1], [2], [3]]


def logits(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(seed))


def test_a_unions_probability_is_the_sum_of_its_class_ids() -> None:
    log_p = logits().log_softmax(1)
    unions = union_log_probabilities(log_p, [[0, 2], [1], [3]]).exp()
    p = log_p.exp()
    assert torch.allclose(unions[:, 0], p[:, 0] + p[:, 2], atol=1e-6)
    assert torch.allclose(unions[:, 1], p[:, 1])
    assert torch.allclose(unions.sum(1), torch.ones(2, 5, 6), atol=1e-6)
    assert union_log_probabilities(log_p, SINGLE) is log_p


def test_single_classes_give_cross_entropy() -> None:
    x = logits()
    target = torch.randint(0, 4, (2, 5, 6), generator=torch.Generator().manual_seed(1))
    target[0, 0] = IGNORE
    weights = torch.tensor([1.0, 2.0, 0.5, 1.0])
    expected = nn.functional.cross_entropy(x, target, weights, ignore_index=IGNORE)
    assert torch.allclose(segmentation_loss(x, target, SINGLE, weights, jaccard=0), expected)


def test_a_union_does_not_care_which_member() -> None:
    target = torch.zeros(1, 2, 2, dtype=torch.int64)
    class_ids = [[0, 1], [2], [3]]
    first, second = torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)
    first[:, 0] = second[:, 1] = 9
    weights = torch.ones(3)
    losses = [float(segmentation_loss(x, target, class_ids, weights)) for x in (first, second)]
    assert losses[0] == pytest.approx(losses[1])
    assert losses[0] < 0.01
    wrong = torch.zeros(1, 4, 2, 2)
    wrong[:, 2] = 9
    assert float(segmentation_loss(wrong, target, class_ids, weights)) > 5


def test_the_gradient_of_a_union_reaches_every_member() -> None:
    x = torch.zeros(1, 4, 2, 2, requires_grad=True)
    target = torch.zeros(1, 2, 2, dtype=torch.int64)
    segmentation_loss(x, target, [[0, 1], [2], [3]], torch.ones(3)).backward()
    assert x.grad is not None
    assert bool((x.grad[:, :2] < 0).all())
    assert bool((x.grad[:, 2:] > 0).all())


def test_jaccard_is_zero_for_a_perfect_and_one_for_a_disjoint_prediction() -> None:
    target = torch.tensor([[[0, 1], [1, IGNORE]]])
    right = nn.functional.one_hot(target.where(target != IGNORE, 0), 4).permute(0, 3, 1, 2) * 50.0
    weights = torch.ones(4)

    def jaccard(x: torch.Tensor) -> float:
        both = segmentation_loss(x, target, SINGLE, weights, jaccard=1)
        return float(both - segmentation_loss(x, target, SINGLE, weights, jaccard=0))

    assert jaccard(right) == pytest.approx(0, abs=1e-5)
    assert jaccard(right.roll(1, dims=1)) == pytest.approx(1, abs=1e-2)


def test_ignored_pixels_change_nothing() -> None:
    x, target = logits(), torch.zeros(2, 5, 6, dtype=torch.int64)
    target[1] = IGNORE
    y = x.clone()
    y[1] += 100 * torch.randn(4, 5, 6)
    args = (target, SINGLE, torch.ones(4))
    assert torch.allclose(segmentation_loss(x, *args), segmentation_loss(y, *args))
    nothing = torch.full_like(target, IGNORE)
    x.requires_grad_()
    loss = segmentation_loss(x, nothing, SINGLE, torch.ones(4))
    loss.backward()
    assert float(loss.detach()) == 0
    assert x.grad is not None
    assert not x.grad.any()


def test_weights_raise_the_rare_within_their_caps() -> None:
    pixels = np.array([10_000, 1_000, 1_000, 1, 0])
    assert balanced_weights(pixels, 0.25).tolist() == pytest.approx([0.6, 1.0, 1.0, 2.0, 2.0])
    assert balanced_weights(pixels, 0.1)[:2].tolist() == pytest.approx([10**-0.1, 1.0])
    assert balanced_weights(pixels, 0).tolist() == [1.0] * 5
