"""Frames from a rosbag2: a directory, an .mcap or a .db3 file.

A bag that was never closed has no metadata and no index. Its .mcap files are then read from the
front, chunk by chunk, so that everything that reached the disk is recovered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zstandard
from mcap.records import Channel, Chunk, McapRecord, Message, Schema
from mcap.stream_reader import StreamReader, breakup_chunk
from rosbags.rosbag2 import Reader

from deeplab_rt.camera.encodings import decode_compressed, decode_image
from deeplab_rt.errors import FrameError, StreamError
from deeplab_rt.frame import Channels, Frame
from deeplab_rt.streams.base import Recording, check_image_size, natural_key
from deeplab_rt.streams.messages import COMPRESSED_IMAGE, IMAGE, stamp_ns, typestore

SUFFIXES = (".mcap", ".db3")
_DECODERS: dict[str, Callable[[Any], tuple[np.ndarray, Channels]]] = {
    IMAGE: decode_image,
    COMPRESSED_IMAGE: decode_compressed,
}
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # no CDR message begins so: its first byte is 0
Topics = dict[str, tuple[str, int]]  # topic -> (message type, number of messages)


def is_bag(path: Path) -> bool:
    """Whether a path is a rosbag2: one of its files, or a directory that holds some."""
    if path.is_dir():
        return (path / "metadata.yaml").is_file() or bool(_files(path))
    return path.suffix in SUFFIXES


def _files(directory: Path) -> list[Path]:
    files = [file for file in directory.iterdir() if file.suffix in SUFFIXES]
    return sorted(files, key=lambda file: natural_key(file.name))


class BagImages(Recording):
    """The images of one topic of a bag, with their header's stamp and frame_id."""

    def __init__(self, path: Path, topic: str | None = None) -> None:
        """Open the bag and choose the topic.

        Args:
            path: a rosbag2 directory, an .mcap or a .db3 file.
            topic: an image topic; None for the only one.

        Raises:
            StreamError: the bag cannot be read, has no image topic, or has several and none was
                named; the message lists those it has.
        """
        self._parts: list[_Part] = []
        super().__init__(str(path), None, None)
        try:
            # The files tell all that metadata.yaml would, and are there when it is not. Only a bag
            # compressed as a whole (.mcap.zstd) has to be unpacked by way of its metadata.
            for file in (_files(path) if path.is_dir() else []) or [path]:
                self._parts.append(_open(file, self.warnings))
            topics: Topics = {}
            for part in self._parts:
                for name, (kind, count) in part.topics.items():
                    topics[name] = (kind, count + topics.get(name, (kind, 0))[1])
            self.topic, kind = _choose(topics, topic, path)
        except BaseException:
            self.close()
            raise
        self._kind = kind
        self.total = topics[self.topic][1]

    def __iter__(self) -> Iterator[Frame]:
        decode = _DECODERS[self._kind]
        index = 0
        for part in self._parts:
            for log_ns, data in part.messages(self.topic, self.warnings):
                try:
                    message = _deserialize(data, self._kind)
                    image, channels = decode(message)
                    check_image_size(image)
                    frame_id = str(message.header.frame_id)
                    frame = Frame(image, index, stamp_ns(message), frame_id, "", channels, log_ns)
                except FrameError as error:
                    self.skip(index, error)
                else:
                    yield frame
                index += 1

    def close(self) -> None:
        for part in self._parts:
            part.close()
        self._parts = []


def _deserialize(data: bytes, kind: str) -> Any:
    """One message; unpacked first where the bag was recorded with compression by message.

    Raises:
        FrameError: the bytes are not such a message.
    """
    try:
        if data[:4] == _ZSTD_MAGIC:
            data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
        return typestore().deserialize_cdr(data, kind)
    except Exception as error:  # damaged bytes make rosbags raise nearly anything
        raise FrameError(f"the message is damaged ({_reason(error)})") from None


def _choose(topics: Topics, wanted: str | None, path: Path) -> tuple[str, str]:
    """The topic to read and its type."""
    images = {name: entry for name, entry in topics.items() if entry[0] in _DECODERS}
    if wanted is not None and wanted not in images:
        is_what = f"is a {topics[wanted][0]}" if wanted in topics else "is not in it"
        raise StreamError(
            f"{path}: topic {wanted} {is_what}; image topics: {_listed(images) or 'none'}"
        )
    if not images:
        has = f"it has: {_listed(topics)}" if topics else "it is empty"
        raise StreamError(f"{path}: no image topic (sensor_msgs Image or CompressedImage); {has}")
    filled = {name: entry for name, entry in images.items() if entry[1]}
    if wanted is None and len(filled) > 1:
        raise StreamError(
            f"{path}: several image topics; choose one with --topic: {_listed(filled)}"
        )
    topic = wanted or next(iter(filled or images))
    kind, count = images[topic]
    if not count:
        raise StreamError(f"{path}: topic {topic} holds no message; it has: {_listed(topics)}")
    return topic, kind


