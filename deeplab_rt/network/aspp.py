"""Atrous spatial pyramid pooling (arXiv:1706.05587, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deeplab_rt.network.layers import conv_norm_act, separable


class ASPP(nn.Module):
    """A 1x1 convolution, one 3x3 convolution per atrous rate and image pooling, fused by a
    projection.

    Args:
        inputs: Channels of the encoder's deep feature map.
        channels: Channels of each branch and of the output.
        rates: Atrous rates, already scaled to the output stride.
        separable_convs: Depthwise-separable 3x3 convolutions (arXiv:1802.02611, section 3.1).
        norm_between: See :func:`deeplab_rt.network.layers.separable`.
        project_kernel: Side of the fusing convolution: 1 in the paper, 3 in MMSegmentation.
        refine: One more separable 3x3 convolution at the end, as in segmentation_models.pytorch.
        dropout: Probability of dropping an element of the output in training.
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        rates: Sequence[int],
        *,
        separable_convs: bool = True,
        norm_between: bool = True,
        project_kernel: int = 1,
        refine: bool = False,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        branches = [conv_norm_act(inputs, channels, 1)]
        for rate in rates:
            branches.append(
                separable(inputs, channels, dilation=rate, norm_between=norm_between)
                if separable_convs
                else conv_norm_act(inputs, channels, 3, dilation=rate)
            )
        self.branches = nn.ModuleList(branches)
        self.pool = conv_norm_act(inputs, channels, 1)
        self.project = conv_norm_act(channels * (len(branches) + 1), channels, project_kernel)
        self.refine = (
            separable(channels, channels, norm_between=norm_between) if refine else nn.Identity()
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, inputs, h, w] to [N, channels, h, w]."""
        # Bilinear upsampling from 1x1 is a constant: expand says so without a Resize node.
        pooled = self.pool(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        y = self.project(torch.cat([branch(x) for branch in self.branches] + [pooled], dim=1))
        out: Tensor = self.dropout(self.refine(y))
        return out
