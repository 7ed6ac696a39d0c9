"""Makes data/*.npz: what other projects' own forward passes give for reference weights.

Needs, in an environment of its own: torch, torchvision, segmentation_models_pytorch, timm,
mmengine, mmcv-lite, mmsegmentation, and a clone of VainF/DeepLabV3Plus-Pytorch.

    python tests/unit/network/make_references.py --vainf CLONE
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from reference_weights import reference_image, reference_state
from torch import nn

MEAN = torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1)
STD = torch.tensor([58.395, 57.12, 57.375]).view(1, 3, 1, 1)
CLASSES = 5


def save(name: str, model: nn.Module, classifier: nn.Module) -> None:
    """Store the classifier's output (before the last upsampling) and the keys with their shapes."""
    shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict(reference_state(shapes))
    model.eval()
    seen: list[torch.Tensor] = []
    classifier.register_forward_hook(lambda module, inputs, output: seen.append(output))
    image = torch.from_numpy(reference_image()).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        model((image - MEAN) / STD)
    np.savez_compressed(
        Path(__file__).parent / "data" / f"{name}.npz",
        logits=seen[0].numpy(),
        shapes=np.array([f"{key} {' '.join(map(str, shape))}" for key, shape in shapes.items()]),
    )
    print(name, tuple(seen[0].shape), float(seen[0].abs().max()))


def make_vainf(clone: str) -> None:
    sys.path.insert(0, clone)
    from network import modeling

    for backbone in ("mobilenet", "resnet50", "resnet101"):
        make = getattr(modeling, f"deeplabv3plus_{backbone}")
        model = make(num_classes=CLASSES, output_stride=16, pretrained_backbone=False)
        save(f"vainf_{backbone}", model, model.classifier)


def make_smp() -> None:
    import segmentation_models_pytorch

    for encoder, stride in (
        ("mobilenet_v2", 16),
        ("mobilenet_v2", 8),
        ("resnet18", 16),
        ("resnet34", 16),
        ("resnet50", 16),
        ("resnet50", 8),
        ("timm-tf_efficientnet_lite0", 16),
        ("timm-tf_efficientnet_lite2", 16),
    ):
        model = segmentation_models_pytorch.DeepLabV3Plus(
            encoder, encoder_weights=None, classes=CLASSES, encoder_output_stride=stride
        )
        name = f"smp_{encoder}" + ("_os8" if stride == 8 else "")
        save(name, model, model.segmentation_head[0])


def make_torchvision() -> None:
    from torchvision.models.segmentation import deeplabv3_resnet50

    model = deeplabv3_resnet50(
        weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True
    )
    save("torchvision_resnet50", model, model.classifier)


def make_mmsegmentation() -> None:
    from mmseg.models.backbones.resnet import ResNetV1c
    from mmseg.models.decode_heads.sep_aspp_head import DepthwiseSeparableASPPHead

    class Segmentor(nn.Module):
        """As in configs/_base_/models/deeplabv3plus_r50-d8.py."""

        def __init__(self) -> None:
            super().__init__()
            norm = {"type": "BN", "requires_grad": True}
            self.backbone = ResNetV1c(
                depth=50,
                num_stages=4,
                out_indices=(0, 1, 2, 3),
                dilations=(1, 1, 2, 4),
                strides=(1, 2, 1, 1),
                norm_cfg=norm,
                norm_eval=False,
                style="pytorch",
                contract_dilation=True,
            )
            self.decode_head = DepthwiseSeparableASPPHead(
                in_channels=2048,
                in_index=3,
                channels=512,
                dilations=(1, 12, 24, 36),
                c1_in_channels=256,
                c1_channels=48,
                dropout_ratio=0.1,
                num_classes=CLASSES,
                norm_cfg=norm,
                align_corners=False,
                loss_decode={"type": "CrossEntropyLoss"},
            )

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.decode_head(self.backbone(image))

    model = Segmentor()
    save("mmsegmentation_r50", model, model.decode_head)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vainf", required=True, help="clone of VainF/DeepLabV3Plus-Pytorch")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    make_vainf(arguments.vainf)
    make_smp()
    make_torchvision()
    make_mmsegmentation()
