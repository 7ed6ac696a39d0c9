"""The topics that the node subscribes to for one camera."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSCompatibility, qos_check_compatible, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo

from deeplab_rt.errors import StreamError
from deeplab_rt.ros import qos

TRANSPORTS = {
    "raw": "sensor_msgs/msg/Image",
    "compressed": "sensor_msgs/msg/CompressedImage",
    "ffmpeg": "ffmpeg_image_transport_msgs/msg/FFMPEGPacket",
    "foxglove": "foxglove_msgs/msg/CompressedVideo",
}
"""What images come as, and the type of the messages. The topic ends with the name, but for raw."""


class CameraInputs:
    """Subscriptions of one camera; they exist while the node listens."""

    def __init__(
        self,
        node: LifecycleNode,
        topics: tuple[str, str],
        transport: str,
        reliable: bool,
        on_image: Callable[[Any], None],
        on_lost: Callable[[int], None],
        warn: Callable[[str], None],
    ) -> None:
        """Subscribe.

        Args:
            node: whose they are.
            topics: of images, without the transport's ending, and of camera_info.
            transport: of :data:`TRANSPORTS`; the topic may name another one.
            reliable: whether to ask for reliable delivery.
            on_image: takes each image message.
            on_lost: takes the number of messages that the middleware says it lost.
            warn: takes a line about a mismatch, a missed deadline or a publisher that went silent.

        Raises:
            StreamError: the messages of the transport are not installed.
        """
        self._node = node
        self.info: CameraInfo | None = None
        self._topic, self.transport = image_topic(node.resolve_topic_name(topics[0]), transport)
        self._kind, self._type = message_type(self.transport), TRANSPORTS[self.transport]
        self._profile = qos.image_qos(reliable)
        with ExitStack() as stack:
            stack.callback(self.close)  # of what is made, if not all can be
            self._subscriptions: list[Any] = []
            self._subscriptions.append(self._subscribe(on_image, on_lost, warn))
            info = node.create_subscription(
                CameraInfo, topics[1], self._on_info, qos_profile_sensor_data
            )
            self._subscriptions.append(info)
            stack.pop_all()
        self.description = (
            f"listening to {self._topic} ({self._type}, {qos.in_words(self._profile)}) "
            f"and {info.topic_name}"
        )

    def why_silent(self) -> str:
        """What stands in the place of the publisher of images, for the end of a sentence."""
        wanted = self._type
        others = []
        for info in self._node.get_publishers_info_by_topic(self._topic):
            name = qos.name_of(info)
            if info.topic_type != wanted:
                others.append(f"{name} publishes {info.topic_type} there, not {wanted}")
            elif qos_check_compatible(info.qos_profile, self._profile)[0] == QoSCompatibility.ERROR:
                others.append(
                    f"{name} offers {qos.in_words(info.qos_profile)}, the node asks for "
                    f"{qos.in_words(self._profile)}: see image_qos"
                )
            else:
                others.append(f"{name} publishes it and sends nothing that arrives")
        if others:
            return f" on {self._topic}: {', '.join(others)}"
        own = f"{self._node.get_fully_qualified_name()}/"
        published = [
            topic
            for topic in self._node.get_topic_names_and_types()
            if not topic[0].startswith(own) and self._node.count_publishers(topic[0])
        ]
        similar = similar_topics(self._topic, published)
        there = f"; image topics here: {', '.join(similar)}" if similar else ""
        return f" on {self._topic}: nobody publishes it{there}"

    def close(self) -> None:
        """Unsubscribe."""
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())

    def _subscribe(
        self,
        on_image: Callable[[Any], None],
        on_lost: Callable[[int], None],
        warn: Callable[[str], None],
    ) -> Any:
        node, topic = self._node, self._topic

        def deadline(event: Any) -> None:
            warn(f"{topic}: deadline missed {event.total_count} times")

        def liveliness(event: Any) -> None:
            if event.not_alive_count_change > 0:
                warn(f"{topic}: a publisher is no longer alive")

        return qos.with_events(
            lambda events: node.create_subscription(
                self._kind,
                topic,
                on_image,
                self._profile,
                event_callbacks=events,
                qos_overriding_options=qos.INPUT_OVERRIDES,
            ),
            qos.SubscriptionEventCallbacks,
            {
                "incompatible_qos": qos.warn_of_mismatch(node, topic, False, self._profile, warn),
                "deadline": deadline,
                "liveliness": liveliness,
                "message_lost": lambda event: on_lost(event.total_count_change),
            },
        )

    def _on_info(self, message: CameraInfo) -> None:
        self.info = message


def image_topic(resolved: str, transport: str) -> tuple[str, str]:
    """Topic and transport for the name that ``image`` is remapped to.

    ``image:=/front/image_raw`` means /front/image_raw/compressed too, as with image_transport (ROS
    remaps whole names only), and ``image:=/front/image_raw/compressed`` means compressed images
    whatever ``image_transport`` says.
    """
    for named in TRANSPORTS:
        if resolved.endswith(f"/{named}") and named != "raw":
            return resolved, named
    return (resolved, transport) if transport == "raw" else (f"{resolved}/{transport}", transport)


def message_type(transport: str) -> Any:
    """The class of a transport's messages.

    Raises:
        StreamError: its package is not installed.
    """
    package, _, name = TRANSPORTS[transport].split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except ImportError as error:
        raise StreamError(
            f"image_transport {transport} needs {package} ({error}): install it (`apt install "
            f"ros-$ROS_DISTRO-{package.replace('_', '-')}`)"
        ) from None


def similar_topics(topic: str, topics: list[tuple[str, list[str]]], most: int = 4) -> list[str]:
    """Topics of images among the (name, types) of a graph, the likeliest first, with their types."""
    images = {
        name: kind
        for name, kinds in topics
        for kind in kinds
        if kind in TRANSPORTS.values() and name != topic
    }
    likeness = {name: difflib.SequenceMatcher(None, topic, name).ratio() for name in images}
    names = sorted(images, key=lambda name: -likeness[name])[:most]
    return [f"{name} ({images[name].rpartition('/')[2]})" for name in names]
