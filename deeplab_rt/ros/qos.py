"""Quality of service: the profiles of the node's topics, and mismatches in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions

try:
    from rclpy.event_handler import (
        PublisherEventCallbacks,
        SubscriptionEventCallbacks,
        UnsupportedEventTypeError,
    )
except ImportError:  # Humble
    from rclpy.qos_event import (
        PublisherEventCallbacks,
        SubscriptionEventCallbacks,
        UnsupportedEventTypeError,
    )

__all__ = ["PublisherEventCallbacks", "SubscriptionEventCallbacks"]

T = TypeVar("T")

# What `qos_overrides.TOPIC.subscription.POLICY` may set for images: the common three, and deadline
# and liveliness, whose breach is reported.
INPUT_OVERRIDES = QoSOverridingOptions(
    (
        QoSPolicyKind.HISTORY,
        QoSPolicyKind.DEPTH,
        QoSPolicyKind.RELIABILITY,
        QoSPolicyKind.DURABILITY,
        QoSPolicyKind.DEADLINE,
        QoSPolicyKind.LIVELINESS,
        QoSPolicyKind.LIVELINESS_LEASE_DURATION,
    )
)
OUTPUT_OVERRIDES = QoSOverridingOptions.with_default_policies()


def mask_qos() -> QoSProfile:
    """Of what is made for every frame. A new object each time: overrides are written into it."""
    return QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)


def latched_qos() -> QoSProfile:
    """Of what late subscribers must get too."""
    durability = DurabilityPolicy.TRANSIENT_LOCAL
    return QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=durability)


def image_qos(reliable: bool) -> QoSProfile:
    """Of an image subscription.

    The depth is what may wait between the network card and the callback, which only takes note of a
    frame; the newest-frame slot behind it is one deep.
    """
    reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(depth=10, reliability=reliability)


def with_events(create: Callable[[Any], T], kind: Any, events: dict[str, Callable[..., None]]) -> T:
    """A publisher or subscription with as many of the event callbacks as the middleware supports.

    Args:
        create: takes the callbacks and makes it.
        kind: ``PublisherEventCallbacks`` or ``SubscriptionEventCallbacks``.
        events: callbacks by name, the most important first.

    Raises:
        UnsupportedEventTypeError: it cannot even be made without any.
    """
    names = list(events)
    while True:
        try:
            return create(kind(**{name: events[name] for name in names}))
        except UnsupportedEventTypeError:
            if not names:
                raise
            names.pop()


def warn_of_mismatch(
    node: Node, topic: str, publisher: bool, ours: QoSProfile, warn: Callable[[str], None]
) -> Callable[[Any], None]:
    """A callback for incompatible-QoS events that warns in words that name both sides.

    Args:
        node: this node.
        topic: fully qualified.
        publisher: whether our side is the publisher.
        ours: our side's profile.
        warn: takes the line, a second after the event: the other node's name arrives after its
            endpoints.
    """
    find = node.get_subscriptions_info_by_topic if publisher else node.get_publishers_info_by_topic
    verb, other = ("publishes", "subscribers") if publisher else ("subscribes to", "publishers")

    def on_event(event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)

        def tell() -> None:
            node.destroy_timer(timer)
            theirs = sorted(
                {f"{name_of(info)} ({in_words(info.qos_profile)})" for info in find(topic)}
            )
            warn(
                f"no connection on {topic}: incompatible {policy}: this node {verb} it "
                f"{in_words(ours)}; {other}: {', '.join(theirs) or 'gone'}; a publisher must offer "
                "at least what a subscription asks for (see image_qos and qos_overrides)"
            )

        timer = node.create_timer(1.0, tell, clock=Clock(clock_type=ClockType.STEADY_TIME))

    return on_event


def name_of(info: Any) -> str:
    """The full name of the node of an endpoint."""
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"


def in_words(profile: QoSProfile) -> str:
    """Reliability, durability and deadline of a profile."""
    words = [profile.reliability.name, profile.durability.name]
    if 0 < profile.deadline.nanoseconds < 1 << 62:
        words.append(f"deadline {profile.deadline.nanoseconds / 1e6:g} ms")
    return ", ".join(words).lower().replace("_", " ")
