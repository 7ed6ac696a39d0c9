"""One .mcap file, whole or damaged: its chunks by the summary, or by a walk from its front.

What the summary says is believed where its checksum holds; else it is compared with what a walk over
the records finds. The messages are taken from the chunks themselves, never by way of the message
indexes, where one flipped bit would lose some in silence.
"""

from __future__ import annotations

import heapq
import io
import os
import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Channel, ChunkIndex, Schema, Statistics

from deeplab_rt.errors import StreamError, reason_of
from deeplab_rt.streams.records import (
    BagChannel,
    LossReport,
    RawMessage,
    at_time,
    ros2_type,
    usable_ns,
)
from deeplab_rt.streams.unpack import unpack_chunk

MAGIC = b"\x89MCAP0\r\n"
_RECORD = struct.Struct("<BQ")  # opcode, length
_CHUNK = struct.Struct("<QQQII")  # start, end, size unpacked, checksum, length of the next string
_MESSAGE = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time
_INDEX = struct.Struct("<HI")  # channel, bytes of entries
_FOOTER_BYTES = 9 + 20
_RECORD_LIMIT = 1 << 34  # bytes of a record in the data section; more is damage
_SUMMARY_LIMIT = 1 << 30
_HELD_LIMIT = 1 << 30  # bytes of messages that wait for their turn in the order of time


@dataclass
class _Chunk:
    """Where a chunk lies. ``counts``: channel -> messages, where its message indexes were read."""

    start_ns: int
    end_ns: int
    offset: int
    length: int
    counts: Counter[int] | None = None
    channels: frozenset[int] | None = None


_Found = tuple[int, int, int, int, int, bytes]
"""A message: log time, where its chunk lies, where it lies there, channel, publish time, data."""

_Place = tuple[int, int, "_Chunk | int"]
"""First log time and offset of a chunk, or of a message outside of chunks and its length."""


@dataclass
class _Layout:
    """What a file consists of."""

    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    chunks: dict[int, _Chunk] = field(default_factory=dict)  # offset -> chunk
    loose: list[tuple[int, int, int]] = field(default_factory=list)  # log time, offset, length
    loose_counts: Counter[int] = field(default_factory=Counter)
    statistics: Statistics | None = None
    broken: str = ""  # where and why a walk ended early
    end: int = 0  # of what was walked over

    def counts(self) -> Counter[int] | None:
        """Messages by channel as the message indexes tell; None where a chunk has none."""
        total = Counter(self.loose_counts)
        for chunk in self.chunks.values():
            if chunk.counts is None:
                return None
            total += chunk.counts
        return total


