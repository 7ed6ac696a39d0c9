"""An .mcap file, written chunk by chunk, every chunk with a checksum.

mcap's own writer keeps the index of the whole file in memory; here it lies in a temporary file
until the end, so that memory does not grow with the recording. Format: https://mcap.dev/spec.
"""

from __future__ import annotations

import io
import struct
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import zstandard
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Channel,
    Chunk,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    McapRecord,
    MessageIndex,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
    SummaryOffset,
)

from deeplab_rt.streams.mcap_file import MAGIC

_LEVEL = 1  # of zstd: masks are flat areas, where more effort gains little
_BLOCK = 1 << 20


class McapWriter:
    """Writes one file. Channels may be added at any time."""

    def __init__(self, path: Path, profile: str, library: str) -> None:
        """Create the file, which must not exist.

        Args:
            path: of the file.
            profile: of the messages (``ros2``).
            library: who writes.

        Raises:
            OSError: it exists or cannot be written.
        """
        # Without a buffer of Python's: after a failed write it is known what is in the file.
        self._stream = path.open("xb", buffering=0)
        self._at = 0  # where the next byte goes
        self._index: BinaryIO = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115  # till the end
        self._packer = zstandard.ZstdCompressor(_LEVEL)
        self._schemas: list[Schema] = []
        self._channels: list[Channel] = []
        self._metadata: list[MetadataIndex] = []
        self._statistics = Statistics(0, 0, {}, 0, 0, 0, 0, 0, 0)
        self._chunk = io.BytesIO()
        self._entries: dict[int, list[tuple[int, int]]] = {}
        self._times: tuple[int, int] | None = None
        self._put(MAGIC + _bytes_of(Header(profile, library)))
        self._sound = self._at  # up to here the file is whole

    @property
    def fileno(self) -> int:
        """Of the open file, for a lock."""
        return self._stream.fileno()

    def add_schema(self, name: str, encoding: str, data: bytes) -> int:
        """Declare a message type; returns its number."""
        schema = Schema(len(self._schemas) + 1, data, encoding, name)
        self._schemas.append(schema)
        self._put(_bytes_of(schema))
        return schema.id

    def add_channel(
        self, topic: str, encoding: str, schema: int, metadata: Mapping[str, str]
    ) -> int:
        """Declare a topic; returns its number."""
        channel = Channel(len(self._channels) + 1, topic, encoding, dict(metadata), schema)
        self._channels.append(channel)
        self._put(_bytes_of(channel))
        return channel.id

    def add_message(self, channel: int, log_ns: int, publish_ns: int, data: bytes) -> None:
        """Add a message to the chunk that :meth:`flush` writes.

        Args:
            channel: of :meth:`add_channel`.
            log_ns: when it was recorded, 0 or later.
            publish_ns: when it was published, 0 or later.
            data: the serialised message.
        """
        counts = self._statistics.channel_message_counts
        sequence = counts.get(channel, 0)
        head = struct.pack("<HIQQ", channel, sequence & 0xFFFFFFFF, log_ns, publish_ns)
        entry = (log_ns, self._chunk.tell())
        self._chunk.write(struct.pack("<BQ", Opcode.MESSAGE, len(head) + len(data)))
        self._chunk.write(head)
        self._chunk.write(data)
        self._entries.setdefault(channel, []).append(entry)
        counts[channel] = sequence + 1
        first, last = self._times or (log_ns, log_ns)
        self._times = (min(first, log_ns), max(last, log_ns))

    def flush(self) -> None:
        """Write the messages that were added as one chunk."""
        if self._times is not None:
            self._write_chunk(*self._times)
        self._sound = self._at

    def _write_chunk(self, first: int, last: int) -> None:
        content = self._chunk.getvalue()
        data = self._packer.compress(content)
        parts = [_bytes_of(Chunk("zstd", data, last, first, zlib.crc32(content), len(content)))]
        place, offsets = self._at + len(parts[0]), {}
        for channel, entries in self._entries.items():
            offsets[channel] = place
            parts.append(_bytes_of(MessageIndex(channel, entries)))
            place += len(parts[-1])
        length = len(parts[0])
        index = ChunkIndex(
            chunk_length=length,
            chunk_start_offset=self._at,
            compression="zstd",
            compressed_size=len(data),
            message_end_time=last,
            message_index_length=place - self._at - length,
            message_index_offsets=offsets,
            message_start_time=first,
            uncompressed_size=len(content),
        )
        self._put(b"".join(parts))
        self._index.write(_bytes_of(index))
        statistics = self._statistics
        if statistics.message_count == 0:
            statistics.message_start_time = first
        statistics.message_start_time = min(statistics.message_start_time, first)
        statistics.message_end_time = max(statistics.message_end_time, last)
        statistics.message_count += sum(len(entries) for entries in self._entries.values())
        statistics.chunk_count += 1
        self._begin_chunk()

    def _begin_chunk(self) -> None:
        self._chunk = io.BytesIO()
        self._entries.clear()
        self._times = None

    def add_metadata(self, name: str, values: Mapping[str, str]) -> None:
        """Add a record of names and values."""
        record = _bytes_of(Metadata(name, dict(values)))
        self._metadata.append(MetadataIndex(self._at, len(record), name))
        self._put(record)

    def rewind(self) -> None:
        """After a failed write: forget what came after the newest :meth:`flush`."""
        for channel, entries in self._entries.items():
            self._statistics.channel_message_counts[channel] -= len(entries)
        self._begin_chunk()
        self._stream.truncate(self._sound)
        self._stream.seek(self._sound)
        self._at = self._sound

    def close(self) -> None:
        """Write the index and the summary.

        Raises:
            OSError: they cannot be written; the file can be read without them.
        """
        self.flush()
        self._put(_bytes_of(DataEnd(0)))
        self._write_summary()
        self.abandon()

    def abandon(self) -> None:
        """Let go of the file as it is."""
        self._index.close()
        self._stream.close()

    def _write_summary(self) -> None:
        """Everything behind the data."""
        statistics = self._statistics
        statistics.schema_count = len(self._schemas)
        statistics.channel_count = len(self._channels)
        statistics.metadata_count = len(self._metadata)
        start, checksum = self._at, 0
        offsets: list[SummaryOffset] = []

        def write_group(opcode: Opcode, blocks: Iterable[bytes]) -> None:
            nonlocal checksum
            begin = self._at
            for block in blocks:
                checksum = zlib.crc32(block, checksum)
                self._put(block)
            if self._at > begin:
                offsets.append(SummaryOffset(opcode, begin, self._at - begin))

        self._index.seek(0)
        write_group(Opcode.SCHEMA, map(_bytes_of, self._schemas))
        write_group(Opcode.CHANNEL, map(_bytes_of, self._channels))
        write_group(Opcode.STATISTICS, [_bytes_of(statistics)])
        write_group(Opcode.CHUNK_INDEX, iter(lambda: self._index.read(_BLOCK), b""))
        write_group(Opcode.METADATA_INDEX, map(_bytes_of, self._metadata))
        offsets_at = self._at
        write_group(Opcode.SUMMARY_OFFSET, map(_bytes_of, list(offsets)))
        footer = struct.pack("<BQQQ", Opcode.FOOTER, 20, start, offsets_at)
        checksum = zlib.crc32(footer, checksum)
        self._put(_bytes_of(Footer(start, offsets_at, checksum)) + MAGIC)

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = self._stream.write(view)
            self._at += written
            view = view[written:]


def _bytes_of(record: McapRecord) -> bytes:
    builder: Any = RecordBuilder()
    record.write(builder)
    return bytes(builder.end())
