"""One ROS 1 .bag file, by rosbags."""

from __future__ import annotations

import bz2
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import lz4.frame
from rosbags.rosbag1 import Reader
from rosbags.rosbag1.reader import decompressors

from deeplab_rt.errors import StreamError, reason_of
from deeplab_rt.streams.records import (
    BagChannel,
    LossReport,
    RawMessage,
    at_time,
    ros2_type,
    usable_ns,
)
from deeplab_rt.streams.unpack import TooLarge


class Ros1File:
    """Reads one file that was closed or reindexed."""

    def __init__(self, path: Path, report: LossReport, unpack_bytes: int = 1 << 29) -> None:
        """Find out what the file holds.

        Raises:
            StreamError: it is no such file, damaged, or has no index.
            OSError: it cannot be read.
        """
        self._path = path
        self._reader = Reader(path)
        try:
            self._reader.open()
        except OSError:
            raise
        except Exception as error:  # damaged bytes make rosbags raise nearly anything
            raise StreamError(
                f"{path}: cannot be read as a ROS 1 bag: {reason_of(error)}; `rosbag reindex {path}` "
                "recovers one that was not closed"
            ) from None
        bounded = {decompressors[name]: _bounded(name, unpack_bytes) for name in ("bz2", "lz4")}
        for place, chunk in self._reader.chunks.items():
            if chunk.decompressor in bounded:
                self._reader.chunks[place] = chunk._replace(
                    decompressor=bounded[chunk.decompressor]
                )
        self._connections: dict[BagChannel, list[Any]] = {}
        for connection in self._reader.connections:
            channel = BagChannel(
                connection.topic,
                ros2_type(connection.msgtype),
                "ros1",
                "ros1msg",
                str(connection.msgdef.data).encode(),
            )
            self._connections.setdefault(channel, []).append(connection)
        self.channels = {
            channel: sum(connection.msgcount for connection in connections)
            for channel, connections in self._connections.items()
        }

    def close(self) -> None:
        if self._reader.bio is not None:
            self._reader.close()

    def span(self) -> tuple[int, int] | None:
        if not self._reader.chunk_infos:
            return None
        return self._reader.start_time, self._reader.end_time - 1

    def messages(
        self,
        channels: Collection[BagChannel],
        report: LossReport,
        start_ns: int | None = None,
        stop_ns: int | None = None,
    ) -> Iterator[RawMessage]:
        owners = {
            connection.id: channel
            for channel in channels
            for connection in self._connections.get(channel, ())
        }
        wanted = [c for c in self._reader.connections if c.id in owners]
        if not wanted:
            return
        expected = sum(connection.msgcount for connection in wanted)
        whole = start_ns is None and stop_ns is None
        given = 0
        times = sorted(entry.time for c in wanted for entry in self._reader.indexes[c.id])
        while True:
            last_ns = -1 if start_ns is None else start_ns - 1
            try:
                for connection, log_ns, data in self._reader.messages(wanted, start_ns, stop_ns):
                    given += 1
                    last_ns = log_ns
                    time = usable_ns(log_ns)
                    yield RawMessage(owners[connection.id], time, time, bytes(data))
                break
            except Exception as error:  # damaged bytes make rosbags raise nearly anything
                # It read nothing of the next one; go on behind that.
                place = bisect_right(times, last_ns)
                if place == len(times):
                    break
                start_ns = times[place] + 1
                report.warn(
                    f"{self._path}: damaged ({reason_of(error)}): what was recorded "
                    f"{at_time(times[place])} is lost"
                )
        if whole and given < expected:
            missing = expected - given
            text = f"{self._path}: {missing} messages that its index promises cannot be read"
            report.lose(owners[wanted[0].id].topic, missing, text)


def _bounded(compression: str, limit: int) -> Callable[[bytes], bytes]:
    """A decompressor that stops at a limit; raises ValueError beyond it."""

    def decompress(data: bytes) -> bytes:
        if compression == "bz2":
            content = bz2.BZ2Decompressor().decompress(data, limit + 1)
        else:
            content = lz4.frame.LZ4FrameDecompressor().decompress(data, limit + 1)
        if len(content) > limit:
            raise TooLarge(limit)
        return content

    return decompress
