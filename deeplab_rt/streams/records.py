"""What a recording holds: channels, raw messages, and frames that know the messages around them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from deeplab_rt.frame import Frame

LATEST_NS = (1 << 63) - 1  # rosbag2 and SQLite count in signed 64 bits


@dataclass(frozen=True)
class BagChannel:
    """A topic as one file of a recording declares it.

    Attributes:
        topic: its name.
        type: ROS 2's name of the message type, ``sensor_msgs/msg/Image``, however the file spells it.
        encoding: of the messages: ``cdr`` (ROS 2), ``ros1``, or what the file says.
        schema_encoding: ``ros2msg``, ``ros2idl``, ``ros1msg``, or empty where the file has no schema.
        schema: the definition of the type.
        qos: the offered QoS profiles as rosbag2's YAML; empty where the file has none.
        type_hash: REP-2011's hash of the type; empty where the file has none.
    """

    topic: str
    type: str
    encoding: str = "cdr"
    schema_encoding: str = ""
    schema: bytes = b""
    qos: str = ""
    type_hash: str = ""


@dataclass(frozen=True)
class RawMessage:
    """One message, as it was recorded.

    Attributes:
        channel: whose it is.
        log_ns: when it was recorded, in ns; None where the file's time is none.
        publish_ns: when it was published, or ``log_ns`` where the file does not tell.
        data: the serialised message, decompressed.
    """

    channel: BagChannel
    log_ns: int | None
    publish_ns: int | None
    data: bytes


@dataclass(frozen=True)
class BagFrame(Frame):
    """A frame of a bag, with what was recorded beside it.

    Attributes:
        messages: with ``ReadOptions.raw`` every message of the bag since the frame before it, its
            own included, in the order of recording; else empty.
        camera_info: the ``sensor_msgs/CameraInfo`` recorded last before the image (else the first)
            on ``camera_info`` in the namespace of its topic or the one above, as rosbags deserialises
            it; None where there is none.
    """

    messages: tuple[RawMessage, ...] = ()
    camera_info: Any = None


class LossReport(Protocol):
    """Takes what a file of a recording had to leave out."""

    def warn(self, text: str) -> None:
        """Tell something that concerns the whole file."""

    def lose(self, topic: str, count: int | None, text: str) -> None:
        """Tell that messages of a topic are lost; ``count`` is None where nobody can know."""


class BagFile(Protocol):
    """One file of a recording."""

    @property
    def channels(self) -> Mapping[BagChannel, int]:
        """Channel -> number of messages, as far as the file tells."""

    def messages(
        self,
        channels: Collection[BagChannel],
        report: LossReport,
        start_ns: int | None = None,
        stop_ns: int | None = None,
    ) -> Iterator[RawMessage]:
        """The messages of some channels in the order of recording.

        Args:
            channels: of this file.
            report: takes what cannot be read.
            start_ns: leave out what was recorded before.
            stop_ns: leave out what was recorded at this time or later.
        """

    def span(self) -> tuple[int, int] | None:
        """When the first and the last message were recorded, in ns; None where it is empty."""

    def close(self) -> None: ...


def ros2_type(name: str) -> str:
    """ROS 2's spelling of a message type.

    ROS 1 and several recorders write ``sensor_msgs/Image``, DDS ``sensor_msgs::msg::dds_::Image_``.
    """
    parts = name.replace("::", "/").split("/")
    if len(parts) == 4 and parts[2] == "dds_":
        parts = [parts[0], parts[1], parts[3].removesuffix("_")]
    return "/".join([parts[0], "msg", parts[1]] if len(parts) == 2 else parts)


def usable_ns(value: object) -> int | None:
    """A time of a file, or None where it is none: text, negative, beyond 63 bits."""
    return value if isinstance(value, int) and 0 <= value <= LATEST_NS else None


def at_time(log_ns: int | None) -> str:
    """``at 1700000000.123 s`` for a warning."""
    return "at an unknown time" if log_ns is None else f"at {log_ns / 1e9:.3f} s"
