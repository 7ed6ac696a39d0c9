"""Frames from a folder of images, or from one image."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from deeplab_rt.camera.image_files import decode_image_file
from deeplab_rt.errors import FrameError, StreamError
from deeplab_rt.frame import Frame
from deeplab_rt.streams.base import Recording, Selection, check_image_size, natural_key

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
_FILE_BYTES = 1 << 29  # of one image; an 8K frame of 16 bits a sample has 200 MB
NOMINAL_FPS = 30.0  # images carry no time; they are stamped as if filmed at this rate


def images_in(directory: Path) -> list[Path]:
    """The images of a folder, ``frame2.png`` before ``frame10.png``."""
    files = [file for file in directory.iterdir() if file.suffix.lower() in SUFFIXES]
    return sorted(
        (file for file in files if not file.name.startswith(".")),
        key=lambda file: natural_key(file.name),
    )


class ImageFolder(Recording):
    """The images of one folder (not of folders in it), ``frame2.png`` before ``frame10.png``."""

    def __init__(self, path: Path, selection: Selection | None = None) -> None:
        """List the images.

        Args:
            path: a folder, or one image.
            selection: which of them.

        Raises:
            StreamError: there is no image.
        """
        files = images_in(path) if path.is_dir() else [path]
        if not files:
            raise StreamError(
                f"{path}: no image and no bag in this folder; expected {', '.join(SUFFIXES)}, or "
                "the .mcap or .db3 files of a rosbag2"
            )
        selection = selection or Selection()
        inside = [f for i, f in enumerate(files) if not selection.position(i / NOMINAL_FPS)]
        self._first = files.index(inside[0]) if inside else 0  # stamps are of the whole folder
        self._files = [(i, file) for i, file in enumerate(inside) if selection.takes(i)]
        super().__init__(str(path), len(self._files), NOMINAL_FPS)

    @property
    def names(self) -> list[str]:
        """What the frames are named, in order."""
        return [file.stem for _, file in self._files]

    def __iter__(self) -> Iterator[Frame]:
        for index, file in self._files:
            try:
                image = _read(file)
                check_image_size(image)
            except (FrameError, OSError) as error:
                self.skip(index, f"{file.name}: {error}")
                continue
            stamp_ns = round((self._first + index) * 1e9 / NOMINAL_FPS)
            yield Frame(image, index, stamp_ns, name=file.stem)


def _read(file: Path) -> np.ndarray:
    """uint8 [H, W, 3] BGR, as the pixels lie in the file (an EXIF orientation is not applied).

    Raises:
        FrameError: it is no image, cut off, or too large.
        OSError: it cannot be read.
    """
    # Without waiting for the writer of a pipe that has an image's name.
    handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise FrameError("is a pipe, a device or a folder; expected a file")
    with os.fdopen(handle, "rb") as stream:
        data = stream.read(_FILE_BYTES + 1)
    if len(data) > _FILE_BYTES:
        raise FrameError(f"is larger than {_FILE_BYTES >> 20} MB")
    return decode_image_file(data)
