"""What a source of frames and a sink of masks are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from deeplab_rt.camera.encodings import ALL_16_BITS
from deeplab_rt.camera.image_range import ImageRange
from deeplab_rt.errors import StreamError
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


@dataclass(frozen=True)
class Selection:
    """Which frames of a recording are wanted. The others are counted nowhere, and not decoded where
    the format allows it.

    The indices of the frames count from the first one inside ``start_s``; every ``every``-th keeps
    its own (0, 10, 20).

    Attributes:
        start_s: seconds after the beginning of the recording; 0 for all of it.
        stop_s: seconds after the beginning, exclusive; None for the end.
        every: take the first frame inside and each n-th after it.
    """

    start_s: float = 0.0
    stop_s: float | None = None
    every: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.start_s < 1e9:
            raise StreamError(f"a start of {self.start_s:g} s: expected 0 s or more")
        if self.stop_s is not None and not self.start_s < self.stop_s < 1e9:
            raise StreamError(
                f"an end of {self.stop_s:g} s: expected more than the start, {self.start_s:g} s"
            )
        if self.every < 1:
            raise StreamError(f"every {self.every}: expected 1 or more")

    def takes(self, index: int) -> bool:
        """Whether a frame inside the time span is wanted."""
        return index % self.every == 0

    def position(self, seconds: float) -> int:
        """-1 before the span, 0 inside, 1 after it."""
        if seconds < self.start_s:
            return -1
        return 0 if self.stop_s is None or seconds < self.stop_s else 1


@dataclass(frozen=True)
class ReadOptions:
    """How recordings are read. What a kind of recording does not have is not looked at.

    Attributes:
        topics: image topics of a bag, several for several cameras; none for the only one there is.
        all_topics: every image topic of a bag.
        selection: which frames.
        raw: whether frames of a bag carry the messages around them (:class:`~.records.BagFrame`).
        unpack_bytes: the largest message or chunk that is decompressed.
        image_range: how images of 16 bits a sample in a bag become 8.
    """

    topics: tuple[str, ...] = ()
    all_topics: bool = False
    selection: Selection = Selection()
    raw: bool = False
    unpack_bytes: int = 1 << 29
    image_range: ImageRange = ALL_16_BITS


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
