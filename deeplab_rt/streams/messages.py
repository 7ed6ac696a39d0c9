"""ROS messages in bags, without ROS: their types, and masks and labels as messages."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from deeplab_rt.camera.calibration import fill_camera_info
from deeplab_rt.errors import FrameError, reason_of
from deeplab_rt.labels import LabelSet
from deeplab_rt.streams.records import BagChannel

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
FFMPEG_PACKET = "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"
COMPRESSED_VIDEO = "foxglove_msgs/msg/CompressedVideo"
LABEL_INFO = "vision_msgs/msg/LabelInfo"

# What the typestores of rosbags lack: https://github.com/ros-perception/vision_msgs (branch ros2),
# https://github.com/ros-misc-utilities/ffmpeg_image_transport_msgs, https://docs.foxglove.dev.
_MORE_MSGS = {
    "vision_msgs/msg/VisionClass": "uint16 class_id\nstring class_name\n",
    LABEL_INFO: (
        "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n"
    ),
    FFMPEG_PACKET: (
        "std_msgs/Header header\nint32 width\nint32 height\nstring encoding\nuint64 pts\n"
        "uint8 flags\nbool is_bigendian\nuint8[] data\n"
    ),
    COMPRESSED_VIDEO: (
        "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n"
    ),
}


@lru_cache(maxsize=1)
def typestore() -> Any:
    """The message types of ROS 2 Humble and later that this package reads and writes."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    for name, definition in _MORE_MSGS.items():
        store.register(get_types_from_msg(definition, name))
    return store


@lru_cache(maxsize=1)
def ros1_typestore() -> Any:
    """The message types of ROS 1."""
    return get_typestore(Stores.ROS1_NOETIC)


def deserialize(data: bytes, kind: str, encoding: str) -> Any:
    """A message from its bytes.

    Args:
        data: serialised.
        kind: ROS 2's name of its type.
        encoding: ``cdr`` (ROS 2) or ``ros1``.

    Raises:
        FrameError: the bytes are not such a message.
    """
    try:
        if encoding == "ros1":
            return ros1_typestore().deserialize_ros1(data, kind)
        return typestore().deserialize_cdr(data, kind)
    except Exception as error:  # damaged bytes make rosbags raise nearly anything
        raise FrameError(f"the message is damaged ({reason_of(error)})") from None


def header(stamp_ns: int, frame_id: str) -> Any:
    """A ``std_msgs/Header``."""
    types = typestore().types
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    stamp = types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
    return types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)


def stamp_ns(message: Any) -> int:
    """The stamp of a message with a header (or, foxglove's way, a timestamp), in nanoseconds.

    Raises:
        FrameError: it is no time that a ROS 2 message can carry.
    """
    stamp = message.timestamp if hasattr(message, "timestamp") else message.header.stamp
    seconds, nanoseconds = int(stamp.sec), int(stamp.nanosec)
    if not -(1 << 31) <= seconds < 1 << 31 or not 0 <= nanoseconds < 1_000_000_000:
        raise FrameError(
            f"a stamp of {seconds} s and {nanoseconds} ns: expected 32 bits of seconds and less than "
            "1000000000 ns"
        )
    return seconds * 1_000_000_000 + nanoseconds


def frame_id(message: Any) -> str:
    """The coordinate frame of a message with a header, or foxglove's way."""
    return str(message.frame_id if hasattr(message, "frame_id") else message.header.frame_id)


def mask_message(head: Any, mask: np.ndarray) -> Any:
    """A ``sensor_msgs/Image`` of encoding mono8 from a uint8 [H, W] mask."""
    height, width = mask.shape
    return typestore().types[IMAGE](
        header=head,
        height=height,
        width=width,
        encoding="mono8",
        is_bigendian=0,
        step=width,
        data=np.ascontiguousarray(mask).reshape(-1),
    )


def jpeg_message(head: Any, jpeg: np.ndarray) -> Any:
    """A ``sensor_msgs/CompressedImage`` from the uint8 [N] bytes of a JPEG."""
    return typestore().types[COMPRESSED_IMAGE](header=head, format="jpeg", data=jpeg)


def label_info_message(head: Any, labels: LabelSet) -> Any:
    """A ``vision_msgs/LabelInfo``: the name of every published label id; 0, none, has no name."""
    types = typestore().types
    entry = types["vision_msgs/msg/VisionClass"]
    classes = [entry(class_id=label.id, class_name=label.name) for label in labels.labels]
    return types[LABEL_INFO](header=head, class_map=classes, threshold=0.0)


def camera_info_message(head: Any, info: Any, size: tuple[int, int]) -> Any:
    """A ``sensor_msgs/CameraInfo`` for images of ``size`` (height, width) from the camera's own.

    Args:
        head: the new message's header.
        info: of ROS 2, or of ROS 1 (whose matrices have capital names).
        size: (height, width) in pixels.

    Raises:
        FrameError: the camera is not calibrated.
    """
    types = typestore().types
    matrices = {
        name: np.asarray(getattr(info, name if hasattr(info, name) else name.upper()), np.float64)
        for name in "dkrp"
    }
    region = info.roi
    make_region = types["sensor_msgs/msg/RegionOfInterest"]
    given = types[CAMERA_INFO](
        header=head,
        height=info.height,
        width=info.width,
        distortion_model=info.distortion_model,
        **matrices,
        binning_x=0,
        binning_y=0,
        roi=make_region(region.x_offset, region.y_offset, region.height, region.width, False),
    )
    scaled = replace(given, roi=make_region(0, 0, 0, 0, False))
    fill_camera_info(scaled, given, size)
    return scaled


class Ros1Converter:
    """Messages of ROS 1 to those of ROS 2."""

    def __init__(self) -> None:
        self._store = get_typestore(Stores.ROS2_HUMBLE)
        self._channels: dict[BagChannel, BagChannel | None] = {}

    def convert(self, channel: BagChannel, data: bytes) -> tuple[BagChannel, bytes]:
        """A topic and one of its messages.

        Raises:
            FrameError: the type has no counterpart, or the message is damaged.
        """
        if channel not in self._channels:
            self._channels[channel] = self._counterpart(channel)
        found = self._channels[channel]
        if found is None:
            raise FrameError(f"{channel.type} of ROS 1 has no counterpart in ROS 2")
        try:
            return found, bytes(self._store.ros1_to_cdr(data, channel.type))
        except Exception as error:  # damaged bytes make rosbags raise nearly anything
            raise FrameError(f"the message is damaged ({error})") from None

    def _counterpart(self, channel: BagChannel) -> BagChannel | None:
        try:
            if channel.type not in self._store.fielddefs:
                types = get_types_from_msg(channel.schema.decode(), channel.type)
                new = {name: t for name, t in types.items() if name not in self._store.fielddefs}
                self._store.register(new)
            definition, _ = self._store.generate_msgdef(channel.type, ros_version=2)
            type_hash = self._store.hash_rihs01(channel.type)
        except Exception:  # a definition that rosbags cannot read
            return None
        return BagChannel(
            channel.topic, channel.type, "cdr", "ros2msg", definition.encode(), "", type_hash
        )
