"""Masks that an interrupted replay has already made, in place of the network's.

A run that is resumed goes through its recording from the front: frames whose masks are in the
unfinished outputs get those, the network takes over at the first that is missing, and every output is
written anew. So a resumed run's outputs equal an undisturbed one's, byte for byte, whatever moment it
was killed at; all that is saved is the network's time, which is nearly all of it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from deeplab_rt.errors import StreamError
from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.segmenter import Segmenter
from deeplab_rt.streams.bag_reader import BagImages
from deeplab_rt.streams.bag_writer import mask_topic
from deeplab_rt.streams.png import png_name


class MadeMasks(Protocol):
    """Masks of an earlier run, asked for frame by frame, in order."""

    def masks_of(self, frame: Frame) -> Masks | None:
        """The frame's masks, or None where the earlier run has not made them."""


class BagMasks:
    """Masks from the bag of a run that was interrupted.

    Args:
        path: of the .mcap file, closed or not.
        labels: of the masks.
        confidence: whether the confidence is wanted too.
    """

    def __init__(self, path: Path, labels: LabelSet, confidence: bool) -> None:
        self._path = path
        self._labels = labels
        self._kinds = ("label_mask", "confidence") if confidence else ("label_mask",)
        self._masks: dict[str, list[Iterator[Frame]]] = {}  # of each camera

    def masks_of(self, frame: Frame) -> Masks | None:
        if frame.camera not in self._masks:
            topics = [mask_topic(frame.camera, kind) for kind in self._kinds]
            self._masks[frame.camera] = [_frames_of(self._path, topic) for topic in topics]
        found = [next(masks, None) for masks in self._masks[frame.camera]]
        for mask in found:
            if mask is None or (mask.stamp_ns, mask.size) != (frame.stamp_ns, frame.size):
                return None
        labels, *confidence = (np.ascontiguousarray(mask.image[..., 0]) for mask in found if mask)
        return _masks(labels, self._labels, *confidence)


def _frames_of(path: Path, topic: str) -> Iterator[Frame]:
    with suppress(StreamError), BagImages(path, topic) as source:
        yield from source


class PngMasks:
    """Masks from the folder of a run that was interrupted.

    Args:
        path: of the folder.
        labels: of the masks.
        confidence: whether the confidence is wanted too.
    """

    def __init__(self, path: Path, labels: LabelSet, confidence: bool) -> None:
        self._path = path
        self._labels = labels
        self._kinds = ("labels", "confidence") if confidence else ("labels",)

    def masks_of(self, frame: Frame) -> Masks | None:
        name = png_name(frame)
        found = []
        for kind in self._kinds:
            file = self._path / f"{name}.{kind}.png"
            data = np.fromfile(file, np.uint8) if file.is_file() else np.empty(0, np.uint8)
            mask = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
            if mask is None or mask.dtype != np.uint8 or mask.shape != frame.size:
                return None
            found.append(np.asarray(mask, np.uint8))
        return _masks(found[0], self._labels, *found[1:])


def _masks(label_map: np.ndarray, labels: LabelSet, confidence: np.ndarray | None = None) -> Masks:
    drivable, objects = labels.drivable_lut[label_map], labels.objects_lut[label_map]
    return Masks(label_map, drivable, objects, confidence, label_set=labels)


class ResumedSegmenter(Segmenter):
    """A segmenter that takes the masks that were made before, as far as there are any.

    Attributes:
        resumed: frames that got masks made before.
    """

    def __init__(self, segmenter: Segmenter, made: MadeMasks) -> None:
        """Share the backend and the settings of a segmenter, which is not closed."""
        super().__init__(segmenter.model, segmenter.backend)
        self.labels = segmenter.labels
        self.mask_size = segmenter.mask_size
        self.confidence = segmenter.confidence
        self.reason = segmenter.reason
        self.resumed = 0
        self._made = made

    def stream(self, frames: Iterable[Frame]) -> Generator[tuple[Frame, Masks], None, None]:
        waiting = iter(frames)
        for frame in waiting:
            masks = self._made.masks_of(frame)
            if masks is None:
                yield from super().stream(chain([frame], waiting))
                return
            self.resumed += 1
            yield frame, masks
