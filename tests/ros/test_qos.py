"""Events of quality of service on a middleware that lacks some of them."""

from __future__ import annotations

from typing import Any

import pytest
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

from deeplab_rt.ros import qos


def test_as_many_events_as_the_middleware_supports() -> None:
    """The middleware is played: one that knows nothing of lost messages and deadlines."""

    def create(events: Any) -> Any:
        if events.message_lost or events.deadline:
            raise qos.UnsupportedEventTypeError("not supported")
        return events

    def callback(event: Any) -> None: ...

    events = qos.with_events(
        create,
        qos.SubscriptionEventCallbacks,
        dict.fromkeys(("incompatible_qos", "deadline", "liveliness", "message_lost"), callback),
    )
    assert events.incompatible_qos is callback
    assert events.message_lost is events.liveliness is None

    def never(events: Any) -> None:
        raise qos.UnsupportedEventTypeError("not supported")

    with pytest.raises(qos.UnsupportedEventTypeError):
        qos.with_events(never, qos.PublisherEventCallbacks, {"incompatible_qos": callback})


def test_profiles() -> None:
    assert qos.image_qos(reliable=False).reliability == ReliabilityPolicy.BEST_EFFORT
    assert qos.image_qos(reliable=True).reliability == ReliabilityPolicy.RELIABLE
    assert qos.latched_qos().durability == DurabilityPolicy.TRANSIENT_LOCAL
    assert qos.mask_qos() is not qos.mask_qos()  # overrides are written into them
