"""The topics that the node subscribes to for one camera."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from deeplab_rt.ros import qos


class CameraInputs:
    """Subscriptions of one camera; they exist while the node listens."""

    def __init__(
        self,
        node: LifecycleNode,
        camera: str,
        compressed: bool,
        reliable: bool,
        on_image: Callable[[Any], None],
        on_lost: Callable[[int], None],
        warn: Callable[[str], None],
    ) -> None:
        """Subscribe.

        Args:
            node: whose they are.
            camera: its name; empty for the only one.
            compressed: whether to take ``image/compressed`` instead of ``image``.
            reliable: whether to ask for reliable delivery.
            on_image: takes each image message.
            on_lost: takes the number of messages that the middleware says it lost.
            warn: takes a line about a mismatch, a missed deadline or a publisher that went silent.
        """
        self._node = node
        self.info: CameraInfo | None = None
        prefix = f"{camera}/" if camera else ""
        # `-r image:=/front/image_raw` shall mean /front/image_raw/compressed too, as with
        # image_transport; ROS remaps whole names only.
        topic = node.resolve_topic_name(f"{prefix}image") + ("/compressed" if compressed else "")
        profile = qos.image_qos(reliable)

        def deadline(event: Any) -> None:
            warn(f"{topic}: deadline missed {event.total_count} times")

        def liveliness(event: Any) -> None:
            if event.not_alive_count_change > 0:
                warn(f"{topic}: a publisher is no longer alive")

        kind = CompressedImage if compressed else Image
        self._image = qos.with_events(
            lambda events: node.create_subscription(
                kind,
                topic,
                on_image,
                profile,
                event_callbacks=events,
                qos_overriding_options=qos.INPUT_OVERRIDES,
            ),
            qos.SubscriptionEventCallbacks,
            {
                "incompatible_qos": qos.warn_of_mismatch(node, topic, False, profile, warn),
                "deadline": deadline,
                "liveliness": liveliness,
                "message_lost": lambda event: on_lost(event.total_count_change),
            },
        )
        self._info = node.create_subscription(
            CameraInfo, f"{prefix}camera_info", self._on_info, qos_profile_sensor_data
        )

    def close(self) -> None:
        """Unsubscribe."""
        self._node.destroy_subscription(self._image)
        self._node.destroy_subscription(self._info)

    def _on_info(self, message: CameraInfo) -> None:
        self.info = message
