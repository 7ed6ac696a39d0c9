"""The decoder: shapes, the tap's part, upsampling."""

from __future__ import annotations

import pytest
import torch

from deeplab_rt.network.decoder import Decoder


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("convs", [0, 1, 2])
def test_shape(scale: int, convs: int) -> None:
    decoder = Decoder(6, 5, low_channels=3, channels=7, convs=convs, scale=scale).eval()
    low, high = torch.randn(2, 5, 3 * scale, 4 * scale), torch.randn(2, 6, 3, 4)
    out = decoder(low, high)
    assert out.shape == (2, decoder.out_channels, 3 * scale, 4 * scale)
    assert decoder.out_channels == (7 if convs else 9)


def test_both_inputs_matter() -> None:
    torch.manual_seed(0)
    decoder = Decoder(6, 5, low_channels=3, channels=7).eval()
    low = torch.randn(1, 5, 16, 16, requires_grad=True)
    high = torch.randn(1, 6, 4, 4, requires_grad=True)
    decoder(low, high).sum().backward()
    assert float(low.grad.abs().sum()) > 0
    assert float(high.grad.abs().sum()) > 0


@pytest.mark.parametrize("align_corners", [True, False])
def test_upsampling_is_bilinear(align_corners: bool) -> None:
    decoder = Decoder(1, 1, low_channels=1, convs=0, scale=4, align_corners=align_corners).eval()
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    row = decoder(torch.zeros(1, 1, 16, 16), ramp).detach()[0, 0, 5]
    assert float(row[-1]) == 3.0
    # Aligned corners stretch the ramp over 15 steps; half-pixel centres hold it at the ends.
    assert float(row[1]) == pytest.approx(3 / 15 if align_corners else 0.0)
