"""What decides the outputs of a replay, in one value that travels to other processes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from deeplab_rt.models import DEFAULT_MODEL
from deeplab_rt.streams.base import ReadOptions
from deeplab_rt.streams.overlays import OverlayStyle

KINDS = ("bag", "masks", "overlay", "report")
"""The outputs of a replay: a masks bag, PNG files, an overlay video, an HTML report."""


@dataclass(frozen=True)
class ReplaySettings:
    """The same input with the same settings and model gives the same masks.

    Attributes:
        model: name or directory.
        backend: as :class:`~deeplab_rt.segmenter.Segmenter` takes it.
        precision: likewise.
        size: (height, width) of the network's input; None for the model's.
        kinds: which of :data:`KINDS` are written.
        read: which topics and which frames are taken.
        style: of the overlay video.
        confidence: write the confidence of every pixel beside the masks.
        color: write the label map in colours beside PNG masks.
        with_input: copy the messages of an input bag into the masks bag.
    """

    model: str = DEFAULT_MODEL
    backend: str = "auto"
    precision: str = "auto"
    size: tuple[int, int] | None = None
    kinds: tuple[str, ...] = ("bag",)
    read: ReadOptions = field(default_factory=ReadOptions)
    style: OverlayStyle = field(default_factory=OverlayStyle)
    confidence: bool = False
    color: bool = False
    with_input: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return content
