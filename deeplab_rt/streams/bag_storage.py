"""A rosbag2 of any topics: a directory with an .mcap file, an .mcap file or a .db3 file."""

from __future__ import annotations

import fcntl
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from deeplab_rt.streams.db3_writer import Db3Writer
from deeplab_rt.streams.mcap_writer import McapWriter
from deeplab_rt.streams.records import BagChannel

_VERSION = 8  # of rosbag2's metadata; later ones write QoS in a way Humble cannot read


class BagStorage:
    """Writes messages in the order in which they are given.

    The bag has its name from the first moment on, and after each :meth:`flush` everything before it
    is readable, whatever happens to the process: of an .mcap file then only the index is missing.
    """

    def __init__(self, path: Path) -> None:
        """Create the bag; nothing of its name exists.

        Args:
            path: ``OUT`` makes a directory, ``OUT.mcap`` and ``OUT.db3`` a file.

        Raises:
            OSError: it exists or cannot be written.
            sqlite3.Error: the same, of a .db3 file.
        """
        self._path = path
        self._directory = None if path.suffix in (".mcap", ".db3") else path
        if self._directory is not None:
            self._directory.mkdir()
        self._file = path if self._directory is None else path / f"{path.name}_0.mcap"
        self._database = Db3Writer(path) if path.suffix == ".db3" else None
        self._mcap = None if self._database else McapWriter(self._file, "ros2", "deeplab_rt")
        with suppress(OSError):  # a file system without locks
            fcntl.flock(self._writer.fileno, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._schemas: dict[str, int] = {}
        self._channels: dict[BagChannel, int] = {}
        self._counts: dict[BagChannel, int] = {}
        self._pending: dict[BagChannel, int] = {}
        self._times: tuple[int, int] | None = None

    @property
    def _writer(self) -> McapWriter | Db3Writer:
        writer = self._mcap or self._database
        assert writer is not None
        return writer

    def add_channel(self, channel: BagChannel) -> None:
        """Declare a topic, so that it is in the bag even if it gets no message."""
        if channel in self._channels:
            return
        if self._mcap is not None:
            if channel.type not in self._schemas:
                encoding = channel.schema_encoding or "ros2msg"
                number = self._mcap.add_schema(channel.type, encoding, channel.schema)
                self._schemas[channel.type] = number
            metadata = {
                "offered_qos_profiles": channel.qos,
                "topic_type_hash": channel.type_hash,
            }
            number = self._mcap.add_channel(
                channel.topic, channel.encoding, self._schemas[channel.type], metadata
            )
        else:
            assert self._database is not None
            if channel.type not in self._schemas:
                self._schemas[channel.type] = 0
                encoding = channel.schema_encoding or "ros2msg"
                self._database.add_schema(channel.type, encoding, channel.schema, channel.type_hash)
            number = self._database.add_channel(
                channel.topic, channel.type, channel.qos, channel.type_hash
            )
        self._channels[channel] = number
        self._counts[channel] = 0

    def write(
        self, channel: BagChannel, log_ns: int, data: bytes, publish_ns: int | None = None
    ) -> None:
        """Add a message.

        Args:
            channel: is declared if it is not yet.
            log_ns: when it was recorded, 0 or later.
            data: the serialised message.
            publish_ns: when it was published, if that is known.
        """
        self.add_channel(channel)
        number = self._channels[channel]
        if self._mcap is not None:
            published = log_ns if publish_ns is None else publish_ns
            self._mcap.add_message(number, log_ns, published, data)
        else:
            assert self._database is not None
            self._database.add_message(number, log_ns, data)
        self._pending[channel] = self._pending.get(channel, 0) + 1
        first, last = self._times or (log_ns, log_ns)
        self._times = (min(first, log_ns), max(last, log_ns))

    def flush(self) -> None:
        """Make what was written readable."""
        self._writer.flush()
        for channel, count in self._pending.items():
            self._counts[channel] += count
        self._pending.clear()

    def close(self) -> None:
        """Write the index and the metadata."""
        self.flush()
        text = yaml.safe_dump(self._metadata(), sort_keys=False)
        if self._mcap is not None:
            self._mcap.add_metadata("rosbag2", {"serialized_metadata": text})
        else:
            assert self._database is not None
            self._database.add_metadata(_VERSION, text)
        self._writer.close()
        if self._directory is not None:
            text = yaml.safe_dump(
                {"rosbag2_bagfile_information": self._metadata()}, sort_keys=False
            )
            (self._directory / "metadata.yaml").write_text(text, encoding="utf-8")

    def abandon(self) -> None:
        """After a failed write: close with what was readable before it, with an index if possible."""
        writer = self._writer
        self._pending.clear()
        try:
            writer.rewind()
            self.close()
        except Exception:  # the disk is full: then without an index
            with suppress(Exception):
                writer.rewind()
            with suppress(Exception):
                writer.abandon()

    def _metadata(self) -> dict[str, Any]:
        """rosbag2's description of the bag, as its ``metadata_io`` reads it."""
        first, last = self._times or (0, 0)
        count = sum(self._counts.values())

        def span() -> dict[str, Any]:
            return {
                "duration": {"nanoseconds": last - first},
                "starting_time": {"nanoseconds_since_epoch": first},
                "message_count": count,
            }

        return {
            "version": _VERSION,
            "storage_identifier": "mcap" if self._mcap else "sqlite3",
            **span(),
            "topics_with_message_count": [
                {
                    "topic_metadata": {
                        "name": channel.topic,
                        "type": channel.type,
                        "serialization_format": channel.encoding,
                        "offered_qos_profiles": channel.qos,
                        "type_description_hash": channel.type_hash,
                    },
                    "message_count": messages,
                }
                for channel, messages in self._counts.items()
            ],
            "compression_format": "",
            "compression_mode": "",
            "relative_file_paths": [self._file.name],
            "files": [{"path": self._file.name, **span()}],
            "custom_data": None,
            "ros_distro": "",
        }
