"""Masks into a rosbag2 that describes itself: topics, types and QoS as the node publishes them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, Protocol

import cv2
import yaml
from mcap import writer as mcap_writer
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.metadata import dump_qos_v8

from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.streams.messages import (
    COMPRESSED_IMAGE,
    IMAGE,
    LABEL_INFO,
    header,
    jpeg_message,
    label_info_message,
    mask_message,
    typestore,
)
from deeplab_rt.streams.outputs import RESERVE, check_new_bag, check_space, remove_bag, writing

JPEG_QUALITY = 90
_INDEX_BYTES = 512  # of a bag's index for each frame, kept free on the disk
_VERSION: Literal[8] = 8  # of rosbag2's metadata; later ones write QoS in a way Humble cannot read


@dataclass(frozen=True)
class _Topic:
    """A topic of the bag; the QoS is what the node offers on it."""

    name: str
    type: str
    latched: bool = False

    @property
    def qos(self) -> list[Qos]:
        durability = QosDurability.TRANSIENT_LOCAL if self.latched else QosDurability.VOLATILE
        endless = QosTime(9_223_372_036, 854_775_807)  # RMW_DURATION_INFINITE
        return [
            Qos(
                QosHistory.KEEP_LAST,
                1 if self.latched else 5,
                QosReliability.RELIABLE,
                durability,
                endless,
                endless,
                QosLiveliness.AUTOMATIC,
                endless,
                False,
            )
        ]


_LABELS = _Topic("/deeplab/label_info", LABEL_INFO, latched=True)
_MASKS = {
    "drivable": _Topic("/deeplab/drivable_mask", IMAGE),
    "objects": _Topic("/deeplab/object_mask", IMAGE),
    "labels": _Topic("/deeplab/label_mask", IMAGE),
}
_FRAMES = _Topic("/image/compressed", COMPRESSED_IMAGE)


class BagSink:
    """The masks of every frame, with its stamp and frame_id, after one label_info.

    ``OUT`` makes a rosbag2 directory with an .mcap file in it, ``OUT.mcap`` that file alone, and
    ``OUT.db3`` a sqlite3 file. An .mcap file holds every frame from the moment it is written: if
    the process is killed only the index is missing, and what reads bags front to back
    (``deeplab_rt replay``, ``ros2 bag reindex``, ``mcap recover``) reads it. A sqlite3 file takes
    its name when it is closed.
    """

    def __init__(
        self, path: Path, labels: LabelSet, overwrite: bool = False, with_frames: bool = False
    ) -> None:
        """Check the name; nothing is written (or replaced) before the first frame.

        Args:
            path: of the bag.
            labels: of the masks.
            overwrite: whether a bag of this name is replaced.
            with_frames: whether to record the frames too, as JPEG on ``/image/compressed``.

        Raises:
            StreamError: it exists and may not be replaced, or its folder does not exist.
        """
        check_new_bag(path, overwrite)
        self.path = path
        self._labels = labels
        self._overwrite = overwrite
        self._with_frames = with_frames
        self._storage: _Storage | None = None
        self._failed = False
        self._frames = 0

    def write(self, frame: Frame, masks: Masks) -> None:
        """Append the masks.

        Raises:
            StreamError: the disk is full or gone; what was written before is readable.
        """
        check_space(self.path, RESERVE + _INDEX_BYTES * self._frames)
        log_ns = max(frame.stamp_ns, 0) if frame.log_ns is None else frame.log_ns
        head = header(frame.stamp_ns, frame.frame_id)
        try:
            with writing(self.path):
                if self._storage is None:
                    self._storage = self._open()
                    self._storage.write(_LABELS, log_ns, label_info_message(head, self._labels))
                if self._with_frames:
                    self._storage.write(_FRAMES, log_ns, jpeg_message(head, _jpeg(frame)))
                for name, topic in _MASKS.items():
                    message = mask_message(head, getattr(masks, name))
                    self._storage.write(topic, log_ns, message)
                self._storage.flush()
        except BaseException:
            self._failed = True
            raise
        self._frames += 1

    def close(self) -> None:
        storage, self._storage = self._storage, None
        if storage is None:
            return
        if self._failed:
            storage.abandon()
        else:
            with writing(self.path):
                storage.close()

    def _open(self) -> _Storage:
        if self._overwrite:
            remove_bag(self.path)
        topics = [_LABELS, *([_FRAMES] if self._with_frames else []), *_MASKS.values()]
        return (_Sqlite3File if self.path.suffix == ".db3" else _Mcap)(self.path, topics)


def _jpeg(frame: Frame) -> Any:
    return cv2.imencode(".jpg", frame.bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]


class _Storage(Protocol):
    def __init__(self, path: Path, topics: list[_Topic]) -> None: ...

    def write(self, topic: _Topic, log_ns: int, message: Any) -> None: ...

    def flush(self) -> None:
        """Hand what was written to the operating system, readable without an index."""

    def close(self) -> None:
        """Write the index and the metadata."""

    def abandon(self) -> None:
        """After a failed write: let go, without adding anything."""


class _Mcap:
    """An .mcap file, in zstd chunks with checksums: masks shrink to a fiftieth or less."""

    def __init__(self, path: Path, topics: list[_Topic]) -> None:
        self._directory = None if path.suffix == ".mcap" else path
        if self._directory is not None:
            self._directory.mkdir()
        self._file = path if self._directory is None else path / f"{path.name}_0.mcap"
        self._stream = self._file.open("xb")
        self._writer: Any = mcap_writer.Writer(self._stream)
        self._writer.start("ros2", "deeplab_rt")
        self._topics = topics
        self._counts = {topic.name: 0 for topic in topics}
        self._times: tuple[int, int] | None = None
        self._channels: dict[str, int] = {}
        schemas: dict[str, int] = {}
        for topic in topics:
            if topic.type not in schemas:
                definition, _ = typestore().generate_msgdef(topic.type, ros_version=2)
                schemas[topic.type] = self._writer.register_schema(
                    topic.type, "ros2msg", definition.encode()
                )
            metadata = {
                "offered_qos_profiles": dump_qos_v8(topic.qos),
                "topic_type_hash": typestore().hash_rihs01(topic.type),
            }
            self._channels[topic.name] = self._writer.register_channel(
                topic.name, "cdr", schemas[topic.type], metadata
            )

    def write(self, topic: _Topic, log_ns: int, message: Any) -> None:
        data = bytes(typestore().serialize_cdr(message, topic.type))
        count = self._counts[topic.name]
        self._writer.add_message(self._channels[topic.name], log_ns, data, log_ns, count)
        self._counts[topic.name] = count + 1
        first, last = self._times or (log_ns, log_ns)
        self._times = (min(first, log_ns), max(last, log_ns))

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        text = yaml.safe_dump(self._metadata(), sort_keys=False)
        self._writer.add_metadata("rosbag2", {"serialized_metadata": text})
        self._writer.finish()
        self._stream.close()
        if self._directory is not None:
            text = yaml.safe_dump(
                {"rosbag2_bagfile_information": self._metadata()}, sort_keys=False
            )
            (self._directory / "metadata.yaml").write_text(text, encoding="utf-8")

    def abandon(self) -> None:
        with suppress(OSError):  # what could not be written before cannot be written now either
            self._stream.close()

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
            "storage_identifier": "mcap",
            **span(),
            "topics_with_message_count": [
                {
                    "topic_metadata": {
                        "name": topic.name,
                        "type": topic.type,
                        "serialization_format": "cdr",
                        "offered_qos_profiles": dump_qos_v8(topic.qos),
                        "type_description_hash": typestore().hash_rihs01(topic.type),
                    },
                    "message_count": self._counts[topic.name],
                }
                for topic in self._topics
            ],
            "compression_format": "",
            "compression_mode": "",
            "relative_file_paths": [self._file.name],
            "files": [{"path": self._file.name, **span()}],
            "custom_data": None,
            "ros_distro": "",
        }


class _Sqlite3File:
    """A .db3 file, by rosbags, which makes a directory: the file moves out of it when closed."""

    def __init__(self, path: Path, topics: list[_Topic]) -> None:
        self._path = path
        self._place = TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.")
        self._bag = Path(self._place.name) / path.stem
        self._writer = Writer(self._bag, version=_VERSION, storage_plugin=StoragePlugin.SQLITE3)
        self._writer.open()
        self._connections = {
            topic.name: self._writer.add_connection(
                topic.name,
                topic.type,
                typestore=typestore(),
                offered_qos_profiles=topic.qos,
            )
            for topic in topics
        }

    def write(self, topic: _Topic, log_ns: int, message: Any) -> None:
        data = typestore().serialize_cdr(message, topic.type)
        self._writer.write(self._connections[topic.name], log_ns, data)

    def flush(self) -> None: ...

    def close(self) -> None:
        self._writer.close()
        (self._bag / self._path.name).replace(self._path)
        self._place.cleanup()

    def abandon(self) -> None:
        # What SQLite took before the failure is whole, so it is kept.
        with writing(self._path):
            self.close()