def _listed(topics: Topics) -> str:
    return ", ".join(f"{name} ({kind}, {count})" for name, (kind, count) in sorted(topics.items()))


class _Part(Protocol):
    """One file of a bag."""

    topics: Topics

    def messages(self, topic: str, warnings: list[str]) -> Iterator[tuple[int, bytes]]:
        """Every message of a topic: when it was recorded in ns, its bytes."""

    def close(self) -> None: ...


def _open(path: Path, warnings: list[str]) -> _Part:
    journal = path.with_name(f"{path.name}-wal")
    if journal.is_file() and journal.stat().st_size:
        warnings.append(
            f"{path}: messages in {journal.name} are not read; `sqlite3 {path} 'PRAGMA "
            "wal_checkpoint'` puts them where they belong"
        )
    try:
        return _Indexed(path)
    except PermissionError as error:
        raise StreamError(f"{path}: cannot be read: {error.strerror}") from None
    except Exception as error:  # damaged bytes make rosbags raise nearly anything
        if path.is_dir() or path.suffix != ".mcap" or path.stat().st_size == 0:
            raise StreamError(
                f"{path}: cannot be read as a bag: {_reason(error)}; copy it again, or recover it "
                "with `ros2 bag reindex`"
            ) from None
        part = _Unindexed(path)
        if not part.topics:
            raise StreamError(f"{path}: nothing can be recovered: {_reason(error)}") from None
        count = sum(count for _, count in part.topics.values())
        warnings.append(
            f"{path}: not closed properly or cut off ({_reason(error)}); the {count} messages up to "
            "there are read"
        )
        return part


class _Indexed:
    """A file that is whole, by rosbags, in the order of recording."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader = Reader(path)
        self._reader.open()
        self.topics: Topics = {}
        for connection in self._reader.connections:
            before = self.topics.get(connection.topic, ("", 0))[1]
            self.topics[connection.topic] = (connection.msgtype, before + connection.msgcount)

    def messages(self, topic: str, warnings: list[str]) -> Iterator[tuple[int, bytes]]:
        connections = [c for c in self._reader.connections if c.topic == topic]
        if not connections:
            return
        given: Counter[int] = Counter()
        try:
            for _, log_ns, data in self._reader.messages(connections):
                given[log_ns] += 1
                yield log_ns, data
        except Exception as error:  # damaged bytes make rosbags raise nearly anything
            warnings.append(f"{self._path}: {_reason(error)} (after message {given.total()})")
            if self._path.suffix == ".mcap":
                for log_ns, data in _Unindexed(self._path).messages(topic, warnings):
                    given[log_ns] -= 1
                    if given[log_ns] < 0:
                        yield log_ns, data

    def close(self) -> None:
        if self._reader.is_open:
            self._reader.close()


class _Unindexed:
    """An .mcap file without a usable index, from its front, in the order of the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        counts: Counter[tuple[str, str]] = Counter()
        for topic, kind, _ in self._scan([]):
            counts[topic, kind] += 1
        self.topics: Topics = {topic: (kind, n) for (topic, kind), n in counts.items()}

    def messages(self, topic: str, warnings: list[str]) -> Iterator[tuple[int, bytes]]:
        for name, _, message in self._scan(warnings):
            if name == topic:
                yield message.log_time, message.data

    def close(self) -> None: ...

    def _scan(self, warnings: list[str]) -> Iterator[tuple[str, str, Message]]:
        schemas: dict[int, str] = {}
        channels: dict[int, Channel] = {}
        for record in self._records(warnings):
            if isinstance(record, Schema):
                schemas[record.id] = record.name
            elif isinstance(record, Channel):
                channels[record.id] = record
            elif isinstance(record, Message) and record.channel_id in channels:
                channel = channels[record.channel_id]
                yield channel.topic, schemas.get(channel.schema_id, ""), record

    def _records(self, warnings: list[str]) -> Iterator[McapRecord]:
        with self._path.open("rb") as stream:
            records = iter(StreamReader(stream, emit_chunks=True).records)
            while True:
                try:
                    record = next(records)
                except Exception:  # StopIteration, or the end of what can be read
                    return
                if not isinstance(record, Chunk):
                    yield record
                    continue
                try:
                    inner = breakup_chunk(record, validate_crc=True)
                except Exception as error:  # damaged bytes make mcap raise nearly anything
                    warnings.append(
                        f"{self._path}: a chunk of {len(record.data)} bytes is damaged "
                        f"({_reason(error)}) and is left out"
                    )
                    continue
                yield from inner


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text or type(error).__name__
