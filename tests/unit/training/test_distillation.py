"""Soft labels: the loss against PyTorch's own, and a teacher that is an exported model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deeplab_rt.backends.openvino import compile_network
from deeplab_rt.errors import DataError
from deeplab_rt.labels import load_label_set
from deeplab_rt.models import Model
from deeplab_rt.training.distillation import Teacher, distillation_loss


def test_the_loss_is_the_divergence_of_the_teacher() -> None:
    torch.manual_seed(0)
    own, target = torch.randn(2, 5, 6, 8, requires_grad=True), torch.randn(2, 5, 6, 8)
    expected = torch.nn.functional.kl_div(
        own.log_softmax(1), target.log_softmax(1), reduction="none", log_target=True
    )
    loss = distillation_loss(own, target)
    assert loss.item() == pytest.approx(expected.sum(1).mean().item(), rel=1e-5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert own.grad is not None and own.grad.abs().max() > 0


def test_who_has_learned_it_all_loses_nothing() -> None:
    target = torch.randn(1, 4, 5, 7)
    assert distillation_loss(target + 3, target).item() == pytest.approx(0, abs=1e-6)


def test_a_larger_teacher_is_resized_to_the_student() -> None:
    target = torch.zeros(1, 3, 12, 16)
    target[:, 1] = 4.0
    own = torch.zeros(1, 3, 6, 8)
    own[:, 1] = 4.0
    assert distillation_loss(own, target).item() == pytest.approx(0, abs=1e-6)


def test_the_teacher_sees_enlarged_samples(palette_model: Model) -> None:
    teacher = Teacher(palette_model.directory, palette_model.labels, 1.3)
    plain = np.full((2, 64, 96, 3), (90, 120, 30), np.uint8)
    logits = teacher.logits(torch.from_numpy(plain))
    assert logits.shape == (2, 11, 24, 32)
    direct = compile_network(palette_model, palette_model.cpu_precision, (96, 128))
    expected = direct(np.full((1, 96, 128, 3), (90, 120, 30), np.uint8))[0]
    assert np.allclose(logits[1].numpy(), expected[0], atol=1e-5)


def test_a_teacher_of_other_labels_is_refused(palette_model: Model) -> None:
    with pytest.raises(DataError, match="expected the recipe's labels: road"):
        Teacher(palette_model.directory, load_label_set("cityscapes19"), 1.0)
