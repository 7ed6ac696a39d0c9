"""ROS images to arrays and back, without cv_bridge.

Pure: imports neither rclpy nor messages. A message is anything with the fields of
``sensor_msgs/Image`` or ``sensor_msgs/CompressedImage``, as rclpy, rosbags and tests make them.
No field is trusted: whatever does not fit is a :class:`~deeplab_rt.errors.FrameError`.

Encodings: https://docs.ros.org/en/kilted/p/sensor_msgs (``image_encodings.hpp``), under their
Humble names (``yuv422``, ``yuv422_yuy2``) and their newer ones (``uyvy``, ``yuyv``).
"""

from __future__ import annotations

import operator
from array import array
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from deeplab_rt.camera.image_files import check_image_file, decode_image_file
from deeplab_rt.camera.image_range import ImageRange
from deeplab_rt.errors import FrameError
from deeplab_rt.frame import MAX_PIXELS, Channels, Frame, check_size

ALL_16_BITS = ImageRange()


@dataclass(frozen=True)
class _Encoding:
    """How one encoding lies in memory and becomes three 8-bit channels.

    Attributes:
        pixel: bytes of one pixel in a row.
        code: OpenCV's conversion; None where the bytes are what is wanted.
        channels: the order of what comes out.
        even: whether width and height must be even: (width, height).
        chroma: whether height / 2 rows of interleaved chroma follow the luma, at the same step.
        deep: whether a sample is 16 bits, in the order that ``is_bigendian`` tells.
        least: the smallest side; OpenCV interpolates Bayer patterns from 4 pixels on.
    """

    pixel: int
    code: int | None
    channels: Channels = "bgr"
    even: tuple[bool, bool] = (False, False)
    chroma: bool = False
    deep: bool = False
    least: int = 1


_GRAY = _Encoding(1, cv2.COLOR_GRAY2BGR)
_BGR = _Encoding(3, None)
_UYVY = _Encoding(2, cv2.COLOR_YUV2BGR_UYVY, even=(True, False))
_YUYV = _Encoding(2, cv2.COLOR_YUV2BGR_YUY2, even=(True, False))
_BOTH = (True, True)

_ENCODINGS: dict[str, _Encoding] = {
    "bgr8": _BGR,
    "8UC3": _BGR,
    "rgb8": _Encoding(3, None, "rgb"),
    "bgra8": _Encoding(4, cv2.COLOR_BGRA2BGR),
    "rgba8": _Encoding(4, cv2.COLOR_RGBA2BGR),
    "mono8": _GRAY,
    "8UC1": _GRAY,
    "mono16": _Encoding(2, cv2.COLOR_GRAY2BGR, deep=True),
    "16UC1": _Encoding(2, cv2.COLOR_GRAY2BGR, deep=True),
    "bgr16": _Encoding(6, None, deep=True),
    "rgb16": _Encoding(6, None, "rgb", deep=True),
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "nv12": _Encoding(1, cv2.COLOR_YUV2BGR_NV12, even=_BOTH, chroma=True),
    "nv21": _Encoding(1, cv2.COLOR_YUV2BGR_NV21, even=_BOTH, chroma=True),
    # OpenCV names a pattern by its second row, from the second column on.
    "bayer_rggb8": _Encoding(1, cv2.COLOR_BayerBG2BGR, even=_BOTH, least=4),
    "bayer_bggr8": _Encoding(1, cv2.COLOR_BayerRG2BGR, even=_BOTH, least=4),
    "bayer_gbrg8": _Encoding(1, cv2.COLOR_BayerGR2BGR, even=_BOTH, least=4),
    "bayer_grbg8": _Encoding(1, cv2.COLOR_BayerGB2BGR, even=_BOTH, least=4),
    "bayer_rggb16": _Encoding(2, cv2.COLOR_BayerBG2BGR, even=_BOTH, deep=True, least=4),
    "bayer_bggr16": _Encoding(2, cv2.COLOR_BayerRG2BGR, even=_BOTH, deep=True, least=4),
    "bayer_gbrg16": _Encoding(2, cv2.COLOR_BayerGR2BGR, even=_BOTH, deep=True, least=4),
    "bayer_grbg16": _Encoding(2, cv2.COLOR_BayerGB2BGR, even=_BOTH, deep=True, least=4),
}
ENCODINGS = tuple(_ENCODINGS)


def check_message(msg: Any, max_pixels: int = MAX_PIXELS) -> None:
    """Whether :func:`decode_message` will take a message, without decoding it.

    Raises:
        FrameError: as ``decode_message`` does, but for compressed data that is corrupt inside.
    """
    if hasattr(msg, "encoding"):
        _check_image(msg, max_pixels)
    else:
        check_image_file(bytes(_bytes(msg.data)), max_pixels)


def decode_message(msg: Any, camera: str = "", image_range: ImageRange = ALL_16_BITS) -> Frame:
    """The frame of a ``sensor_msgs/Image`` or ``sensor_msgs/CompressedImage``, under its header.

    Args:
        msg: the message.
        camera: the camera's name; empty for the only one.
        image_range: which part of 16 bits is shown.

    Raises:
        FrameError: as :func:`decode_image` and :func:`decode_compressed` do.
    """
    if hasattr(msg, "encoding"):
        image, channels = decode_image(msg, image_range=image_range)
    else:
        image, channels = decode_compressed(msg)
    return Frame(
        image,
        stamp_ns=stamp_ns_of(msg.header),
        frame_id=msg.header.frame_id,
        channels=channels,
        camera=camera,
    )


