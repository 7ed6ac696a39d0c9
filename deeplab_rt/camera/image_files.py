"""Compressed images of every format that is taken: their size and whether they are whole, unseen.

Nothing is decoded before its size is known: 10 KB of WebP can hold 1.8 GB of pixels.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

import cv2
import numpy as np

from deeplab_rt.errors import FrameError, one_line
from deeplab_rt.frame import MAX_PIXELS, check_size

_Size = tuple[int, int]  # height, width


def check_image_file(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[str, _Size]:
    """The format of a compressed image, by its first bytes, and its (height, width).

    Raises:
        FrameError: it is of no format that is taken, cut off, corrupt or too large.
    """
    for kind, magic, measure in _FORMATS:
        if magic.match(data):
            try:
                size = measure(data)
            except (struct.error, ValueError, IndexError):
                size = None
            if size is None:
                raise FrameError(f"{kind} image of {len(data)} bytes is cut off or corrupt")
            check_size(*size, max_pixels)
            return kind, size
    known = ", ".join(kind for kind, _, _ in _FORMATS)
    raise FrameError(f"compressed image ({len(data)} bytes) is of none of the formats {known}")


def decode_image_file(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """uint8 [H, W, 3] BGR, as the pixels lie in the file (an EXIF orientation is not applied).

    Raises:
        FrameError: as :func:`check_image_file`, or it is corrupt inside or of a format that this
            OpenCV lacks.
    """
    kind, size = check_image_file(data, max_pixels)
    # Without IGNORE_ORIENTATION an EXIF tag would turn the image away from its CameraInfo.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        text = one_line(error)[:60]
        raise FrameError(f"{kind} image cannot be decoded: {text}") from None
    if image is None or image.shape[:2] != size:
        raise FrameError(f"{kind} image of {len(data)} bytes is corrupt")
    if kind == "JPEG" and _ends_early(data, image):
        raise FrameError(f"JPEG image of {len(data)} bytes is cut off inside its scan")
    return np.asarray(image, np.uint8)


def _png_size(data: bytes) -> _Size | None:
    if len(data) < 45 or data[12:16] != b"IHDR" or b"IEND" not in data[-64:]:
        return None
    width, height = struct.unpack(">II", data[16:24])
    return height, width


# In a scan every 0xFF is followed by 0 or a restart; anything else is a marker.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_TABLES = {0xC4, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0)}
_PROGRESSIVE = re.compile(rb"\xff[\xc2\xc6\xca\xce]\x00[\x08-\x40]\x08")


def _jpeg_size(data: bytes) -> _Size | None:
    """ITU T.81, annex B: the size, of an image whose scans end with the end marker."""
    position, size, scanned = 2, None, False
    while position + 2 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker == 0xD9:
            return size if scanned else None
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if length < 2:
            return None
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            size = (height, width)
        elif marker != 0xDA and marker not in _TABLES:
            return None  # an image inside this one's scan, for instance
        position += 2 + length
        if marker == 0xDA:
            scanned = True
            found = _MARKER.search(data, position)
            if found is None:
                return None
            position = found.start()
    return None


def _ends_early(data: bytes, image: np.ndarray) -> bool:
    """Whether a JPEG's scan ends before its image does, though an end marker follows.

    libjpeg fills up what is missing with the last colour and says nothing. FFmpeg's decoder tells;
    it is asked only where the last pixels are of one colour, or where the image is progressive and
    has other ways to be incomplete.
    """
    corner = image[-4:, -4:]
    flat = bool((corner == corner[-1, -1]).all())
    if not flat and _PROGRESSIVE.search(data, 0, 4096) is None:
        return False
    import av  # here, so that cameras without JPEG do not load it

    context = av.CodecContext.create("mjpeg", "r")
    context.options = {"err_detect": "explode+bitstream+buffer"}
    context.thread_count = 1
    try:
        context.decode(av.Packet(data))
        context.decode(None)
    except av.error.InvalidDataError:
        return True
    except av.FFmpegError:  # a kind of JPEG that FFmpeg lacks
        return False
    return False


def _bmp_size(data: bytes) -> _Size | None:
    header = struct.unpack("<I", data[14:18])[0]
    if header == 12:
        width, height, _, bits = struct.unpack("<HHHH", data[18:26])
        packed = 0
    else:
        width, height, _, bits, packed = struct.unpack("<iiHHI", data[18:34])
    height = abs(height)
    start = struct.unpack("<I", data[10:14])[0]
    row = (width * bits + 31) // 32 * 4
    if packed in (0, 3) and len(data) < start + row * height:
        return None
    return height, width


def _webp_size(data: bytes) -> _Size | None:
    if len(data) < 8 + struct.unpack("<I", data[4:8])[0]:
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
        return height, width
    if kind == b"VP8L" and data[20] == 0x2F:
        bits = struct.unpack("<I", data[21:25])[0]
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", data[26:30])
        return height & 0x3FFF, width & 0x3FFF
    return None


_TIFF_TYPES = {3: "H", 4: "I"}
_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 322, 323
_PLACES = {273: 279, 324: 325}  # offsets of strips or tiles -> their bytes


def _tiff_size(data: bytes) -> _Size | None:
    """TIFF 6.0: the first image, all of whose strips or tiles lie inside the file."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    values: dict[int, tuple[int, ...]] = {}
    for entry in range(min(count, 512)):
        at = start + 2 + 12 * entry
        tag, kind, number = struct.unpack_from(order + "HHI", data, at)
        if tag not in (_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT, *_PLACES, *_PLACES.values()):
            continue
        letter = _TIFF_TYPES.get(kind)
        if letter is None or number > len(data):
            return None
        size = struct.calcsize(letter) * number
        place = at + 8 if size <= 4 else struct.unpack_from(order + "I", data, at + 8)[0]
        values[tag] = struct.unpack_from(f"{order}{number}{letter}", data, place)
    (width,), (height,) = values[_WIDTH], values[_HEIGHT]
    if _TILE_WIDTH in values:
        check_size(values[_TILE_HEIGHT][0], values[_TILE_WIDTH][0])
    for offsets, sizes in _PLACES.items():
        pairs = zip(values.get(offsets, ()), values.get(sizes, ()), strict=False)
        if any(offset + size > len(data) for offset, size in pairs):
            return None
    return height, width


