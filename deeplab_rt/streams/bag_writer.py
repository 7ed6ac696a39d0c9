"""Masks into a rosbag2 that describes itself: topics, types and QoS as the node publishes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2.metadata import dump_qos_v8

from deeplab_rt.errors import FrameError, StreamError
from deeplab_rt.frame import Frame, Size
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.streams.bag_storage import BagStorage
from deeplab_rt.streams.messages import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    IMAGE,
    LABEL_INFO,
    Ros1Converter,
    camera_info_message,
    header,
    jpeg_message,
    label_info_message,
    mask_message,
    typestore,
)
from deeplab_rt.streams.outputs import (
    RESERVE,
    Claim,
    check_new_bag,
    check_space,
    keep_partial,
    remove_bag,
    writing,
)
from deeplab_rt.streams.records import BagChannel, BagFrame, RawMessage

JPEG_QUALITY = 90
_INDEX_BYTES = 512  # of a bag's index for each frame, kept free on the disk


def _channel(topic: str, kind: str, latched: bool = False) -> BagChannel:
    """A topic of the bag; the QoS is what the node offers on it."""
    durability = QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE
    endless = QosTime(9_223_372_036, 854_775_807)  # RMW_DURATION_INFINITE
    qos = Qos(
        QosHistory.KEEP_LAST,
        1 if latched else 5,
        QosReliability.RELIABLE,
        durability,
        endless,
        endless,
        QosLiveliness.AUTOMATIC,
        endless,
        False,
    )
    definition, _ = typestore().generate_msgdef(kind, ros_version=2)
    type_hash = typestore().hash_rihs01(kind)
    return BagChannel(
        topic, kind, "cdr", "ros2msg", definition.encode(), dump_qos_v8([qos]), type_hash
    )


def mask_topic(camera: str, name: str) -> str:
    """The topic of a camera's ``label_mask``, ``confidence`` ...; of the only one where it is empty."""
    return f"/deeplab/{camera.strip('/')}/{name}" if camera else f"/deeplab/{name}"


class _Topics:
    """The topics of one camera."""

    def __init__(self, camera: str) -> None:
        space = mask_topic(camera, "")[:-1]
        self.labels = _channel(f"{space}/label_info", LABEL_INFO, latched=True)
        self.masks = {
            "drivable": _channel(f"{space}/drivable_mask", IMAGE),
            "objects": _channel(f"{space}/object_mask", IMAGE),
            "labels": _channel(f"{space}/label_mask", IMAGE),
        }
        self.confidence = _channel(f"{space}/confidence", IMAGE)
        self.camera_info = _channel(f"{space}/camera_info", CAMERA_INFO)
        image = f"/{camera.strip('/')}" if camera else "/image"
        self.frames = _channel(f"{image}/compressed", COMPRESSED_IMAGE)


@lru_cache(maxsize=64)
def _topics(camera: str) -> _Topics:
    return _Topics(camera)


