"""ROS messages in bags, without ROS: their types, and masks and labels as messages."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from deeplab_rt.labels import LabelSet

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
LABEL_INFO = "vision_msgs/msg/LabelInfo"

# https://github.com/ros-perception/vision_msgs, branch ros2: what the typestores of rosbags lack.
_VISION_MSGS = {
    "vision_msgs/msg/VisionClass": "uint16 class_id\nstring class_name\n",
    LABEL_INFO: (
        "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n"
    ),
}


@lru_cache(maxsize=1)
def typestore() -> Any:
    """The message types of ROS 2 Humble and later that this package reads and writes."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    for name, definition in _VISION_MSGS.items():
        store.register(get_types_from_msg(definition, name))
    return store


def header(stamp_ns: int, frame_id: str) -> Any:
    """A ``std_msgs/Header``."""
    types = typestore().types
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    stamp = types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
    return types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)


def stamp_ns(message: Any) -> int:
    """The header's stamp in nanoseconds."""
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


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
