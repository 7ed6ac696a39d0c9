"""One .db3 file (rosbag2's sqlite3 storage), whole or damaged."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from deeplab_rt.errors import StreamError
from deeplab_rt.streams.containers import missing_bytes
from deeplab_rt.streams.outputs import RESERVE
from deeplab_rt.streams.records import (
    BagChannel,
    LossReport,
    RawMessage,
    at_time,
    ros2_type,
    usable_ns,
)

_JOURNALS = ("-wal", "-journal")


class Db3File:
    """Reads one file, which is never written to.

    Where SQLite left messages in a journal beside it (a recorder that was killed), a temporary copy
    is read, in which SQLite puts them where they belong.
    """

    def __init__(self, path: Path, report: LossReport) -> None:
        """Find out what the file holds.

        Args:
            path: of the file.
            report: takes what is wrong with it.

        Raises:
            StreamError: it is no such file, or its tables cannot be read.
            OSError: it cannot be read.
        """
        self._path = path
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._database: sqlite3.Connection | None = None
        try:
            if lost := missing_bytes(path):
                report.warn(
                    f"{path}: cut off: {lost} bytes fewer than its header says; messages are missing"
                )
            self._database = self._connect(report)
            self._topics = self._read_topics()
            # Ids and times are kept, 18 bytes a message, so that a damaged index loses nothing.
            self._ids, self._times, self._owners = self._read_times(report)
            counts = Counter(self._owners.tolist())
            self.channels: dict[BagChannel, int] = {}
            for number, channel in self._topics.items():
                self.channels[channel] = self.channels.get(channel, 0) + counts[number]
        except BaseException as error:
            self.close()
            if isinstance(error, (sqlite3.Error, ValueError)):
                raise StreamError(
                    f"{path}: cannot be read as a bag: {error}; copy it again, or recover it with "
                    f"`sqlite3 {path} .recover`"
                ) from None
            raise

    def close(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()
        copy, self._copy = self._copy, None
        if copy is not None:
            copy.cleanup()

    def span(self) -> tuple[int, int] | None:
        if not len(self._times):
            return None
        return int(self._times.min()), int(self._times.max())

    def messages(
        self,
        channels: Collection[BagChannel],
        report: LossReport,
        start_ns: int | None = None,
        stop_ns: int | None = None,
    ) -> Iterator[RawMessage]:
        wanted = {n: channel for n, channel in self._topics.items() if channel in channels}
        chosen = np.isin(self._owners, list(wanted))
        if start_ns is not None:
            chosen &= self._times >= start_ns
        if stop_ns is not None:
            chosen &= self._times < stop_ns
        places = np.flatnonzero(chosen)
        places = places[np.argsort(self._times[places], kind="stable")]
        for place in places:
            channel = wanted[int(self._owners[place])]
            log_ns = usable_ns(int(self._times[place]))
            try:
                data = self._data(int(self._ids[place]))
            except (sqlite3.Error, ValueError) as error:
                text = (
                    f"{self._path}: a message of {channel.topic} {at_time(log_ns)} is lost: {error}"
                )
                report.lose(channel.topic, 1, text)
                continue
            yield RawMessage(channel, log_ns, log_ns, data)

    def _data(self, number: int) -> bytes:
        assert self._database is not None
        query = "SELECT data FROM messages WHERE id = ?"
        row = self._database.execute(query, (number,)).fetchone()
        if row is None or not isinstance(row[0], bytes):
            raise ValueError("its row holds no data")
        return row[0]

    def _connect(self, report: LossReport) -> sqlite3.Connection:
        path = self._path.absolute()
        journals = [path.with_name(path.name + suffix) for suffix in _JOURNALS]
        journals = [file for file in journals if _size(file)]
        if journals:
            needed = sum(_size(file) for file in (path, *journals)) + RESERVE
            place = tempfile.gettempdir()
            disk = os.statvfs(place)
            if disk.f_bavail * disk.f_frsize >= needed:
                self._copy = tempfile.TemporaryDirectory(prefix="deeplab_rt-")
                for file in (path, *journals):
                    shutil.copyfile(file, Path(self._copy.name) / file.name)
                report.warn(
                    f"{path}: its recorder did not close it; {journals[0].name} is read too"
                )
                return sqlite3.connect(Path(self._copy.name) / path.name, check_same_thread=False)
            report.warn(
                f"{path}: messages in {journals[0].name} are not read: {place} has no room for a "
                f"copy; `sqlite3 {path} 'PRAGMA wal_checkpoint'` puts them where they belong"
            )
        # as_uri() escapes what means something in a URI (#, ?, %), so that this file is opened.
        uri = f"{path.as_uri()}?mode=ro&immutable=1"
        # Opened by one thread, read by another and closed by the first: never by two at once.
        return sqlite3.connect(uri, uri=True, check_same_thread=False)

    def _read_topics(self) -> dict[int, BagChannel]:
        assert self._database is not None
        execute = self._database.execute
        self._database.text_factory = lambda data: data.decode("utf-8", "replace")
        tables = {
            name for (name,) in execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        if not {"topics", "messages"} <= tables:
            raise ValueError("it has no tables of topics and messages")
        columns = {row[1] for row in execute("PRAGMA table_info(topics)")}
        definitions: dict[str, tuple[str, str]] = {}
        if "message_definitions" in tables:
            query = (
                "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
            )
            definitions = {str(row[0]): (str(row[1]), str(row[2])) for row in execute(query)}
        optional = [
            name if name in columns else f"'' AS {name}"
            for name in ("offered_qos_profiles", "type_description_hash")
        ]
        query = f"SELECT id, name, type, serialization_format, {', '.join(optional)} FROM topics"
        topics = {}
        for number, name, kind, encoding, qos, type_hash in execute(query):
            schema_encoding, schema = definitions.get(str(kind), ("", ""))
            topics[number] = BagChannel(
                str(name),
                ros2_type(str(kind)),
                str(encoding),
                schema_encoding,
                schema.encode(),
                str(qos),
                str(type_hash),
            )
        return topics

    def _read_times(self, report: LossReport) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """int64 [N] ids, int64 [N] log times, int64 [N] topics, in the order of the file."""
        assert self._database is not None
        rows: list[tuple[int, int, int]] = []
        seen: set[int] = set()
        columns = "id, timestamp, topic_id FROM messages"
        broken = ""
        # The table first; beyond a page of it that is damaged, the index may know more.
        for query in (f"SELECT {columns} NOT INDEXED", f"SELECT {columns} ORDER BY timestamp"):
            try:
                for number, time, owner in self._database.execute(query):
                    if number in seen or owner not in self._topics:
                        continue
                    if broken:
                        seen.add(number)
                    if isinstance(time, int):
                        rows.append((number, time, owner))
                    else:
                        topic = self._topics[owner].topic
                        text = f"a message of {topic} is recorded at {str(time)[:30]!r}, which is no time"
                        report.lose(topic, 1, f"{self._path}: {text}")
                if not broken:
                    break
            except sqlite3.Error as error:
                if not broken:
                    broken = str(error)
                    seen = {row[0] for row in rows}
        if broken:
            if not rows:
                raise ValueError(broken)
            report.warn(f"{self._path}: damaged ({broken}); {len(rows)} messages are found in it")
        table = np.array(rows, np.int64).reshape(-1, 3)
        return table[:, 0], table[:, 1], table[:, 2]


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0
