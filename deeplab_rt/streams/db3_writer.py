"""A .db3 file: rosbag2's sqlite3 storage, readable after every frame."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

# rosbag2's schema of version 4: https://github.com/ros2/rosbag2, rosbag2_storage_sqlite3.
_SCHEMA = """
CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT NOT NULL);
CREATE TABLE metadata(
    id INTEGER PRIMARY KEY, metadata_version INTEGER NOT NULL, metadata TEXT NOT NULL);
CREATE TABLE topics(
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL,
    serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL,
    type_description_hash TEXT NOT NULL);
CREATE TABLE message_definitions(
    id INTEGER PRIMARY KEY, topic_type TEXT NOT NULL, encoding TEXT NOT NULL,
    encoded_message_definition TEXT NOT NULL, type_description_hash TEXT NOT NULL);
CREATE TABLE messages(
    id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL,
    data BLOB NOT NULL);
CREATE INDEX timestamp_idx ON messages (timestamp ASC);
INSERT INTO schema(schema_version, ros_distro) VALUES (4, 'rosbags');
"""


class Db3Writer:
    """Writes one file. Topics may be added at any time."""

    def __init__(self, path: Path) -> None:
        """Create the file, which must not exist.

        Raises:
            OSError: it exists or cannot be written.
            sqlite3.Error: SQLite cannot write it.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._handle = os.open(path, flags, 0o666)
        # as_uri() escapes what means something in a URI (#, ?, %). Another thread may close it.
        uri = f"{path.absolute().as_uri()}?mode=rw"
        self._database = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False
        )
        # A killed process loses nothing of what was committed; a power cut may, as with other files.
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("PRAGMA cache_size = -65536")  # KiB; a frame's rows fit
        self._database.executescript(_SCHEMA)

    @property
    def fileno(self) -> int:
        return self._handle

    def add_schema(self, name: str, encoding: str, data: bytes, type_hash: str) -> None:
        """Declare a message type."""
        self._database.execute(
            "INSERT INTO message_definitions (topic_type, encoding, encoded_message_definition, "
            "type_description_hash) VALUES (?, ?, ?, ?)",
            (name, encoding, data.decode("utf-8", "replace"), type_hash),
        )

    def add_channel(self, topic: str, kind: str, qos: str, type_hash: str) -> int:
        """Declare a topic; returns its number."""
        cursor = self._database.execute(
            "INSERT INTO topics (name, type, serialization_format, offered_qos_profiles, "
            "type_description_hash) VALUES (?, ?, 'cdr', ?, ?)",
            (topic, kind, qos, type_hash),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def add_message(self, channel: int, log_ns: int, data: bytes) -> None:
        """Add a message, which :meth:`flush` makes readable."""
        if not self._database.in_transaction:
            self._database.execute("BEGIN")
        self._database.execute(
            "INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)",
            (channel, log_ns, data),
        )

    def flush(self) -> None:
        """Make what was added readable."""
        if self._database.in_transaction:
            self._database.execute("COMMIT")

    def rewind(self) -> None:
        """After a failed write: forget what came after the newest :meth:`flush`."""
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    def add_metadata(self, version: int, text: str) -> None:
        """Keep rosbag2's description of the bag in it."""
        query = "INSERT INTO metadata (metadata_version, metadata) VALUES (?, ?)"
        self._database.execute(query, (version, text))

    def close(self) -> None:
        """Commit and close."""
        self.flush()
        self.abandon()

    def abandon(self) -> None:
        """Let go of the file; what was not committed is lost."""
        self._database.close()
        os.close(self._handle)
