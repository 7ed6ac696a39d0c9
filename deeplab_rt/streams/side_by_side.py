"""A video for showing: each frame beside its overlay, with a line of text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import cv2
import numpy as np

from deeplab_rt.errors import StreamError
from deeplab_rt.frame import Frame
from deeplab_rt.masks import Masks
from deeplab_rt.streams.base import FrameSource
from deeplab_rt.streams.overlays import OverlayVideo, frame_overlay

_WIDEST = 960  # pixels of either half
_KEPT_BYTES = 400_000_000


class SideBySide(OverlayVideo):
    """An :class:`~deeplab_rt.streams.overlays.OverlayVideo` that shows the frame too.

    Attributes:
        caption: what is written over the next frames.
    """

    caption = ""

    def picture(self, frame: Frame, masks: Masks) -> np.ndarray:
        both = np.hstack([frame.bgr, frame_overlay(frame, masks, self._labels)])
        height, width = both.shape[:2]
        if width > 2 * _WIDEST:
            size = (2 * _WIDEST, max(1, round(height * 2 * _WIDEST / width)))
            both = np.asarray(cv2.resize(both, size, interpolation=cv2.INTER_AREA), np.uint8)
        if self.caption:
            left, font, ink = both.shape[1] // 2, cv2.FONT_HERSHEY_SIMPLEX, (255, 255, 255)
            wide = cv2.getTextSize(self.caption, font, 0.5, 1)[0][0]
            cv2.rectangle(both, (left, 0), (left + wide + 16, 26), (0, 0, 0), cv2.FILLED)
            cv2.putText(both, self.caption, (left + 8, 18), font, 0.5, ink, 1, cv2.LINE_AA)
        return both


def revisit(open_source: Callable[[], FrameSource], indices: Iterable[int]) -> Iterator[Frame]:
    """The frames of a recording at some indices, which may begin anew any number of times.

    Args:
        open_source: opens the recording.
        indices: ascending, but where they begin anew.

    Raises:
        StreamError: the recording has no such frame (any more).
    """
    kept: dict[int, Frame] = {}
    room = _KEPT_BYTES
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
                if frame.image.nbytes > room:
                    yield frame
                    continue
                kept[index] = frame
                room -= frame.image.nbytes
            yield kept[index]
    finally:
        source.close()


def _find(frames: Iterator[Frame], index: int) -> Frame | None:
    return next((frame for frame in frames if frame.index == index), None)
