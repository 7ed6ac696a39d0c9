"""The decoder of DeepLab V3+ (arXiv:1802.02611, section 3.1 and table 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deeplab_rt.network.layers import conv_norm_act, separable


class Decoder(nn.Module):
    """Upsample the deep features, join the reduced stride-4 tap, refine with 3x3 convolutions.

    Args:
        inputs: Channels of the deep features.
        low_inputs: Channels of the stride-4 tap.
        low_channels: Channels the tap is reduced to (48 in the paper).
        channels: Channels of each refining convolution.
        convs: Number of refining 3x3 convolutions (2 in the paper).
        scale: Output stride over 4: the factor of upsampling.
        separable_convs: Depthwise-separable 3x3 convolutions.
        norm_between: See :func:`deeplab_rt.network.layers.separable`.
        align_corners: Of the bilinear upsampling; segmentation_models.pytorch has True.
    """

    def __init__(
        self,
        inputs: int,
        low_inputs: int,
        *,
        low_channels: int = 48,
        channels: int = 128,
        convs: int = 2,
        scale: int = 4,
        separable_convs: bool = True,
        norm_between: bool = True,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.align_corners = align_corners
        self.reduce = conv_norm_act(low_inputs, low_channels, 1)
        layers: list[nn.Module] = []
        width = inputs + low_channels
        for _ in range(convs):
            layers.append(
                separable(width, channels, norm_between=norm_between)
                if separable_convs
                else conv_norm_act(width, channels, 3)
            )
            width = channels
        self.refine = nn.Sequential(*layers)
        self.out_channels = width

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Float [N, low_inputs, h*scale, w*scale] and [N, inputs, h, w] to
        [N, channels, h*scale, w*scale]."""
        # A constant factor, not the tap's size: the exported Resize then has constant scales
        # even where height and width are dynamic.
        high = nn.functional.interpolate(
            high,
            scale_factor=float(self.scale),
            mode="bilinear",
            align_corners=self.align_corners,
        )
        out: Tensor = self.refine(torch.cat([high, self.reduce(low)], dim=1))
        return out
