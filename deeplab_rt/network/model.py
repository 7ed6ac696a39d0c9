"""DeepLab V3+ from an :class:`Architecture` (Chen et al. 2018, arXiv:1802.02611)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deeplab_rt.errors import DeeplabError
from deeplab_rt.field_checks import dataclass_from
from deeplab_rt.network.aspp import ASPP
from deeplab_rt.network.decoder import Decoder
from deeplab_rt.network.encoders import ENCODERS, EncoderOptions
from deeplab_rt.network.layers import conv_norm_act

_RANGES = {
    "aspp_channels": (1, 4096),
    "aspp_rates": (1, 256),
    "low_channels": (0, 4096),
    "decoder_channels": (1, 4096),
    "decoder_convs": (0, 8),
    "project_kernel": (1, 7),
    "encoder_eps": (0, 1),
    "mean": (-1e6, 1e6),
    "std": (1e-6, 1e6),
}
"""Least and greatest values of fields that a file may set: wider ones only cost memory."""


class ArchitectureError(DeeplabError):
    """An architecture that cannot be built."""


@dataclass(frozen=True)
class Architecture:
    """Everything that fixes the network's layers and normalisation but its number of classes.

    The defaults are the network of this project's default model. The fields
    after ``decoder_separable`` exist so that networks trained elsewhere can be rebuilt exactly.

    Args:
        encoder: A name in :data:`deeplab_rt.network.encoders.ENCODERS`.
        output_stride: 8, 16 or 32.
        aspp_channels: Channels of each ASPP branch.
        aspp_rates: Atrous rates at output stride 16; they are scaled by 16 / output_stride
            (arXiv:1706.05587, section 4.1: doubled at stride 8).
        aspp_separable: Depthwise-separable ASPP.
        low_channels: Channels of the reduced low-level features; 0 leaves the decoder out (DeepLab V3).
        decoder_channels: Channels of the decoder's convolutions.
        decoder_convs: Number of the decoder's 3x3 convolutions.
        decoder_separable: Depthwise-separable decoder.
        norm_between: BatchNorm and ReLU between the halves of separable convolutions.
        project_kernel: Side of the ASPP's fusing convolution.
        aspp_refine: One separable convolution after the ASPP.
        align_corners: Of the decoder's upsampling.
        dilate_first: See :class:`deeplab_rt.network.encoders.EncoderOptions`.
        pad_first: Likewise.
        encoder_eps: BatchNorm epsilon of the encoder, where it is not the encoder's own.
        mean: Per channel, in bytes, RGB; None takes the encoder's.
        std: Likewise.
    """

    encoder: str = "efficientnet_lite0"
    output_stride: int = 16
    aspp_channels: int = 128
    aspp_rates: tuple[float, ...] = (6, 12, 18)
    aspp_separable: bool = True
    low_channels: int = 48
    decoder_channels: int = 128
    decoder_convs: int = 2
    decoder_separable: bool = True
    norm_between: bool = True
    project_kernel: int = 1
    aspp_refine: bool = False
    align_corners: bool = False
    dilate_first: bool = False
    pad_first: bool = False
    encoder_eps: float | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Architecture:
        """Read the mapping that :meth:`to_dict` wrote.

        Raises:
            ArchitectureError: A field is unknown, of another type, or out of its range.
        """
        return dataclass_from(cls, data, "architecture", ArchitectureError, _RANGES)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML or JSON; fields at their defaults after the common ones are
        left out."""
        always = {"encoder", "output_stride", "aspp_channels", "aspp_rates", "decoder_channels"}
        data = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in always or value != field.default:
                data[field.name] = list(value) if isinstance(value, tuple) else value
        return data

    def rates(self) -> list[int]:
        """The atrous rates at this output stride."""
        return [max(1, round(rate * 16 / self.output_stride)) for rate in self.aspp_rates]


class DeepLab(nn.Module):
    """The network behind the ONNX contract: RGB bytes in, stride-4 logits out.

    Args:
        architecture: Its layers.
        classes: Number of classes.

    Raises:
        ArchitectureError: The encoder or the output stride is unknown.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: Architecture, classes: int) -> None:
        super().__init__()
        entry = ENCODERS.get(architecture.encoder)
        if entry is None:
            raise ArchitectureError(
                f"encoder {architecture.encoder!r} is unknown; expected one of {', '.join(ENCODERS)}"
            )
        if architecture.output_stride not in (8, 16, 32):
            raise ArchitectureError(
                f"output stride {architecture.output_stride}; expected 8, 16 or 32"
            )
        self.architecture = architecture
        self.classes = classes
        a = architecture
        self.encoder = entry.make(EncoderOptions(a.output_stride, a.dilate_first, a.pad_first))
        if a.encoder_eps is not None:
            for module in self.encoder.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eps = a.encoder_eps
        self.aspp = ASPP(
            self.encoder.out_channels,
            a.aspp_channels,
            a.rates(),
            separable_convs=a.aspp_separable,
            norm_between=a.norm_between,
            project_kernel=a.project_kernel,
            refine=a.aspp_refine,
        )
        self.decoder: Decoder | None
        if a.low_channels:
            self.decoder = Decoder(
                a.aspp_channels,
                self.encoder.low_channels,
                low_channels=a.low_channels,
                channels=a.decoder_channels,
                convs=a.decoder_convs,
                scale=a.output_stride // 4,
                separable_convs=a.decoder_separable,
                norm_between=a.norm_between,
                align_corners=a.align_corners,
            )
            self.classifier: nn.Module = nn.Conv2d(self.decoder.out_channels, classes, 1)
        else:
            # DeepLab V3 (arXiv:1706.05587) classifies at the output stride.
            self.decoder = None
            self.classifier = nn.Sequential(
                conv_norm_act(a.aspp_channels, a.decoder_channels, 3),
                nn.Conv2d(a.decoder_channels, classes, 1),
            )
        for name, value in (("mean", a.mean or entry.mean), ("std", a.std or entry.std)):
            tensor = torch.tensor(value, dtype=torch.float32).view(1, 3, 1, 1)
            self.register_buffer(name, tensor, persistent=False)

    def normalise(self, image: Tensor) -> Tensor:
        """uint8 [N, H, W, 3] RGB to the encoder's float [N, 3, H, W]."""
        # Cast before transposing: TensorRT takes uint8 inputs only into a Cast. The permuted view of
        # NHWC pixels is channels_last already, so no copy is made for it.
        return (image.to(self.mean.dtype).permute(0, 3, 1, 2) - self.mean) / self.std

    def forward(self, image: Tensor) -> Tensor:
        """uint8 [N, H, W, 3] RGB to float [N, classes, H/4, W/4].

        H and W are multiples of the output stride. The labels are the argmax of these logits
        upsampled bilinearly (``align_corners=False``) to the frame.
        """
        low, high = self.encoder(self.normalise(image))
        high = self.aspp(high)
        if self.decoder is not None:
            logits: Tensor = self.classifier(self.decoder(low, high))
            return logits
        return nn.functional.interpolate(
            self.classifier(high),
            scale_factor=self.architecture.output_stride / 4,
            mode="bilinear",
            align_corners=False,
        )
