"""Narrower encoders: what was of no use goes without a trace, what cannot be narrowed is named."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from deeplab_rt.network.encoders import (
    ENCODERS,
    EncoderEntry,
    InvertedResidual,
    InvertedResidualEncoder,
    Stage,
)
from deeplab_rt.network.model import ArchitectureError, DeepLab
from deeplab_rt.network.pruning import narrow
from tests.unit.network.tiny import TINY

WIDE = [Stage(1, 3, 8, 1, 1), Stage(4, 3, 8, 1, 2), Stage(4, 3, 16, 3, 2), Stage(4, 3, 16, 1, 2)]
HALF = [replace(stage, expand=max(1, stage.expand // 2)) for stage in WIDE]
SHORT = [replace(stage, repeats=min(stage.repeats, 2)) for stage in WIDE]
OTHER = [replace(stage, channels=stage.channels + 8) for stage in WIDE]
FLAT = [replace(stage, expand=1) for stage in WIDE]
LARGE_KERNEL = [replace(stage, kernel=5) for stage in WIDE]
MORE = [replace(stage, repeats=stage.repeats + 1) for stage in WIDE]


@pytest.fixture(autouse=True)
def _encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, stages in {
        "wide": WIDE,
        "half": HALF,
        "short": SHORT,
        "other": OTHER,
        "more": MORE,
        "flat": FLAT,
        "large kernel": LARGE_KERNEL,
    }.items():
        entry = EncoderEntry(lambda o, s=stages: InvertedResidualEncoder(s, o, eps=1e-5))  # type: ignore[misc]
        monkeypatch.setitem(ENCODERS, name, entry)


def network(encoder: str) -> DeepLab:
    """Random weights and random BatchNorm statistics."""
    torch.manual_seed(0)
    model = DeepLab(replace(TINY, encoder=encoder), 5).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, 0, 0.5)
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return model


def blocks(model: DeepLab) -> list[InvertedResidual]:
    encoder = model.encoder
    assert isinstance(encoder, InvertedResidualEncoder)
    return [b for b in encoder.blocks if isinstance(b, InvertedResidual)]


@pytest.fixture
def frames() -> Tensor:
    return torch.randint(
        0, 256, (4, 64, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def difference(one: DeepLab, other: DeepLab, frames: Tensor) -> float:
    with torch.no_grad():
        expected, actual = one(frames), other(frames)
    return float((expected - actual).abs().max() / expected.abs().max())


def test_the_same_shape_computes_the_same(frames: Tensor) -> None:
    trained, copy = network("wide"), DeepLab(replace(TINY, encoder="wide"), 5)
    lost = narrow(trained, copy, frames)
    assert len(lost) == 6
    assert max(lost) < 1e-4  # the ridge that keeps the fit stable
    assert difference(trained, copy, frames) < 2e-2


def test_channels_of_no_use_go_without_a_trace(frames: Tensor) -> None:
    """Every other hidden channel counts for nothing: least squares finds which."""
    trained = network("wide")
    with torch.no_grad():
        for block in blocks(trained):
            if isinstance(block.expand, nn.Sequential):
                weight = block.project.get_submodule("conv").weight
                assert isinstance(weight, Tensor)
                weight[:, ::2] = 0
    half = DeepLab(replace(TINY, encoder="half"), 5)
    assert max(narrow(trained, half, frames)) < 1e-4
    assert difference(trained, half, frames) < 2e-2


def test_useful_channels_are_missed_but_little(frames: Tensor) -> None:
    trained, half = network("wide"), DeepLab(replace(TINY, encoder="half"), 5)
    lost = narrow(trained, half, frames)
    assert 0.001 < max(lost) < 0.9
    random = difference(trained, network("half"), frames)
    assert difference(trained, half, frames) < random


def test_a_block_that_adds_nothing_is_left_out(frames: Tensor) -> None:
    trained = network("wide")
    with torch.no_grad():
        for name, parameter in blocks(trained)[4].project.named_parameters():
            if name.startswith("norm"):
                parameter.zero_()
    short = DeepLab(replace(TINY, encoder="short"), 5)
    assert len(narrow(trained, short, frames)) == 5
    assert difference(trained, short, frames) < 2e-2


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("other", "only hidden channels and repeats"),
        ("large kernel", r"depthwise convolution's kernel_size is \(5, 5\)"),
        ("flat", "an expansion of 1; expected 2 or more"),
        ("more", "a stage of 2 blocks; expected 1 at most"),
        ("resnet50", "only encoders of inverted residuals"),
    ],
)
def test_what_cannot_be_narrowed(encoder: str, message: str, frames: Tensor) -> None:
    with pytest.raises(ArchitectureError, match=message):
        narrow(network("wide"), DeepLab(replace(TINY, encoder=encoder), 5), frames)
