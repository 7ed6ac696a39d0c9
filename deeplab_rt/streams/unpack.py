"""Decompression with a bound, so that no small file fills the memory or the disk."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path

import lz4.frame
import zstandard

from deeplab_rt.errors import StreamError
from deeplab_rt.streams.outputs import RESERVE

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_BLOCK = 1 << 20


class TooLarge(ValueError):  # noqa: N818  # says what is wrong; its base says that it is an error
    """Data that would grow beyond the limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"it grows beyond {limit >> 20} MB when decompressed; `--unpack-limit` raises that"
        )


def unpack_chunk(data: bytes, compression: str, size: int, limit: int) -> bytes:
    """The content of an mcap chunk.

    Args:
        data: as it lies in the file.
        compression: ``zstd``, ``lz4`` or empty.
        size: what the chunk says that it has when decompressed.
        limit: the most that is decompressed, in bytes.

    Raises:
        ValueError: it is damaged, of another size, or larger than the limit.
    """
    if size > limit:
        raise TooLarge(limit)
    if compression == "zstd":
        content = unpack_zstd(data, min(limit, size))
    elif compression == "lz4":
        try:
            content = lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=size + 1)
        except RuntimeError as error:
            raise ValueError(str(error)) from None
    elif compression == "":
        content = data
    else:
        raise ValueError(f"compressed by {compression!r}: expected zstd or lz4")
    if len(content) != size:
        raise ValueError(f"{len(content)} bytes where {size} were promised")
    return content


def unpack_zstd(data: bytes, limit: int) -> bytes:
    """The content of one or more zstd frames.

    Raises:
        ValueError: they are damaged, or hold more than ``limit`` bytes.
    """
    parts: list[bytes] = []
    left = limit
    try:
        # Piece by piece: the size in a frame's header is only a promise.
        with zstandard.ZstdDecompressor().stream_reader(
            io.BytesIO(data), read_across_frames=True
        ) as stream:
            while block := stream.read(min(_BLOCK, left + 1)):
                left -= len(block)
                if left < 0:
                    raise TooLarge(limit)
                parts.append(block)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
    return b"".join(parts)


def unpack_file(path: Path, suffix: str) -> Path:
    """A recording that was compressed as a whole, in a temporary file that the caller removes.

    Args:
        path: the compressed file (zstd).
        suffix: for the new name.

    Raises:
        StreamError: it is damaged, or the temporary directory has not enough room.
        OSError: it cannot be read or written.
    """
    place = tempfile.gettempdir()
    handle, name = tempfile.mkstemp(suffix=suffix, prefix="deeplab_rt-", dir=place)
    try:
        with (
            os.fdopen(handle, "wb") as target,
            path.open("rb") as packed,
            zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as stream,
        ):
            while block := stream.read(8 * _BLOCK):
                disk = os.statvfs(place)
                if disk.f_bavail * disk.f_frsize < RESERVE + len(block):
                    raise StreamError(
                        f"{path}: does not fit into {place} when decompressed; set TMPDIR to a "
                        f"larger disk, or take `unzstd {path}`"
                    )
                target.write(block)
    except BaseException as error:
        os.unlink(name)
        if isinstance(error, zstandard.ZstdError):
            raise StreamError(f"{path}: cannot be read as a bag: {error}") from None
        raise
    return Path(name)
