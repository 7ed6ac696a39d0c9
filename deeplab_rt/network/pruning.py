"""A narrower encoder from a trained one: channels and blocks taken out, what is left refitted.

Channels are chosen as in optimal brain surgeon (Hassibi and Stork 1993): out go those whose loss
least squares over the others mends best. What a block then gives is fitted to what the trained
one gave, block by block, each on the narrower network's own input (He et al. 2017,
arXiv:1707.06168, section 3). Training goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from deeplab_rt.network.encoders import InvertedResidual, InvertedResidualEncoder
from deeplab_rt.network.model import ArchitectureError, DeepLab

PIXELS = 20_000
"""Places of the feature maps that a block is fitted on."""

STEP = 16
"""Channels taken out between two inversions of the channels' covariance."""


@torch.no_grad()
def narrow(trained: DeepLab, narrower: DeepLab, frames: Tensor) -> list[float]:
    """Fill a network whose inverted residuals have fewer hidden channels or repeats.

    Args:
        trained: Filled, of the same stages and the same ASPP and decoder.
        narrower: Is filled; both are left in evaluation mode.
        frames: uint8 [N, H, W, 3] RGB, training pictures; two dozen are enough.

    Returns:
        For each block of ``narrower`` the share of the variance of its output that is lost.

    Raises:
        ArchitectureError: The two networks differ in more than hidden channels and repeats.
    """
    from_, to = trained.eval().encoder, narrower.eval().encoder
    if not (isinstance(from_, InvertedResidualEncoder) and isinstance(to, InvertedResidualEncoder)):
        raise ArchitectureError("only encoders of inverted residuals can be narrowed")
    _copy_rest(trained, narrower)
    image = trained.normalise(frames)
    theirs = ours = from_.stem(image)
    generator = torch.Generator().manual_seed(0)
    lost = []
    for span, block, source in _pairs(from_, to):
        for one in span:
            theirs = one(theirs)
        lost.append(_fit(source, block, ours, theirs, generator))
        ours = block(ours)
    return lost


def _copy_rest(trained: DeepLab, narrower: DeepLab) -> None:
    """Everything outside the encoder's blocks, which has to have one shape."""
    theirs, ours = trained.state_dict(), narrower.state_dict()
    for name, value in ours.items():
        if name.startswith("encoder.blocks."):
            continue
        if name not in theirs or theirs[name].shape != value.shape:
            raise ArchitectureError(
                f"{name} is {list(value.shape)} in the narrower network; expected the trained "
                "one's: only hidden channels and repeats of inverted residuals may differ"
            )
        value.copy_(theirs[name])


def _pairs(
    trained: InvertedResidualEncoder, narrower: InvertedResidualEncoder
) -> Iterator[tuple[list[InvertedResidual], InvertedResidual, InvertedResidual]]:
    """For each block of the narrower encoder: the trained blocks that it stands for, itself, and
    the one whose channels it takes. A stage's last block stands for the ones left out."""
    if len(trained.repeats) != len(narrower.repeats):
        raise ArchitectureError(
            f"{len(narrower.repeats)} stages; expected the trained {len(trained.repeats)}"
        )
    theirs, ours = list(trained.blocks), list(narrower.blocks)
    for count, kept in zip(trained.repeats, narrower.repeats, strict=True):
        if kept > count:
            raise ArchitectureError(f"a stage of {kept} blocks; expected {count} at most")
        stage, theirs = theirs[:count], theirs[count:]
        for index in range(kept):
            span = stage[index:] if index == kept - 1 else [stage[index]]
            source, block = stage[index], ours.pop(0)
            assert isinstance(source, InvertedResidual) and isinstance(block, InvertedResidual)
            yield span, block, source  # type: ignore[misc]


