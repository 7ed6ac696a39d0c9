"""What a source of frames and a sink of masks are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from deeplab_rt.frame import Frame, check_size
from deeplab_rt.masks import Masks


class FrameSource(Protocol):
    """Frames in order. Iterable once; a context manager that releases what it holds.

    ``live`` sources drop old frames for new ones; recorded ones give every frame exactly once, apart
    from those that cannot be decoded. Both count what they left out in ``dropped``. ``total`` is the
    number of frames where it is known beforehand. ``warnings`` collects what the user should be told
    at the end (a bag cut off, frames skipped).
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


class Recording:
    """What the recorded sources share; each adds ``__iter__``."""

    live = False
    SHOWN = 5  # warnings about single frames; the rest is only counted

    def __init__(self, name: str, total: int | None, fps: float | None) -> None:
        self.name = name
        self.total = total
        self.fps = fps
        self.dropped = 0
        self.warnings: list[str] = []

    def skip(self, index: int, why: object) -> None:
        """Count and report a frame that cannot be decoded; its place in the order stays empty."""
        self.dropped += 1
        if self.dropped <= self.SHOWN:
            self.warnings.append(f"{self.name}: frame {index} skipped: {why}")
        elif self.dropped == self.SHOWN + 1:
            self.warnings.append(f"{self.name}: more frames skipped; `dropped` counts them all")

    def close(self) -> None:
        """Release what is held. Safe to call twice."""

    def __enter__(self) -> FrameSource:
        return self  # type: ignore[return-value]  # the subclass adds __iter__

    def __exit__(self, *exc: object) -> None:
        self.close()


def check_image_size(image: np.ndarray) -> None:
    """Refuse an image that cannot be segmented: empty, or larger than any mask.

    Raises:
        FrameError: says so.
    """
    check_size(*image.shape[:2])


class MaskSink(Protocol):
    """Takes every frame with its masks, in order. ``close`` makes what was written readable."""

    def write(self, frame: Frame, masks: Masks) -> None: ...

    def close(self) -> None: ...


class Stopped(Exception):  # noqa: N818  # not an error: the person closed the viewer
    """Raised by a sink to end the stream as if the source had ended."""


def natural_key(name: str) -> list[str | int]:
    """Sort key in which ``frame2`` comes before ``frame10``."""
    parts: list[str | int] = list(re.split(r"([0-9]+)", name))
    parts[1::2] = [int(part) for part in parts[1::2]]
    return parts
