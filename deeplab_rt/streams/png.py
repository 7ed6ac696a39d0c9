"""Masks as PNG files of one byte a pixel."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from deeplab_rt.errors import StreamError
from deeplab_rt.frame import Frame
from deeplab_rt.masks import Masks
from deeplab_rt.streams.outputs import check_new, check_space, writing

_NAMES = ("labels", "drivable", "objects")


class PngSink:
    """``NAME.labels.png`` (label ids), ``NAME.drivable.png`` and ``NAME.objects.png`` of each frame.

    NAME is the image's stem, or the frame's index in six digits.
    """

    def __init__(self, directory: Path, overwrite: bool = False) -> None:
        """Check the directory; it is made with the first frame.

        Args:
            directory: where the files go.
            overwrite: whether it may hold files already; those of the same names are replaced.

        Raises:
            StreamError: it holds files and ``overwrite`` is not set, or is no directory.
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
        self._written: set[str] = set()

    def write(self, frame: Frame, masks: Masks) -> None:
        """Write the three files, each under its name only when it is whole.

        Raises:
            StreamError: the disk is full or gone, or two frames have the same name.
        """
        name = frame.name or f"{frame.index:06d}"
        if name in self._written:
            raise StreamError(
                f"{self.path}: two frames are named {name!r}; rename one, or replay each input into a "
                "folder of its own"
            )
        self._written.add(name)
        check_space(self.path)
        with writing(self.path):
            self.path.mkdir(exist_ok=True)
            for kind in _NAMES:
                _write(self.path / f"{name}.{kind}.png", getattr(masks, kind))

    def close(self) -> None: ...


# Masks are flat areas: no filter and run lengths are smaller than OpenCV's defaults, and four times as
# fast. OpenCV before 4.12 cannot be told the filter.
_ENCODER = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
if hasattr(cv2, "IMWRITE_PNG_FILTER"):
    _ENCODER += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]


def _write(path: Path, mask: np.ndarray) -> None:
    encoded = cv2.imencode(".png", mask, _ENCODER)[1]
    temporary = path.with_name(f".{path.name}.partial")
    try:
        temporary.write_bytes(encoded.tobytes())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
