"""The statuses of :mod:`deeplab_rt.ros.diagnostics` on the topic ``/diagnostics``."""

from __future__ import annotations

from collections.abc import Sequence

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from deeplab_rt.ros.diagnostics import OK, WARN, Status

LEVELS = ("OK", "WARN", "ERROR", "STALE")


class HealthPublisher:
    """Publishes statuses, and logs each change of a level once."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._levels: dict[str, int] = {}
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
        for status in statuses:
            self._log_change(status)
        self._levels = {status.name: status.level for status in statuses}

    def _log_change(self, status: Status) -> None:
        before = self._levels.get(status.name, OK)
        if status.level == before:
            return
        text = f"{status.name}: {LEVELS[before]} -> {LEVELS[status.level]}: {status.message}"
        logger = self._node.get_logger()
        # Three calls: rclpy refuses one call that logs at several severities.
        if status.level == OK:
            logger.info(text)
        elif status.level == WARN:
            logger.warning(text)
        else:
            logger.error(text)
