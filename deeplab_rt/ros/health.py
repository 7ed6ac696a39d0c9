"""The statuses of :mod:`deeplab_rt.ros.diagnostics` on the topic ``/diagnostics``."""

from __future__ import annotations

from collections.abc import Sequence

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from deeplab_rt.ros.diagnostics import Status


class HealthPublisher:
    """Publishes statuses."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def publish(self, statuses: Sequence[Status], device: str) -> None:
        """Publish the statuses of now.

        Args:
            statuses: all of them.
            device: what the network runs on; empty if nothing is loaded.
        """
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.status = [
            DiagnosticStatus(
                level=bytes([status.level]),
                name=status.name,
                message=status.message,
                hardware_id=device,
                values=[KeyValue(key=k, value=v) for k, v in status.values.items()],
            )
            for status in statuses
        ]
        self._publisher.publish(message)
