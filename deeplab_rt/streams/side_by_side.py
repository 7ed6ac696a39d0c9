"""A video for showing: each frame beside its overlay, with a line of text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from deeplab_rt.errors import StreamError
from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.streams.base import FrameSource
from deeplab_rt.streams.overlay_video import OverlayVideo
from deeplab_rt.streams.overlays import OverlayStyle

KEPT_BYTES = 400_000_000


class SideBySide(OverlayVideo):
    """An :class:`~deeplab_rt.streams.overlay_video.OverlayVideo` that shows the frame too.

    Attributes:
        caption: what is written over the next frames.
    """

    caption = ""

    def __init__(self, path: Path, labels: LabelSet, overwrite: bool = False) -> None:
        """As :class:`~deeplab_rt.streams.overlay_video.OverlayVideo`."""
        super().__init__(path, labels, overwrite, OverlayStyle(side_by_side=True))

    def compose(self, frame: Frame, masks: Masks) -> np.ndarray:
        both = super().compose(frame, masks)
        if self.caption:
            left, font, ink = both.shape[1] // 2, cv2.FONT_HERSHEY_SIMPLEX, (255, 255, 255)
            wide = cv2.getTextSize(self.caption, font, 0.5, 1)[0][0]
            cv2.rectangle(both, (left, 0), (left + wide + 16, 26), (0, 0, 0), cv2.FILLED)
            cv2.putText(both, self.caption, (left + 8, 18), font, 0.5, ink, 1, cv2.LINE_AA)
        return both


def revisit(
    open_source: Callable[[], FrameSource], indices: Iterable[int], keep_bytes: int = KEPT_BYTES
) -> Iterator[Frame]:
    """The frames of a recording at some indices, which may begin anew any number of times.

    Args:
        open_source: opens the recording.
        indices: ascending, but where they begin anew.
        keep_bytes: of frames that are kept for the next time.

    Raises:
        StreamError: the recording has no such frame (any more).
    """
    kept: dict[int, Frame] = {}
    left_bytes = keep_bytes
    source = open_source()
    try:
        frames = iter(source)
        for index in indices:
            if index not in kept:
                frame = _find(frames, index)
                if frame is None:  # passed already, and not kept
                    source.close()
                    source = open_source()
                    frames = iter(source)
                    frame = _find(frames, index)
                if frame is None:
                    raise StreamError(f"{source.name}: frame {index} is not there any more")
                if frame.image.nbytes > left_bytes:
                    yield frame
                    continue
                kept[index] = frame
                left_bytes -= frame.image.nbytes
            yield kept[index]
    finally:
        source.close()


def _find(frames: Iterator[Frame], index: int) -> Frame | None:
    return next((frame for frame in frames if frame.index == index), None)
