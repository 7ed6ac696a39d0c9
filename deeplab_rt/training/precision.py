"""bfloat16 training: where it pays, and what a CPU's autocast has to leave in float32."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def bf16_is_native(device: torch.device) -> bool:
    """Whether bfloat16 has instructions of its own there."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def keep_slow_convs_float32(model: nn.Module) -> None:
    """Take strided, dilated and 5x5 depthwise convolutions out of a CPU's bf16 autocast.

    oneDNN has no bf16 kernels for their backward passes: they take 2 to 6 times as long as in
    float32, and half of a whole step.
    """
    for module in model.modules():
        if (
            isinstance(module, nn.Conv2d)
            and module.groups == module.in_channels > 1
            and (module.stride[0] > 1 or module.dilation[0] > 1 or module.kernel_size[0] > 3)
        ):

            def forward(x: Tensor, conv: nn.Conv2d = module) -> Tensor:
                with torch.autocast("cpu", enabled=False):
                    y: Tensor = conv._conv_forward(x.float(), conv.weight, conv.bias)
                return y

            module.forward = forward  # type: ignore[method-assign,assignment]
