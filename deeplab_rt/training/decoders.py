"""Decoders of data sets' sources: bytes as fetched to an image file and a label file.

A decoder is one function listed in :data:`DECODERS`. It takes the image's bytes, the label's bytes
(empty where one file holds both) and the options of the data set's entry.
"""

from __future__ import annotations

import os
import sys
import tempfile
import zlib
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deeplab_rt.training.data import IGNORE

Bytes = NDArray[np.uint8]
Decoded = tuple[bytes, bytes, Bytes]
"""Encoded image, encoded label, and the label's values uint8 [H, W]."""
Decoder = Callable[[bytes, bytes, Mapping[str, Any]], Decoded]


class DamagedFileError(ValueError):
    """A file of the source is damaged."""


def _decode(content: bytes, flags: int) -> Bytes:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    if image is None:
        raise DamagedFileError("not an image")
    return image.astype(np.uint8, copy=False)


def _encode(image: Bytes, suffix: str) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, 95] if suffix == ".jpg" else []
    return cv2.imencode(suffix, image, options)[1].tobytes()


def nearest_colour(
    colours: Bytes, palette: Mapping[int, tuple[int, int, int]], tolerance: float
) -> Bytes:
    """The palette entry nearest to each pixel's colour.

    Args:
        colours: uint8 [H, W, 3] RGB.
        palette: Value to RGB colour.
        tolerance: Pixels farther than this from every colour (Euclidean, in RGB) become IGNORE.

    Returns:
        uint8 [H, W] of palette values.
    """
    values = np.full(colours.shape[:2], IGNORE, np.uint8)
    least = np.full(colours.shape[:2], tolerance**2 + 1, np.int32)
    wide = colours.astype(np.int32)
    for value, colour in palette.items():
        distance = np.square(wide - np.array(colour, np.int32)).sum(2)
        nearer = distance < least
        values[nearer] = value
        least[nearer] = distance[nearer]
    return values


def ego_mask(black: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What is black, touches the lower edge and is no thin border: the camera's own car.

    Args:
        black: Bool [H, W].
    """
    height = black.shape[0]
    solid = cv2.morphologyEx(black.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    _, components = cv2.connectedComponents(solid)
    at_edge = np.unique(components[height - 2 :])
    inside = np.isin(components, at_edge[at_edge > 0])
    inside[: height // 2] = False
    return inside & black


def copy(image: bytes, label: bytes, options: Mapping[str, Any]) -> Decoded:
    """Files that training reads as they are."""
    values = _decode(label, cv2.IMREAD_UNCHANGED)
    _decode(image, cv2.IMREAD_COLOR)
    return image, label, values


def _palette(options: Mapping[str, Any]) -> dict[int, tuple[int, int, int]]:
    return {int(value): tuple(colour) for value, colour in options["palette"].items()}


def colour_labels(image: bytes, label: bytes, options: Mapping[str, Any]) -> Decoded:
    """A photo and a label image of colours, both resized to ``size`` (height, width)."""
    height, width = options["size"]
    photo = _decode(image, cv2.IMREAD_COLOR)
    colours = cv2.cvtColor(_decode(label, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB).astype(np.uint8)
    values = nearest_colour(colours, _palette(options), options["tolerance"])
    photo = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    values = cv2.resize(values, (width, height), interpolation=cv2.INTER_NEAREST).astype(np.uint8)
    return _encode(photo, ".jpg"), _encode(values, ".png"), values


def colour_pairs(image: bytes, label: bytes, options: Mapping[str, Any]) -> Decoded:
    """One image whose left half is the photo and whose right half its label colours.

    Both are stretched to ``size`` (height, width). What is black at the lower edge gets the value
    ``ego``.
    """
    height, width = options["size"]
    both = _decode(image, cv2.IMREAD_COLOR)
    half = both.shape[1] // 2
    photo, colours = both[:, :half], cv2.cvtColor(both[:, half:], cv2.COLOR_BGR2RGB)
    values = nearest_colour(colours.astype(np.uint8), _palette(options), options["tolerance"])
    # Not darker than this: JPEG blurs black into the colours beside it.
    black = (colours.astype(np.int32).max(2) < 24) & (values == IGNORE)
    values[ego_mask(black)] = options["ego"]
    photo = cv2.resize(photo, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    values = cv2.resize(values, (width, height), interpolation=cv2.INTER_NEAREST).astype(np.uint8)
    return _encode(photo, ".jpg"), _encode(values, ".png"), values


def repair_png(content: bytes, most: int = 2) -> bytes:
    """Put back the CRs that a PNG lost from its CRLFs, so that every chunk's checksum fits.

    Args:
        content: The damaged file.
        most: CRs that one chunk may have lost.

    Raises:
        DamagedFileError: No such repair is found.
    """
    start = b"\x89PNG\n\x1a\n"
    if not content.startswith(start):
        raise DamagedFileError("not a PNG without its CRs")
    whole, place = bytearray(b"\x89PNG\r\n\x1a\n"), len(start)
    while place < len(content):
        chunk, used = _repair_chunk(content[place:], most)
        whole += chunk
        place += used
    return bytes(whole)


def _repair_chunk(content: bytes, most: int) -> tuple[bytes, int]:
    """The chunk at the beginning of damaged bytes, and how many of them it takes."""
    for lost in range(most + 1):
        # The chunk's length may itself have lost a CR.
        for length_cr in (0, 1) if lost else (0,):
            head = content[: 4 - length_cr]
            if length_cr:
                if b"\n" not in head:
                    continue
                head = head.replace(b"\n", b"\r\n", 1)
            length = int.from_bytes(head, "big")
            body = content[4 - length_cr : 12 + length - lost]
            if length > len(content) or len(body) < 8:
                continue
            feeds = [i for i, byte in enumerate(body) if byte == 10]
            for places in combinations(feeds, lost - length_cr):
                fixed = bytearray(body)
                for index in reversed(places):
                    fixed[index:index] = b"\r"
                if zlib.crc32(fixed[:-4]) == int.from_bytes(fixed[-4:], "big"):
                    return head + bytes(fixed), 12 + length - lost
    raise DamagedFileError("a PNG chunk whose checksum no lost CR explains")


def _decodes_silently(content: bytes) -> bool:
    """Whether libjpeg, which warns on stderr alone, has nothing to say of a file."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        return image is not None and said.tell() == 0


def lost_carriage_returns(image: bytes, label: bytes, options: Mapping[str, Any]) -> Decoded:
    """Files in which every CRLF became LF: labels are repaired, images taken where they are whole."""
    if not _decodes_silently(image):
        raise DamagedFileError("a JPEG that lost bytes")
    whole = repair_png(label)
    return image, whole, _decode(whole, cv2.IMREAD_UNCHANGED)


DECODERS: dict[str, Decoder] = {
    "copy": copy,
    "colour_labels": colour_labels,
    "colour_pairs": colour_pairs,
    "lost_carriage_returns": lost_carriage_returns,
}