class BagSink:
    """The masks of every frame, with its stamp and frame_id, after one label_info for each camera.

    ``OUT`` makes a rosbag2 directory with an .mcap file in it, ``OUT.mcap`` that file alone, and
    ``OUT.db3`` a sqlite3 file. The bag has its name, and holds every frame, from the moment the
    frame is written: if the process is killed only the index is missing, and what reads bags front
    to back (``deeplab_rt replay``, ``ros2 bag reindex``, ``mcap recover``) reads it.

    Topics lie under ``/deeplab/``; those of a frame with a ``camera`` under ``/deeplab/CAMERA/``.
    Confidence and camera_info (brought to the masks' size) are written where the masks and the
    frame have them.
    """

    def __init__(
        self,
        path: Path,
        labels: LabelSet,
        overwrite: bool = False,
        with_frames: bool = False,
        with_input: bool = False,
    ) -> None:
        """Check and claim the name; nothing is written (or replaced) before the first frame.

        Args:
            path: of the bag.
            labels: of the masks.
            overwrite: whether a bag of this name is replaced.
            with_frames: whether to record the frames too, as JPEG on ``/image/compressed``.
            with_input: whether to copy the messages that frames of a bag carry
                (``ReadOptions.raw``), untouched; those of ROS 1 become ROS 2's.

        Raises:
            StreamError: it exists and may not be replaced, its folder does not exist, or another
                command is writing it.
        """
        self._claim = Claim(path)
        check_new_bag(path, overwrite)
        self.path = path
        self.warnings: list[str] = []
        self._labels = labels
        self._overwrite = overwrite
        self._with_frames = with_frames
        self._with_input = with_input
        self._storage: BagStorage | None = None
        self._cameras: set[str] = set()
        self._converter = Ros1Converter()
        self._left_out: set[str] = set()
        self._frames = 0

    def write(self, frame: Frame, masks: Masks) -> None:
        """Append the masks.

        Raises:
            StreamError: the disk is full or gone; what was written before is readable, under a
                name that says that it is partial.
        """
        with self._kept_on_failure():
            check_space(self.path, RESERVE + _INDEX_BYTES * self._frames)
            if self._storage is None:
                self._storage = self._open()
            self._append(self._storage, frame, masks)
            self._storage.flush()
        self._frames += 1

    def add_messages(self, messages: Iterable[RawMessage]) -> None:
        """Copy messages of the input that no frame carries: those after the last one.

        Raises:
            StreamError: as :meth:`write`.
        """
        if self._storage is None or not self._with_input:
            return
        with self._kept_on_failure():
            for message in messages:
                self._copy(self._storage, message)
            self._storage.flush()

    def close(self) -> None:
        try:
            if self._storage is not None:
                with self._kept_on_failure():
                    self._storage.close()
        finally:
            self._storage = None
            self._claim.release()

    @contextmanager
    def _kept_on_failure(self) -> Iterator[None]:
        """Close what was written before a failure under a name that says that it is partial."""
        try:
            with writing(self.path):
                yield
        except BaseException as error:
            storage, self._storage = self._storage, None
            if storage is None:
                raise
            storage.abandon()
            kept = keep_partial(self.path)
            if isinstance(error, StreamError):
                text = f"{error}; the {self._frames} frames before are in {kept}"
                raise StreamError(text) from None
            raise

    def _open(self) -> BagStorage:
        if self._overwrite:
            remove_bag(self.path)
        return BagStorage(self.path)

    def _append(self, storage: BagStorage, frame: Frame, masks: Masks) -> None:
        topics = _topics(frame.camera)
        log_ns = max(frame.stamp_ns, 0) if frame.log_ns is None else frame.log_ns
        head = header(frame.stamp_ns, frame.frame_id)

        def write(channel: BagChannel, message: Any) -> None:
            data = bytes(typestore().serialize_cdr(message, channel.type))
            storage.write(channel, log_ns, data)

        if frame.camera not in self._cameras:
            self._cameras.add(frame.camera)
            for channel in (topics.labels, *topics.masks.values()):
                storage.add_channel(channel)
            write(topics.labels, label_info_message(head, self._labels))
        if self._with_input and isinstance(frame, BagFrame):
            for raw in frame.messages:
                self._copy(storage, raw)
        if self._with_frames:
            write(topics.frames, jpeg_message(head, _jpeg(frame)))
        for name, channel in topics.masks.items():
            write(channel, mask_message(head, getattr(masks, name)))
        if masks.confidence is not None:
            write(topics.confidence, mask_message(head, masks.confidence))
        if isinstance(frame, BagFrame) and frame.camera_info is not None:
            self._write_camera_info(write, topics, head, frame.camera_info, masks.size)

    def _write_camera_info(
        self, write: Any, topics: _Topics, head: Any, info: Any, size: Size
    ) -> None:
        try:
            message = camera_info_message(head, info, size)
        except FrameError as error:
            self._leave_out(topics.camera_info.topic, str(error))
        else:
            write(topics.camera_info, message)

    def _copy(self, storage: BagStorage, raw: RawMessage) -> None:
        """A message of the input as it is, unless its topic is one of the masks'."""
        if any(raw.channel.topic in _own_topics(camera) for camera in self._cameras):
            self._leave_out(raw.channel.topic, "the new masks take its place")
            return
        channel, data = raw.channel, raw.data
        if channel.encoding == "ros1":
            try:
                channel, data = self._converter.convert(channel, data)
            except FrameError as error:
                self._leave_out(raw.channel.topic, str(error))
                return
        elif not channel.schema:
            channel = _described(channel)
        storage.write(channel, raw.log_ns or 0, data, raw.publish_ns)

    def _leave_out(self, topic: str, reason: str) -> None:
        if topic not in self._left_out:
            self._left_out.add(topic)
            self.warnings.append(f"{self.path}: without {topic}: {reason}")


@lru_cache(maxsize=64)
def _own_topics(camera: str) -> frozenset[str]:
    topics = _topics(camera)
    channels = (topics.labels, topics.confidence, topics.camera_info, *topics.masks.values())
    return frozenset(channel.topic for channel in channels)


@lru_cache(maxsize=256)
def _described(channel: BagChannel) -> BagChannel:
    """A topic of an old .db3 file, which has no definitions, with that of its type if we know it."""
    if channel.type not in typestore().fielddefs:
        return channel
    definition, _ = typestore().generate_msgdef(channel.type, ros_version=2)
    type_hash = channel.type_hash or typestore().hash_rihs01(channel.type)
    return replace(
        channel, schema_encoding="ros2msg", schema=definition.encode(), type_hash=type_hash
    )


def _jpeg(frame: Frame) -> np.ndarray:
    encoded: np.ndarray = cv2.imencode(".jpg", frame.bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[
        1
    ]
    return encoded
