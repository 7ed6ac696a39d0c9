"""How long a file says that it is: what a copy that was cut off has lost without a trace in its frames."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

_RIFF_PARTS = (b"RIFF", b"LIST", b"JUNK", b"idx1")
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_SQLITE = b"SQLite format 3\0"
_MOST_BOXES = 1_000_000


def missing_bytes(path: Path) -> int:
    """Bytes that a file lacks by what its container says: AVI, Matroska, MP4 or SQLite; 0 if none.

    A container that does not say how long it is (a live recording) lacks nothing.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        start = stream.read(100)
        if start.startswith(b"RIFF"):
            end = _riff_end(stream, size)
        elif start.startswith(_EBML):
            end = _matroska_end(start)
        elif start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
            end = _boxes_end(stream, size)
        elif start.startswith(_SQLITE):
            end = _sqlite_end(start)
        else:
            end = 0
    return max(0, end - size)


def _riff_end(stream: BinaryIO, size: int) -> int:
    place = 0
    while place < size:
        stream.seek(place)
        head = stream.read(8)
        length = int.from_bytes(head[4:], "little")
        if len(head) < 8 or head[:4] not in _RIFF_PARTS or length in (0, 0xFFFFFFFF):
            return 0
        place += 8 + length
    return place


def _matroska_end(start: bytes) -> int:
    header = _vint(start, 4)
    if header is None:
        return 0
    length, place = header
    place += length
    segment = _vint(start, place + 4) if start[place : place + 4] == _SEGMENT else None
    return segment[0] + segment[1] if segment is not None else 0


def _vint(data: bytes, place: int) -> tuple[int, int] | None:
    """An EBML size and the place after it; None for an unknown size, or if it is none."""
    if place >= len(data) or data[place] == 0:
        return None
    width = 9 - data[place].bit_length()
    value = int.from_bytes(data[place : place + width], "big") & ((1 << 7 * width) - 1)
    return None if value == (1 << 7 * width) - 1 else (value, place + width)


def _boxes_end(stream: BinaryIO, size: int) -> int:
    place = 0
    for _ in range(_MOST_BOXES):
        if place >= size:
            return place
        stream.seek(place)
        head = stream.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if len(head) < 8:
            return place + 8
        if length < 8:  # 0: up to the end of the file, whichever that is
            return 0
        place += length
    return 0


def _sqlite_end(start: bytes) -> int:
    page = int.from_bytes(start[16:18], "big")
    pages = int.from_bytes(start[28:32], "big")
    # The number of pages counts only where the same version wrote both of these.
    if start[24:28] != start[92:96]:
        return 0
    return pages * (65536 if page == 1 else page)