class McapFile:
    """Reads one file. Damage is told, and everything around it read."""

    def __init__(self, path: Path, report: LossReport, unpack_bytes: int = 1 << 29) -> None:
        """Find out what the file holds.

        Args:
            path: of the file.
            report: takes what is wrong with it.
            unpack_bytes: the largest chunk that is decompressed.

        Raises:
            StreamError: it is no .mcap file, or nothing in it can be read.
            OSError: it cannot be read.
        """
        self._path = path
        self._limit = unpack_bytes
        self._stream = path.open("rb")
        try:
            self._size = os.fstat(self._stream.fileno()).st_size
            if self._at(0, len(MAGIC)) != MAGIC:
                raise StreamError(f"{path}: cannot be read as a bag: it is no mcap file")
            self._layout = self._survey(report)
            self._names: dict[int, BagChannel] = {}
            self._counts: Counter[int] = Counter()
            self._count_channels(report)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._stream.close()

    def span(self) -> tuple[int, int] | None:
        chunks = self._layout.chunks.values()
        times = [(chunk.start_ns, chunk.end_ns) for chunk in chunks if chunk.end_ns]
        times += [(time, time) for time, _, _ in self._layout.loose]
        if not times:
            return None
        return min(start for start, _ in times), max(end for _, end in times)

    # What the file holds.

    def _survey(self, report: LossReport) -> _Layout:
        summary, sound = self._summary()
        self._trusted = summary is not None and sound and _is_complete(summary)
        if summary is not None and self._trusted:
            return summary
        walked = self._walk()
        if summary is None:
            if walked.broken:
                counts = walked.counts()
                found = f"the {counts.total()} messages" if counts else "what lies"
                report.warn(
                    f"{self._path}: not closed properly or cut off ({walked.broken}); {found} up to "
                    "there are read"
                )
            return walked
        return self._compared(summary, walked, report)

    def _compared(self, summary: _Layout, walked: _Layout, report: LossReport) -> _Layout:
        """A walk over the file, completed by a summary that has no checksum."""
        promised = summary.statistics.channel_message_counts if summary.statistics else None
        found = walked.counts()
        same = summary.chunks.keys() == walked.chunks.keys()
        if (
            walked.broken
            or not same
            or (promised and found is not None and +Counter(promised) != found)
        ):
            reason = walked.broken or "its index does not fit its content"
            report.warn(f"{self._path}: damaged ({reason}); it was searched from the front")
        for offset, chunk in summary.chunks.items():
            # What the walk passed over, after a record whose length is damaged.
            head = self._at(offset, 9)
            if head == _RECORD.pack(Opcode.CHUNK, max(chunk.length - 9, 0)):
                walked.chunks.setdefault(offset, chunk)
        walked.channels = {**summary.channels, **walked.channels}
        walked.schemas = {**summary.schemas, **walked.schemas}
        walked.statistics = summary.statistics
        return walked

    def _summary(self) -> tuple[_Layout | None, bool]:
        """What stands at the end of the file, and whether a checksum holds."""
        if self._size < 2 * len(MAGIC) + _FOOTER_BYTES:
            return None, False
        end = self._size - len(MAGIC) - _FOOTER_BYTES
        tail = self._at(end, _FOOTER_BYTES + len(MAGIC))
        opcode, length, start, _, checksum = struct.unpack("<BQQQI", tail[:_FOOTER_BYTES])
        if tail[_FOOTER_BYTES:] != MAGIC or opcode != Opcode.FOOTER or length != 20:
            return None, False
        if not 0 < start <= end or end - start > _SUMMARY_LIMIT:
            return None, False
        data = self._at(start, end - start)
        if checksum and zlib.crc32(tail[:25], zlib.crc32(data)) != checksum:
            return None, False
        layout = _Layout()
        position = 0
        try:
            while position < len(data):
                opcode, length = _RECORD.unpack_from(data, position)
                body = data[position + 9 : position + 9 + length]
                if len(body) != length:
                    return None, False
                self._add(layout, opcode, body)
                position += 9 + length
        except Exception:  # damaged bytes make mcap raise nearly anything
            return None, False
        return layout, checksum != 0

    def _add(self, layout: _Layout, opcode: int, body: bytes) -> None:
        """Take a schema, a channel, statistics or a chunk's index."""
        stream = ReadDataStream(io.BytesIO(body))
        if opcode == Opcode.SCHEMA:
            schema = Schema.read(stream)
            layout.schemas[schema.id] = schema
        elif opcode == Opcode.CHANNEL:
            channel = Channel.read(stream)
            layout.channels[channel.id] = channel
        elif opcode == Opcode.STATISTICS:
            layout.statistics = Statistics.read(stream)
        elif opcode == Opcode.CHUNK_INDEX:
            index = ChunkIndex.read(stream)
            ids = frozenset(index.message_index_offsets) or None
            layout.chunks[index.chunk_start_offset] = _Chunk(
                index.message_start_time,
                index.message_end_time,
                index.chunk_start_offset,
                index.chunk_length,
                channels=ids,
            )

    def _walk(self) -> _Layout:
        """Every record from the front, without the content of chunks."""
        layout = _Layout()
        position, chunk = len(MAGIC), None
        while True:
            layout.end = position
            head = self._at(position, 9)
            if len(head) < 9:
                layout.broken = f"it ends at byte {self._size} without an index"
                return layout
            opcode, length = _RECORD.unpack(head)
            body = position + 9
            if opcode == Opcode.DATA_END or opcode == Opcode.FOOTER:
                return layout
            if opcode == 0 or length > _RECORD_LIMIT:
                layout.broken = f"byte {position} begins no record"
                return layout
            if body + length > self._size:
                layout.broken = f"cut off inside a record at byte {position}"
                return layout
            try:
                chunk = self._take(layout, opcode, position, length, chunk)
            except Exception as error:  # damaged bytes make mcap raise nearly anything
                layout.broken = f"the record at byte {position} is damaged: {reason_of(error)}"
                return layout
            position = body + length

    def _take(
        self, layout: _Layout, opcode: int, position: int, length: int, chunk: _Chunk | None
    ) -> _Chunk | None:
        """Note one record of a walk; returns the chunk to which message indexes belong."""
        body = position + 9
        if opcode == Opcode.CHUNK:
            start, end, *_ = _CHUNK.unpack(self._at(body, _CHUNK.size))
            chunk = _Chunk(start, end, position, 9 + length)
            layout.chunks[position] = chunk
        elif opcode == Opcode.MESSAGE_INDEX and chunk is not None:
            channel, size = _INDEX.unpack(self._at(body, _INDEX.size))
            if _INDEX.size + size > length:
                raise ValueError("a message index is longer than its record")
            chunk.counts = (chunk.counts or Counter()) + Counter({channel: size // 16})
        elif opcode == Opcode.MESSAGE:
            channel, _, log_ns, _ = _MESSAGE.unpack(self._at(body, _MESSAGE.size))
            layout.loose.append((log_ns, position, length))
            layout.loose_counts[channel] += 1
        elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
            self._add(layout, opcode, self._at(body, length))
        return chunk

    def _count_channels(self, report: LossReport) -> None:
        """Name the channels and count their messages, from inside the chunks where nothing else tells."""
        layout = self._layout
        if self._trusted and layout.statistics is not None:
            self._counts = Counter(layout.statistics.channel_message_counts)
        else:
            self._counts = Counter(layout.loose_counts)
            for chunk in layout.chunks.values():
                if chunk.counts is None or chunk.counts.keys() - layout.channels.keys():
                    with suppress(ValueError):  # is told when its turn comes
                        chunk.counts = Counter(channel for channel, *_ in self._records(chunk))
                self._counts += chunk.counts or Counter()
        for number, channel in layout.channels.items():
            schema = layout.schemas.get(channel.schema_id)
            self._names[number] = BagChannel(
                channel.topic,
                ros2_type(schema.name) if schema else "",
                channel.message_encoding,
                schema.encoding if schema else "",
                schema.data if schema else b"",
                channel.metadata.get("offered_qos_profiles", ""),
                channel.metadata.get("topic_type_hash", ""),
            )
        unnamed = sum(count for n, count in self._counts.items() if n not in self._names)
        if unnamed:
            report.warn(f"{self._path}: {unnamed} messages of topics that nothing names any more")
        if not self._names and (layout.broken or unnamed):
            raise StreamError(
                f"{self._path}: nothing can be recovered: {layout.broken or 'no topic is named'}"
            )

    @property
    def channels(self) -> dict[BagChannel, int]:
        """Channel -> number of messages."""
        counts: dict[BagChannel, int] = {}
        for number, channel in self._names.items():
            counts[channel] = counts.get(channel, 0) + self._counts[number]
        return counts

    # The messages.

    def messages(
        self,
        channels: Collection[BagChannel],
        report: LossReport,
        start_ns: int | None = None,
        stop_ns: int | None = None,
    ) -> Iterator[RawMessage]:
        wanted = {n: channel for n, channel in self._names.items() if channel in channels}
        given: Counter[int] = Counter()
        lost: Counter[int] = Counter()

        def read(layout: _Layout) -> Iterator[RawMessage]:
            places = self._places(layout, wanted, start_ns, stop_ns)
            for log_ns, _, _, n, publish_ns, data in self._ordered(places, wanted, lost, report):
                if (start_ns or 0) <= log_ns and (stop_ns is None or log_ns < stop_ns):
                    given[n] += 1
                    yield RawMessage(wanted[n], usable_ns(log_ns), usable_ns(publish_ns), data)

        yield from read(self._layout)
        if start_ns is not None or stop_ns is not None:
            return
        expected = Counter({number: self._counts[number] for number in wanted}) - lost
        if self._trusted and expected - given:
            # What the index left out is found by a walk; it comes late rather than never.
            walked = self._walk()
            for offset in self._layout.chunks:
                walked.chunks.pop(offset, None)
            yield from read(walked)
        for number, missing in (expected - given).items():
            topic = wanted[number].topic
            text = (
                f"{self._path}: {missing} messages of {topic} that the file promises are not in it"
            )
            report.lose(topic, missing if self._trusted else 0, text)

    def _places(
        self,
        layout: _Layout,
        wanted: Collection[int],
        start_ns: int | None,
        stop_ns: int | None,
    ) -> list[_Place]:
        """Where messages of some channels and of a time span may lie, the last first."""
        first, last = start_ns or 0, (1 << 64) if stop_ns is None else stop_ns
        places: list[_Place] = [
            (chunk.start_ns, chunk.offset, chunk)
            for chunk in layout.chunks.values()
            if self._concerns(chunk, wanted) and chunk.start_ns < last and chunk.end_ns >= first
        ]
        places += layout.loose
        places.sort(key=lambda place: place[:2], reverse=True)
        return places

    def _ordered(
        self,
        places: list[_Place],
        wanted: Collection[int],
        lost: Counter[int],
        report: LossReport,
    ) -> Iterator[_Found]:
        """The messages by log time. Of chunks that overlap in time as many are held as do, else one."""
        ready: list[_Found] = []
        held, told = 0, False
        while places or ready:
            while places and (not ready or places[-1][0] <= ready[0][0]):
                if ready and held > _HELD_LIMIT:
                    if not told:
                        report.warn(f"{self._path}: its messages lie far out of the order of time")
                        told = True
                    break
                _, offset, item = places.pop()
                for found in self._open(offset, item, wanted, lost, report):
                    held += len(found[-1])
                    heapq.heappush(ready, found)
            if ready:
                found = heapq.heappop(ready)
                held -= len(found[-1])
                yield found

    def _concerns(self, chunk: _Chunk, wanted: Collection[int]) -> bool:
        """Whether a chunk may hold messages of these channels."""
        if not self._trusted or chunk.channels is None:
            return True
        return not chunk.channels.isdisjoint(wanted)

    def _open(
        self,
        place: int,
        item: _Chunk | int,
        wanted: Collection[int],
        lost: Counter[int],
        report: LossReport,
    ) -> list[_Found]:
        """The messages of a chunk, or one that lies outside of chunks (``item`` is its length)."""
        if not isinstance(item, _Chunk):
            body = self._at(place + 9, item)
            number, _, log_ns, publish_ns = _MESSAGE.unpack_from(body)
            found = (log_ns, place, 0, number, publish_ns, body[_MESSAGE.size :])
            return [found] if number in wanted else []
        try:
            records = list(self._records(item, wanted))
        except (ValueError, OSError) as error:
            self._lose(item, wanted, error, lost, report)
            return []
        return [(log_ns, place, at, n, pub, data) for n, log_ns, at, pub, data in records]

    def _lose(
        self,
        chunk: _Chunk,
        wanted: Collection[int],
        error: Exception,
        lost: Counter[int],
        report: LossReport,
    ) -> None:
        counts = chunk.counts or self._indexed_after(chunk)
        where = f"{at_time(usable_ns(chunk.start_ns))} to {chunk.end_ns / 1e9:.3f} s"
        for number in wanted:
            if counts is None or counts[number]:
                count = None if counts is None else counts[number]
                lost[number] += count or 0
                report.lose(
                    self._names[number].topic,
                    count,
                    f"{self._path}: a chunk of {chunk.length} bytes {where} is damaged "
                    f"({reason_of(error)}) and is left out: {'some' if count is None else count} messages of "
                    f"{self._names[number].topic}",
                )

    def _indexed_after(self, chunk: _Chunk) -> Counter[int] | None:
        """Messages by channel as the message indexes behind a chunk tell."""
        layout = _Layout()
        position = chunk.offset + chunk.length
        chunk = _Chunk(0, 0, 0, 0)
        try:
            while True:
                opcode, length = _RECORD.unpack(self._at(position, 9))
                if opcode != Opcode.MESSAGE_INDEX:
                    return chunk.counts
                self._take(layout, opcode, position, length, chunk)
                position += 9 + length
        except (struct.error, ValueError):
            return None

    def _records(
        self, chunk: _Chunk, wanted: Collection[int] | None = None
    ) -> Iterator[tuple[int, int, int, int, bytes]]:
        """(channel, log time, place in the chunk, publish time, data) of a chunk's messages.

        Channels and schemas that lie in the chunk are taken note of. Without ``wanted`` the data is
        left out.

        Raises:
            ValueError: the chunk is damaged.
        """
        content = self._content(chunk)
        position, end = 0, len(content)
        while position < end:
            if position + 9 > end:
                raise ValueError("it ends inside a record")
            opcode, length = _RECORD.unpack_from(content, position)
            body, position = position + 9, position + 9 + length
            if position > end:
                raise ValueError("it ends inside a record")
            if opcode == Opcode.MESSAGE:
                if length < _MESSAGE.size:
                    raise ValueError("a message is shorter than its head")
                number, _, log_ns, publish_ns = _MESSAGE.unpack_from(content, body)
                if wanted is None or number in wanted:
                    data = b"" if wanted is None else content[body + _MESSAGE.size : position]
                    yield number, log_ns, body, publish_ns, data
            elif wanted is None and opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
                try:
                    self._add(self._layout, opcode, content[body:position])
                except Exception as error:  # damaged bytes make mcap raise nearly anything
                    raise ValueError(reason_of(error)) from None

    def _content(self, chunk: _Chunk) -> bytes:
        """A chunk's records.

        Raises:
            ValueError: it is damaged.
        """
        if chunk.offset + chunk.length > self._size:
            raise ValueError("it lies beyond the end of the file")
        head = self._at(chunk.offset, 9 + _CHUNK.size)
        if len(head) < 9 + _CHUNK.size:
            raise ValueError("it is cut off")
        opcode, length = _RECORD.unpack_from(head)
        _, _, size, checksum, name_length = _CHUNK.unpack_from(head, 9)
        if opcode != Opcode.CHUNK or 9 + length != chunk.length or name_length > 32:
            raise ValueError("its head is damaged")
        rest = self._at(chunk.offset + 9 + _CHUNK.size, length - _CHUNK.size)
        compression = rest[:name_length].decode("ascii", "replace")
        (data_length,) = struct.unpack("<Q", rest[name_length : name_length + 8])
        data = rest[name_length + 8 :]
        if len(data) != data_length:
            raise ValueError("its head is damaged")
        content = unpack_chunk(data, compression, size, self._limit)
        if checksum and zlib.crc32(content) != checksum:
            raise ValueError("its checksum does not fit")
        return content

    def _at(self, offset: int, length: int) -> bytes:
        return os.pread(self._stream.fileno(), length, offset)


def _is_complete(summary: _Layout) -> bool:
    """Whether a summary accounts for every message of its file."""
    statistics = summary.statistics
    if statistics is None or statistics.chunk_count != len(summary.chunks):
        return False
    return bool(summary.chunks) or not statistics.message_count
