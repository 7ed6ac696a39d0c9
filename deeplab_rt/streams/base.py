"""What a source of frames and a sink of masks are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from deeplab_rt.backends.base import Channels
from deeplab_rt.masks import Masks


@dataclass(frozen=True)
class Frame:
    """One camera frame.

    Attributes:
        image: uint8 [H, W, 3], channels in the order that ``channels`` names; may be read-only.
        index: 0, 1, 2 ... in the order of the source.
        stamp_ns: the camera's stamp in nanoseconds since the epoch of the source's clock.
        frame_id: the camera's coordinate frame; empty where the source has none.
        name: what output files are named after: an image's stem, or the index in six digits.
        channels: ``bgr`` or ``rgb``.
    """

    image: np.ndarray
    index: int
    stamp_ns: int
    frame_id: str = ""
    name: str = ""
    channels: Channels = "bgr"


class FrameSource(Protocol):
    """Frames in order. Iterable once; a context manager that releases what it holds.

    ``live`` sources drop old frames for new ones and count them in ``dropped``; recorded ones give
    every frame exactly once. ``total`` is the number of frames where it is known beforehand.
    ``warnings`` collects what the user should be told at the end (a bag cut off, frames skipped).
    """

    name: str
    live: bool
    total: int | None
    fps: float | None
    dropped: int
    warnings: list[str]

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None: ...

    def __enter__(self) -> FrameSource: ...

    def __exit__(self, *exc: object) -> None: ...


class MaskSink(Protocol):
    """Takes every frame with its masks, in order. ``close`` makes what was written readable."""

    def write(self, frame: Frame, masks: Masks) -> None: ...

    def close(self) -> None: ...
