"""Masks as PNG files of one byte a pixel."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from deeplab_rt.errors import StreamError
from deeplab_rt.files import write_atomically
from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks, colorize
from deeplab_rt.streams.outputs import Claim, check_new, check_space, writing

CLASSES = "classes.json"
_MASKS = ("labels", "drivable", "objects")
_KINDS = (*_MASKS, "confidence", "color")
_TEMPORARY = re.compile(r"\.deeplab_rt-[0-9a-f]{8}\.partial")


def png_name(frame: Frame) -> str:
    """What the files of a frame are named after: its camera where it has one, its name or index."""
    name = frame.name or f"{frame.index:06d}"
    return f"{frame.camera.strip('/').replace('/', '_')}.{name}" if frame.camera else name


class PngSink:
    """``NAME.labels.png`` (label ids), ``NAME.drivable.png`` and ``NAME.objects.png`` of each frame.

    NAME is the image's stem, or the frame's index in six digits; with several cameras the camera's
    topic goes before it. ``NAME.confidence.png`` is written where the masks have a confidence,
    ``NAME.color.png`` (the label map in its colours) when asked for. ``classes.json`` says what the
    ids mean.
    """

    def __init__(
        self, directory: Path, labels: LabelSet, overwrite: bool = False, color: bool = False
    ) -> None:
        """Check and claim the directory; it is made with the first frame.

        Args:
            directory: where the files go.
            labels: of the masks.
            overwrite: whether it may hold files already; those of the same names are replaced.
            color: whether to write the label map in colours too.

        Raises:
            StreamError: it holds files and ``overwrite`` is not set, is no directory, or another
                command is writing there.
        """
        if directory.is_dir():
            if any(directory.iterdir()) and not overwrite:
                raise StreamError(
                    f"{directory}: holds files already; give another name, or --overwrite to "
                    "replace those of the same names"
                )
        else:
            check_new(directory, overwrite=False)
        self.path = directory
        self.warnings: list[str] = []
        self._claim = Claim(directory)
        self._remove_leftovers()
        self._labels = labels
        self._color = color
        self._begun = False
        self._names: set[str] = set()  # of frames that have one; the others count up
        self._numbered = 0  # indices below it are taken

    def write(self, frame: Frame, masks: Masks) -> None:
        """Write the files of a frame, each under its name only when it is whole.

        Raises:
            StreamError: the disk is full or gone, or two frames have the same name.
        """
        name = png_name(frame)
        if self._is_taken(frame, name):
            raise StreamError(
                f"{self.path}: two frames are named {name!r}; rename one, or replay each input into a "
                "folder of its own"
            )
        images = {kind: getattr(masks, kind) for kind in _MASKS}
        if masks.confidence is not None:
            images["confidence"] = masks.confidence
        if self._color:
            images["color"] = colorize(masks.labels, self._labels)
        check_space(self.path)
        with writing(self.path):
            if not self._begun:
                self.path.mkdir(exist_ok=True)
                write_atomically(self.path / CLASSES, classes_json(self._labels))
            for kind, image in images.items():
                _write(self.path / f"{name}.{kind}.png", image)
        self._begun = True
        if frame.name:
            self._names.add(name)
        else:
            self._numbered = max(self._numbered, frame.index + 1)

    def _is_taken(self, frame: Frame, name: str) -> bool:
        if not frame.name:
            return frame.index < self._numbered or name in self._names
        is_number = name == f"{int(name):06d}" if name.isdecimal() and name.isascii() else False
        return name in self._names or (is_number and int(name) < self._numbered)

    def close(self) -> None:
        self._claim.release()

    def _remove_leftovers(self) -> None:
        """Remove unfinished files of a run that was killed; nobody else writes here."""
        with writing(self.path):
            entries = list(self.path.iterdir()) if self.path.is_dir() else []
            unfinished = [entry for entry in entries if _TEMPORARY.fullmatch(entry.name)]
            for entry in unfinished:
                entry.unlink()
        if unfinished:
            self.warnings.append(
                f"{self.path}: removed {len(unfinished)} unfinished files of a run that was killed"
            )

    @staticmethod
    def files(directory: Path) -> list[Path]:
        """The files in a directory that are named as a sink names them."""
        endings = tuple(f".{kind}.png" for kind in _KINDS)
        return sorted(file for file in directory.iterdir() if file.name.endswith(endings))


def classes_json(labels: LabelSet) -> bytes:
    """What the ids in label and object masks mean: ids, names, RGB colours and groups."""
    content = {
        "none": 0,
        "classes": labels.to_list(),
        "files": {
            "labels": "id of the class of every pixel",
            "drivable": "255 drivable, 0 not",
            "objects": "id of the class of an object, 0 none",
            "confidence": "probability of the class x 255",
            "color": "the class's colour",
        },
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def check_names(names: Iterable[str], directory: Path) -> None:
    """Refuse frames whose files would replace each other's, before the first is written.

    Raises:
        StreamError: two have the same name.
    """
    for name, count in Counter(names).items():
        if count > 1:
            raise StreamError(
                f"{directory}: {count} images are named {name!r}; rename them, or replay each folder "
                "into one of its own (--out-dir)"
            )


# Masks are flat areas: no filter and run lengths are smaller than OpenCV's defaults, and four times as
# fast. OpenCV before 4.12 cannot be told the filter.
_ENCODER = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
if hasattr(cv2, "IMWRITE_PNG_FILTER"):
    _ENCODER += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]


def _write(path: Path, mask: np.ndarray) -> None:
    encoded = cv2.imencode(".png", mask, _ENCODER)[1]
    # A name of its own, never a link that somebody laid: what it leads to would be overwritten.
    temporary = path.with_name(f".deeplab_rt-{secrets.token_hex(4)}.partial")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(temporary, flags, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(encoded.data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
