"""Where a camera sees the vehicle that carries it: a PNG or polygons."""

from __future__ import annotations

import re
from types import SimpleNamespace

import cv2
import numpy as np

from deeplab_rt.camera.encodings import decode_compressed
from deeplab_rt.errors import FrameError, StreamError
from deeplab_rt.files import expand_user
from deeplab_rt.frame import Size
from deeplab_rt.masks import Masks

MAX_BYTES = 100_000_000
_POINT = re.compile(r"-?\d{1,5},-?\d{1,5}")


class EgoMask:
    """Pixels that show the vehicle itself."""

    def __init__(self, text: str) -> None:
        """Read it.

        Args:
            text: the path of an image whose pixels above 0 are the vehicle, of the camera's size; or
                polygons in pixels of the camera's image, ``x,y x,y x,y`` with ``;`` between them.

        Raises:
            StreamError: there is no such image, or a polygon has fewer than three points.
        """
        self._name = text
        self._image: np.ndarray | None = None
        self._polygons: list[np.ndarray] = []
        self._made: dict[tuple[Size, Size], np.ndarray] = {}
        pieces = [piece.split() for piece in text.split(";") if piece.strip()]
        if pieces and all(_POINT.fullmatch(point) for piece in pieces for point in piece):
            if any(len(piece) < 3 for piece in pieces):
                raise StreamError(
                    f"ego_mask {text!r}: a polygon needs at least three points x,y with spaces between"
                )
            self._polygons = [
                np.array([point.split(",") for point in piece], np.int32) for piece in pieces
            ]
            return
        try:
            with expand_user(text).open("rb") as file:
                data = file.read(MAX_BYTES)
            image, _ = decode_compressed(SimpleNamespace(data=data, format="file"))
        except (OSError, ValueError, RuntimeError, FrameError) as error:
            raise StreamError(
                f"ego_mask {text!r}: {error}; expected an image file, or polygons as in '0,400 "
                "640,400 640,480 0,480'"
            ) from None
        self._image = image.max(axis=2)

    def check(self, frame: Size) -> None:
        """Refuse frames of another size.

        Raises:
            FrameError: the image is not of the frame's size.
        """
        if self._image is not None and Size.of(self._image) != frame:
            raise FrameError(
                f"ego_mask {self._name} is {Size.of(self._image)}, the frames are {frame}: expected "
                "the same size"
            )

    def at(self, frame: Size, masks: Size) -> np.ndarray:
        """bool [H, W] of the size ``masks``, for frames of the size ``frame``.

        Raises:
            FrameError: as :meth:`check` does.
        """
        self.check(frame)
        if (frame, masks) not in self._made:
            image = self._image if self._image is not None else self._draw(frame)
            size = (masks.width, masks.height)
            # A pixel of the masks is the vehicle's if any pixel of the frame below it is.
            scaled = cv2.resize((image > 0).astype(np.float32), size, interpolation=cv2.INTER_AREA)
            if len(self._made) > 4:
                self._made.clear()
            self._made[frame, masks] = scaled > 0
        return self._made[frame, masks]

    def _draw(self, size: Size) -> np.ndarray:
        image = np.zeros(size, np.uint8)
        for polygon in self._polygons:
            cv2.fillPoly(image, [polygon], 255)
        return image


def blank(masks: Masks, ego: np.ndarray) -> None:
    """Set the vehicle's own pixels to 0 in every mask.

    Args:
        masks: changed in place.
        ego: bool [H, W], of the masks' size.
    """
    keep = ~ego
    masks.labels = masks.labels * keep
    masks.drivable = masks.drivable * keep
    masks.objects = masks.objects * keep
    if masks.confidence is not None:
        masks.confidence = masks.confidence * keep
