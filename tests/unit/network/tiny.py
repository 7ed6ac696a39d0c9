"""An encoder of five blocks: an entry of the table is all that an encoder needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deeplab_rt.network.encoders import ENCODERS, EncoderEntry, InvertedResidualEncoder, Stage
from deeplab_rt.network.model import Architecture

STAGES = [
    Stage(2, 3, 8 * width, 1, stride) for width, stride in ((1, 1), (1, 2), (2, 2), (2, 2), (3, 2))
]
TINY = Architecture(
    encoder="tiny",
    aspp_channels=16,
    aspp_rates=(6,),
    low_channels=8,
    decoder_channels=16,
    decoder_convs=1,
)


@contextmanager
def tiny_encoder() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        entry = EncoderEntry(lambda options: InvertedResidualEncoder(STAGES, options, eps=1e-5))
        patch.setitem(ENCODERS, "tiny", entry)
        yield
