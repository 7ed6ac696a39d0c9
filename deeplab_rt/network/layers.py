"""Building blocks shared by encoders, ASPP and decoder."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def conv_norm_act(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    padding: int | None = None,
    act: type[nn.Module] | None = nn.ReLU,
    norm: bool = True,
    eps: float = 1e-5,
) -> nn.Sequential:
    """Convolution without bias, BatchNorm, activation, as ``conv``, ``norm``, ``act``.

    The padding is symmetric and, where none is given, keeps the size at stride 1. Float [N, inputs, H, W] to
    [N, outputs, ceil(H / stride), ceil(W / stride)].
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = nn.Conv2d(
        inputs,
        outputs,
        kernel,
        stride=stride,
        padding=kernel // 2 * dilation if padding is None else padding,
        dilation=dilation,
        groups=groups,
        bias=False,
    )
    if norm:
        layers["norm"] = nn.BatchNorm2d(outputs, eps=eps)
    if act is not None:
        layers["act"] = act(inplace=True)
    return nn.Sequential(layers)


def separable(
    inputs: int, outputs: int, *, dilation: int = 1, norm_between: bool = True
) -> nn.Sequential:
    """3x3 depthwise then 1x1 pointwise convolution (arXiv:1802.02611, section 3.1).

    Args:
        norm_between: BatchNorm and ReLU after the depthwise half too, as in the paper's
            section 3.2; segmentation_models.pytorch has neither.
    """
    return nn.Sequential(
        OrderedDict(
            depthwise=conv_norm_act(
                inputs,
                inputs,
                3,
                dilation=dilation,
                groups=inputs,
                norm=norm_between,
                act=nn.ReLU if norm_between else None,
            ),
            pointwise=conv_norm_act(inputs, outputs, 1),
        )
    )
