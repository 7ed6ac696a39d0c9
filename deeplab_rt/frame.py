"""One camera frame, and the size of an image: the types that travel through the package."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from deeplab_rt.device_image import DeviceImage, is_on_a_device
from deeplab_rt.errors import FrameError

Channels = Literal["bgr", "rgb"]

MAX_SIDE = 16384
"""Pixels; an image or mask with a longer side is a mistake or an attack."""

MAX_PIXELS = 1 << 25
"""An 8K frame has 33.2 million; anything larger is a mistake or an attack."""


class Size(NamedTuple):
    """Height and width of an image in pixels, in NumPy's order; its text is ``WIDTHxHEIGHT``."""

    height: int
    width: int

    @classmethod
    def of(cls, image: np.ndarray) -> Size:
        """The size of an image or mask [H, W, ...]."""
        height, width = image.shape[:2]
        return cls(height, width)

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read ``WIDTHxHEIGHT``, as in 640x480.

        Raises:
            ValueError: it is not two whole numbers above zero with an x between them.
        """
        width, separator, height = text.strip().lower().partition("x")
        numbers = width.strip(), height.strip()
        if not separator or not all(n.isascii() and n.isdigit() and len(n) < 7 for n in numbers):
            raise ValueError(f"{text!r} is not a size; expected WxH, as in 640x480")
        size = cls(int(height), int(width))
        if 0 in size:
            raise ValueError(f"{text!r} is not a size; expected sides of at least 1, as in 640x480")
        return size

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class Frame:
    """One camera image with its moment and its origin.

    Attributes:
        image: uint8 [H, W, 3], channels in the order that ``channels`` names; may be read-only. Behind
            :func:`as_frame` it may be a DeviceImage too, for a GPU backend alone.
        index: 0, 1, 2 ... the frame's place in its source; one that cannot be decoded keeps its own.
        stamp_ns: the camera's stamp in nanoseconds since the epoch of the source's clock.
        frame_id: the camera's coordinate frame; empty where the source has none.
        name: what output files are named after: an image's stem; empty means the index.
        channels: ``bgr`` or ``rgb``.
        log_ns: when a recording took the frame in; None where only the stamp is known.
        camera: the camera's name where several share a segmenter; empty for the only one.
    """

    image: np.ndarray
    index: int = 0
    stamp_ns: int = 0
    frame_id: str = ""
    name: str = ""
    channels: Channels = "bgr"
    log_ns: int | None = None
    camera: str = ""

    @property
    def size(self) -> Size:
        return Size.of(self.image)

    @property
    def bgr(self) -> np.ndarray:
        """uint8 [H, W, 3] BGR: the image itself, or a converted copy of an RGB one."""
        return self.image if self.channels == "bgr" else swap_red_and_blue(self.image)


def as_frame(
    frame: Frame | np.ndarray | Any, channels: Channels = "bgr", stream: int | None = None
) -> Frame:
    """The frame itself, or a bare image [H, W, 3] of that channel order as one.

    Args:
        frame: a Frame, a NumPy array, or an image on a GPU: an object with
            ``__cuda_array_interface__`` or ``__dlpack__``.
        channels: of a bare image.
        stream: handle of the CUDA stream in which an image on a GPU is written.

    Raises:
        FrameError: an image on a GPU is not uint8 [H, W, 3].
    """
    whole = frame if isinstance(frame, Frame) else Frame(frame, channels=channels)
    if not isinstance(whole.image, np.ndarray) and is_on_a_device(whole.image):
        image: Any = DeviceImage.of(whole.image, stream)
        return replace(whole, image=image)
    return whole


def swap_red_and_blue(image: np.ndarray) -> np.ndarray:
    """RGB to BGR, or the reverse: uint8 [H, W, 3], a new array."""
    import cv2  # here, so that the commands' help, which only parses sizes, does not load it

    return cv2.cvtColor(image, cv2.COLOR_RGB2BGR)


def check_image_array(image: np.ndarray) -> None:
    """Refuse an array that no backend can take.

    Raises:
        FrameError: it is not uint8 [H, W, 3] with H, W >= 1, or its channel order is unknown.
    """
    if not isinstance(image, (np.ndarray, DeviceImage)):
        raise FrameError(
            f"a frame of type {type(image).__name__}: expected a NumPy array uint8 [height, width, 3]"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise FrameError(
            f"a frame of shape {list(image.shape)} and type {image.dtype}: expected uint8 "
            "[height, width, 3] with at least one pixel"
        )


def check_size(height: int, width: int, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse an empty or an oversized image before it is decoded.

    Raises:
        FrameError: a side is below 1 or above :data:`MAX_SIDE`, or there are more than
            ``max_pixels``.
    """
    sides = 1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE
    if not sides or height * width > max_pixels:
        raise FrameError(
            f"image of {width}x{height} (width x height): expected 1 to {max_pixels} pixels, at most "
            f"{MAX_SIDE} a side"
        )
