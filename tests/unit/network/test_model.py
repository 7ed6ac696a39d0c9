"""The whole network and its description."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deeplab_rt.network.encoders import ENCODERS
from deeplab_rt.network.export import macs, parameter_count
from deeplab_rt.network.model import Architecture, ArchitectureError, DeepLab
from tests.unit.network.tiny import TINY


@pytest.mark.parametrize(
    ("encoder", "stride"),
    [(name, 16) for name in sorted(ENCODERS)] + [("tiny", 8), ("tiny", 32)],
)
def test_stride_4_logits_from_bytes(encoder: str, stride: int) -> None:
    with torch.device("meta"):
        model = DeepLab(replace(TINY, encoder=encoder, output_stride=stride), 11).eval()
        logits = model(torch.zeros((2, 64, 96, 3), dtype=torch.uint8))
    assert logits.shape == (2, 11, 16, 24)
    assert logits.dtype == torch.float32


def test_the_default_is_what_the_documents_say() -> None:
    with torch.device("meta"):
        model = DeepLab(Architecture(), 11)
    assert macs(model, (480, 640)) == 5_325_256_960
    assert parameter_count(model) == 3_303_099


def test_deeplab_v3_has_no_decoder_and_still_gives_stride_4() -> None:
    with torch.device("meta"):
        model = DeepLab(replace(TINY, low_channels=0), 5).eval()
        assert model.decoder is None
        assert model(torch.zeros((1, 64, 64, 3), dtype=torch.uint8)).shape == (1, 5, 16, 16)


def test_normalisation_is_the_encoders() -> None:
    model = DeepLab(Architecture(), 2)
    assert model.mean.flatten().tolist() == [127.0] * 3
    assert model.std.flatten().tolist() == [128.0] * 3
    seen = []
    model.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model.eval()(torch.full((1, 32, 32, 3), 255, dtype=torch.uint8))
    assert seen[0].shape == (1, 3, 32, 32)
    assert torch.allclose(seen[0], torch.ones(1))
    custom = DeepLab(replace(TINY, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0)), 2)
    assert custom.mean.flatten().tolist() == [1.0, 2.0, 3.0]


def test_rates_scale_with_the_output_stride() -> None:
    assert Architecture(output_stride=16).rates() == [6, 12, 18]
    assert Architecture(output_stride=8).rates() == [12, 24, 36]
    assert Architecture(output_stride=32).rates() == [3, 6, 9]


def test_description_round_trip() -> None:
    architecture = replace(TINY, aspp_rates=(4, 8), mean=(1.0, 2.0, 3.0), align_corners=True)
    assert Architecture.from_dict(architecture.to_dict()) == architecture
    assert "align_corners" not in TINY.to_dict()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"encoder": "vgg"}, "encoder 'vgg' is unknown; expected one of efficientnet_lite0"),
        ({"output_stride": 12}, "output stride 12; expected 8, 16 or 32"),
        ({"depth": 3}, "unknown key 'depth'"),
    ],
)
def test_what_cannot_be_built_is_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        DeepLab(Architecture.from_dict(fields), 2)