def stamp_ns_of(header: Any) -> int:
    """The stamp of a ``std_msgs/Header`` in nanoseconds."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def decode_image(
    msg: Any, max_pixels: int = MAX_PIXELS, image_range: ImageRange = ALL_16_BITS
) -> tuple[np.ndarray, Channels]:
    """The image of a ``sensor_msgs/Image``.

    Args:
        msg: its ``data`` is any buffer of bytes (``array('B')``, bytes, a uint8 array).
        max_pixels: the largest width x height that is taken.
        image_range: which part of 16 bits is shown.

    Returns:
        uint8 [H, W, 3] and the order of its channels. For ``bgr8``, ``8UC3`` and ``rgb8`` a view
        of the message's own bytes, padded rows included; else a new array. YUV is taken as
        BT.601 in video range, as OpenCV and cv_bridge do.

    Raises:
        FrameError: a field does not fit the others, or the encoding is unknown.
    """
    encoding, (rows, width, step), data = _check_image(msg, max_pixels)
    if encoding.deep:
        order = ">u2" if msg.is_bigendian else "<u2"
        count = encoding.pixel // 2
        samples = np.ndarray((rows, width, count), order, data, strides=(step, 2 * count, 2))
        image = image_range.to_8_bits(samples if count > 1 else samples[..., 0])
    elif encoding.pixel == 1:
        image = np.ndarray((rows, width), np.uint8, data, strides=(step, 1))
    else:
        pixel = encoding.pixel
        image = np.ndarray((rows, width, pixel), np.uint8, data, strides=(step, pixel, 1))
    if encoding.code is not None:
        image = cv2.cvtColor(image, encoding.code)
    return image, encoding.channels


def _check_image(msg: Any, max_pixels: int) -> tuple[_Encoding, tuple[int, int, int], memoryview]:
    """Encoding, (rows in memory, width, step) and bytes of a message whose fields fit each other."""
    name = msg.encoding
    encoding = _ENCODINGS.get(name) if isinstance(name, str) else None
    if encoding is None:
        raise FrameError(f"unknown encoding {_brief(name)}; known: {', '.join(ENCODINGS)}")
    height, width, step = (_integer(msg, field) for field in ("height", "width", "step"))
    check_size(height, width, max_pixels)
    for side, value, even in zip(("width", "height"), (width, height), encoding.even, strict=True):
        if value < encoding.least or (even and value % 2):
            wanted = f"{'an even ' if even else ''}{side} of at least {encoding.least}"
            raise FrameError(f"{name} image of {side} {value}: expected {wanted}")
    row = width * encoding.pixel
    if step < row:
        raise FrameError(
            f"step {step} is smaller than a row of {width} {name} pixels ({row} bytes)"
        )
    rows = height * 3 // 2 if encoding.chroma else height
    data = _bytes(msg.data)
    if len(data) < rows * step:
        raise FrameError(
            f"data of {len(data)} bytes is shorter than {rows} rows x step {step} = {rows * step}"
        )
    return encoding, (rows, width, step), data


def decode_compressed(msg: Any, max_pixels: int = MAX_PIXELS) -> tuple[np.ndarray, Channels]:
    """The image of a ``sensor_msgs/CompressedImage``: JPEG, PNG, BMP, WebP, TIFF, GIF or PNM.

    ``format`` is not looked at: drivers fill it in many ways, and the first bytes tell. The size is
    read from the header before anything is decoded, and an image that is cut off is refused, not
    half shown.

    Returns:
        uint8 [H, W, 3] and ``bgr``.

    Raises:
        FrameError: of none of these formats, too large, cut off or corrupt.
    """
    return decode_image_file(bytes(_bytes(msg.data)), max_pixels), "bgr"


def describe_image(msg: Any, image: np.ndarray, encoding: str) -> None:
    """Fill the fields of a ROS ``sensor_msgs/Image``, all but its header and its data.

    Args:
        msg: the message.
        image: uint8 [H, W] or [H, W, C].
        encoding: its name; not checked against the array.
    """
    msg.height, msg.width = image.shape[:2]
    msg.encoding = encoding
    msg.is_bigendian = 0
    msg.step = image.nbytes // image.shape[0]


def fill_image(msg: Any, image: np.ndarray, encoding: str) -> None:
    """Fill the fields of a ROS ``sensor_msgs/Image``, all but its header.

    ``data`` becomes an ``array('B')``: the only type that rclpy takes without looking at every
    byte (ros2/rclpy#763). Arguments as :func:`describe_image`'s.
    """
    describe_image(msg, image, encoding)
    data = array("B")
    data.frombytes(np.ascontiguousarray(image).data.cast("B"))
    msg.data = data


def _integer(msg: Any, field: str) -> int:
    value = getattr(msg, field)
    try:
        return operator.index(value)
    except TypeError:
        raise FrameError(f"{field} is {_brief(value)}, expected a whole number") from None


def _bytes(data: Any) -> memoryview:
    try:
        return memoryview(data).cast("B")
    except TypeError:
        raise FrameError(f"data is a {type(data).__name__}, expected a buffer of bytes") from None


def _brief(value: object) -> str:
    """A field's content for a log line, however long or strange it is."""
    text = repr(value) if isinstance(value, str) else " ".join(str(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
