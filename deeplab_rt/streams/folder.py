"""Frames from a folder of images, or from one image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from deeplab_rt.camera.encodings import decode_compressed
from deeplab_rt.errors import FrameError, StreamError
from deeplab_rt.frame import Frame
from deeplab_rt.streams.base import Recording, check_image_size, natural_key

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
NOMINAL_FPS = 30.0  # images carry no time; they are stamped as if filmed at this rate


class ImageFolder(Recording):
    """The images of one folder (not of folders in it), ``frame2.png`` before ``frame10.png``."""

    def __init__(self, path: Path) -> None:
        """List the images.

        Args:
            path: a folder, or one image.

        Raises:
            StreamError: there is no image.
        """
        files = list(path.iterdir()) if path.is_dir() else [path]
        self._files = sorted(
            (f for f in files if f.suffix.lower() in SUFFIXES and not f.name.startswith(".")),
            key=lambda file: natural_key(file.name),
        )
        if not self._files:
            raise StreamError(
                f"{path}: no image and no bag in this folder; expected {', '.join(SUFFIXES)}, or "
                "the .mcap or .db3 files of a rosbag2"
            )
        super().__init__(str(path), len(self._files), NOMINAL_FPS)

    def __iter__(self) -> Iterator[Frame]:
        for index, file in enumerate(self._files):
            try:
                image = _read(file)
                check_image_size(image)
            except (FrameError, OSError) as error:
                self.skip(index, f"{file.name}: {error}")
                continue
            yield Frame(image, index, round(index * 1e9 / NOMINAL_FPS), name=file.stem)


class _Encoded(NamedTuple):
    """A file as ``decode_compressed`` takes it."""

    data: bytes
    format: str


def _read(file: Path) -> np.ndarray:
    """uint8 [H, W, 3] BGR, as the pixels lie in the file (an EXIF orientation is not applied).

    Raises:
        FrameError: it cannot be decoded, is cut off, or is too large.
        OSError: it cannot be read.
    """
    data = file.read_bytes()
    if file.suffix.lower() in (".jpg", ".jpeg", ".png"):
        return decode_compressed(_Encoded(data, file.suffix))[0]
    try:
        image = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error as error:
        raise FrameError(f"cannot be decoded: {' '.join(str(error).split())}") from None
    if image is None:
        raise FrameError(f"{len(data)} bytes that OpenCV cannot decode")
    return image