def _fit(
    source: InvertedResidual,
    block: InvertedResidual,
    x: Tensor,
    wanted: Tensor,
    generator: torch.Generator,
) -> float:
    """Fill ``block`` from ``source`` so that on ``x`` it gives ``wanted`` as nearly as can be."""
    _check(source, block)
    hidden = source.depthwise(source.expand(x))
    target = wanted - x if block.residual else wanted
    places = torch.randperm(target[:, 0].numel(), generator=generator)[:PIXELS]
    inputs, outputs = _at(hidden, places), _at(target, places)
    centre, goal = inputs.mean(0), outputs.mean(0)
    inputs, outputs = inputs - centre, outputs - goal
    gram, cross = inputs.T @ inputs / len(places), inputs.T @ outputs / len(places)
    gram.diagonal().add_(1e-4 * gram.diagonal().mean())
    depthwise = block.depthwise.get_submodule("conv")
    assert isinstance(depthwise, nn.Conv2d)
    keep = _choose(gram, cross, depthwise.out_channels)
    fitted = torch.linalg.solve(gram[keep][:, keep], cross[keep])  # [kept, outputs]
    error = (outputs - inputs[:, keep] @ fitted).square().mean() / outputs.square().mean()
    if isinstance(block.expand, nn.Sequential) and isinstance(source.expand, nn.Sequential):
        _take(source.expand, block.expand, keep)
    _take(source.depthwise, block.depthwise, keep)
    _set_linear(
        source.project, block.project, fitted.T.float(), (goal - centre[keep] @ fitted).float()
    )
    return float(error)


def _check(source: InvertedResidual, block: InvertedResidual) -> None:
    if isinstance(source.expand, nn.Sequential) != isinstance(block.expand, nn.Sequential):
        raise ArchitectureError(
            "an expansion of 1; expected 2 or more where the trained block expands"
        )
    for part, fixed in (
        ("depthwise", "kernel_size"),
        ("depthwise", "dilation"),
        ("project", "out_channels"),
    ):
        theirs, ours = (
            getattr(one.get_submodule(f"{part}.conv"), fixed) for one in (source, block)
        )
        if theirs != ours:
            raise ArchitectureError(
                f"a {part} convolution's {fixed} is {ours} in the narrower network; expected the trained "
                f"one's {theirs}: only hidden channels and repeats of inverted residuals may differ"
            )


def _at(features: Tensor, places: Tensor) -> Tensor:
    """Float [N, C, h, w] to float64 [places, C]."""
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])[places].double()


def _choose(gram: Tensor, cross: Tensor, count: int) -> Tensor:
    """Indices of the ``count`` channels to keep, ascending, by backward elimination."""
    keep = torch.arange(len(gram))
    while len(keep) > count:
        inverse = torch.linalg.inv(gram[keep][:, keep])
        weights = inverse @ cross[keep]
        # The squared error that leaving out one channel adds when the others are fitted anew.
        loss = weights.square().sum(1) / inverse.diagonal()
        out = loss.argsort()[: min(STEP, len(keep) - count)]
        mask = torch.ones(len(keep), dtype=torch.bool)
        mask[out] = False
        keep = keep[mask]
    return keep


def _take(source: nn.Sequential, target: nn.Sequential, keep: Tensor) -> None:
    """The kept channels of a convolution and its BatchNorm."""
    state = source.state_dict()
    target.load_state_dict(
        {name: value[keep] if value.ndim else value for name, value in state.items()}
    )


def _set_linear(source: nn.Sequential, target: nn.Sequential, weight: Tensor, bias: Tensor) -> None:
    """A 1x1 convolution with the source's BatchNorm that computes ``weight @ x + bias``."""
    target.get_submodule("norm").load_state_dict(source.get_submodule("norm").state_dict())
    norm, conv = target.get_submodule("norm"), target.get_submodule("conv")
    assert isinstance(norm, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d)
    assert norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    scale = scale.where(scale.abs() > 1e-6, 1e-6)
    conv.weight.copy_((weight / scale[:, None])[:, :, None, None])
    norm.running_mean.copy_((norm.bias - bias) / scale)
