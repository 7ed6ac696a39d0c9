"""ASPP: shapes, rates, image pooling."""

from __future__ import annotations

import pytest
import torch

from deeplab_rt.network.aspp import ASPP


@pytest.mark.parametrize("separable", [True, False])
@pytest.mark.parametrize("rates", [(), (6,), (6, 12, 18)])
def test_shape_and_branches(separable: bool, rates: tuple[int, ...]) -> None:
    aspp = ASPP(20, 8, rates, separable_convs=separable).eval()
    assert aspp(torch.randn(2, 20, 5, 7)).shape == (2, 8, 5, 7)
    assert len(aspp.branches) == 1 + len(rates)
    assert aspp.project.conv.in_channels == 8 * (len(rates) + 2)


def test_parameter_counts() -> None:
    """Convolutions of 320 to 256 channels, by hand."""

    def weights(aspp: ASPP) -> int:
        return sum(p.numel() for p in aspp.parameters() if p.ndim == 4)

    ends = 320 * 256 + 320 * 256 + 5 * 256 * 256  # 1x1, pooling, projection
    assert weights(ASPP(320, 256, (6, 12, 18), separable_convs=False)) == ends + 3 * 9 * 320 * 256
    assert weights(ASPP(320, 256, (6, 12, 18))) == ends + 3 * (9 * 320 + 320 * 256)


def test_each_branch_looks_as_far_as_its_rate() -> None:
    aspp = ASPP(2, 4, (3, 5), separable_convs=False).eval()
    for branch, reach in zip(aspp.branches, (0, 3, 5), strict=True):
        x = torch.randn(1, 2, 21, 21, requires_grad=True)
        branch[0](x)[0, :, 10, 10].sum().backward()
        rows = x.grad.abs().sum((0, 1, 3)).nonzero().flatten().tolist()
        assert rows == sorted({10 - reach, 10, 10 + reach})


def test_image_pooling_reaches_every_pixel() -> None:
    torch.manual_seed(0)
    aspp = ASPP(3, 4, (), dropout=0.0).eval()
    x = torch.randn(1, 3, 9, 9)
    y = x.clone()
    y[..., 0, 0] += 5
    with torch.no_grad():
        assert not torch.allclose(aspp(x)[..., 8, 8], aspp(y)[..., 8, 8], atol=1e-6)


def test_dropout_only_in_training() -> None:
    aspp = ASPP(3, 4, (1,), dropout=0.5)
    x = torch.randn(2, 3, 6, 6)
    assert not torch.equal(aspp(x), aspp(x))
    aspp.eval()
    assert torch.equal(aspp(x), aspp(x))