def _gif_size(data: bytes) -> _Size | None:
    width, height = struct.unpack("<HH", data[6:10])
    return (height, width) if data.rstrip(b"\0").endswith(b";") else None


_PNM = re.compile(rb"P([1-6])(?:\s|#[^\n]*\n)+(\d{1,6})(?:\s|#[^\n]*\n)+(\d{1,6})\s")


def _pnm_size(data: bytes) -> _Size | None:
    found = _PNM.match(data[:4096])
    if found is None:
        return None
    kind, width, height = (int(group) for group in found.groups())
    # The least that an image of this kind takes; plain text takes two bytes a sample.
    least = {1: 1, 2: 2, 3: 6, 4: 1 / 8, 5: 1, 6: 3}[kind] * width * height
    return (height, width) if len(data) >= found.end() + least - 1 else None


_FORMATS: tuple[tuple[str, re.Pattern[bytes], Callable[[bytes], _Size | None]], ...] = (
    ("JPEG", re.compile(rb"\xff\xd8\xff"), _jpeg_size),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), _png_size),
    ("BMP", re.compile(rb"BM.{8}....\x0c\0\0\0|BM.{12}[\x28-\x7c]\0\0\0", re.DOTALL), _bmp_size),
    ("WebP", re.compile(rb"RIFF....WEBP", re.DOTALL), _webp_size),
    ("TIFF", re.compile(rb"II\*\0|MM\0\*"), _tiff_size),
    ("GIF", re.compile(rb"GIF8[79]a"), _gif_size),
    ("PNM", re.compile(rb"P[1-6]\s"), _pnm_size),
)
