"""The other end of the node: receives its masks as any consumer would, and measures.

Latency is from the stamp, which the camera takes just before it publishes, to the moment when the
mask's callback runs in this process: two passes through DDS and the node between them, on one clock.
The label mask is what is received: it is the last of the three that the node sends for a frame, and
the other two follow from it.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from deeplab_rt.errors import StreamError
from deeplab_rt.ros.spin import GuardedSpin

TICK_S = 0.1  # the longest that a spin keeps an interrupt waiting


@dataclass
class Measurement:
    """What went in and what came out of one run.

    Attributes:
        published: (index in the source, stamp in ns) of every frame that the camera published.
        arrivals: stamp in ns -> time in ns at which its mask was received.
        engine: the node's own words about its backend (the status ``deeplab: engine``).
        camera: the node's own counters and stage times (the status ``deeplab: camera``), ms.
    """

    published: list[tuple[int, int]] = field(default_factory=list)
    arrivals: dict[int, int] = field(default_factory=dict)
    engine: dict[str, str] = field(default_factory=dict)
    camera: dict[str, str] = field(default_factory=dict)

    @property
    def answered(self) -> list[tuple[int, int]]:
        """(stamp, arrival) in ns of every published frame whose mask came, in order of the stamps."""
        stamps = (stamp for _, stamp in self.published)
        return [(stamp, self.arrivals[stamp]) for stamp in stamps if stamp in self.arrivals]

    def summary(self) -> dict[str, Any]:
        """``frames``, ``masks``, ``dropped``, ``dropped_percent``, ``rate_in_hz``, ``rate_out_hz``,
        ``latency_ms`` {p50, p99, max} and ``node_ms``: stage -> {p50, p99}, as the node reports them.

        Raises:
            StreamError: nothing was published, or no mask came.
        """
        answered = self.answered
        if not answered:
            raise StreamError(
                f"no mask came for any of {len(self.published)} frames; the node's log says why"
            )
        latency = np.array([arrival - stamp for stamp, arrival in answered]) / 1e6
        p50, p99 = np.percentile(latency, [50, 99])
        dropped = len(self.published) - len(answered)
        return {
            "frames": len(self.published),
            "masks": len(answered),
            "dropped": dropped,
            "dropped_percent": round(100 * dropped / len(self.published), 2),
            "rate_in_hz": _rate([stamp for _, stamp in self.published]),
            "rate_out_hz": _rate([arrival for _, arrival in answered]),
            "latency_ms": {
                "p50": round(float(p50), 2),
                "p99": round(float(p99), 2),
                "max": round(float(latency.max()), 2),
            },
            "node_ms": self._stages(),
        }

    def _stages(self) -> dict[str, dict[str, float]]:
        stages: dict[str, dict[str, float]] = {}
        for key, value in self.camera.items():
            stage, _, rest = key.partition(" p")
            if rest in ("50 (ms)", "99 (ms)"):
                stages.setdefault(stage, {})[f"p{rest[:2]}"] = float(value)
        return stages


def _rate(times_ns: list[int]) -> float:
    if len(times_ns) < 2:
        return 0.0
    return round((len(times_ns) - 1) * 1e9 / max(times_ns[-1] - times_ns[0], 1), 2)


class LatencyProbe:
    """Subscribes to the node's masks and diagnostics, and takes the node through its lifecycle.

    A context manager with a ROS context of its own; everything runs in the caller's thread.
    """

    def __init__(self, node: str = "/deeplab", keep_masks: bool = True) -> None:
        """Join the network.

        Args:
            node: the fully qualified name of the segmenter.
            keep_masks: whether to keep the masks too (about 5 KB each, compressed).
        """
        self.measurement = Measurement()
        self._masks: dict[int, tuple[tuple[int, int], bytes]] | None = {} if keep_masks else None
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node("probe", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._spin = GuardedSpin(self._executor, self._node.get_logger())
        self._topic = f"{node}/label_mask"
        profile = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
        self._node.create_subscription(Image, self._topic, self._on_mask, profile)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._change_state: Any = self._node.create_client(ChangeState, f"{node}/change_state")

    def spin_until(self, done: Callable[[], bool]) -> None:
        """Receive until ``done``, which is asked after every message and at least ten times a second."""
        while not done():
            self._spin.once(TICK_S)

    def spin_for(self, seconds: float) -> None:
        """Receive for so long."""
        end = time.monotonic() + seconds
        self.spin_until(lambda: time.monotonic() >= end)

    def change_state(self, transition: str, check: Callable[[], None]) -> bool:
        """Ask the node for a lifecycle transition and wait for its end.

        Args:
            transition: ``configure``, ``activate``, ``deactivate``, ``cleanup``.
            check: called while waiting; raises what there is no use to wait for.

        Returns:
            Whether the node says that it succeeded.
        """

        def ready() -> bool:
            check()
            return bool(self._change_state.service_is_ready())

        self.spin_until(ready)
        request = ChangeState.Request()
        request.transition.id = getattr(Transition, f"TRANSITION_{transition.upper()}")
        future: Any = self._change_state.call_async(request)

        def answered() -> bool:
            check()
            return bool(future.done())

        self.spin_until(answered)
        return bool(future.result().success)

    def sees_masks_topic(self) -> bool:
        """Whether the node's publisher of masks has been discovered."""
        return bool(self._node.count_publishers(self._topic))

    def labels(self, stamp_ns: int) -> np.ndarray | None:
        """uint8 [H, W] label ids of the frame of a stamp; None if its mask did not come."""
        if self._masks is None or stamp_ns not in self._masks:
            return None
        size, packed = self._masks[stamp_ns]
        return np.frombuffer(zlib.decompress(packed), np.uint8).reshape(size)

    def close(self) -> None:
        """Leave the network."""
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def __enter__(self) -> LatencyProbe:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _on_mask(self, message: Image) -> None:
        arrival = time.time_ns()
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        self.measurement.arrivals[stamp] = arrival
        if self._masks is not None:
            # The node sends whole rows without padding (mono8).
            self._masks[stamp] = ((message.height, message.width), zlib.compress(message.data, 1))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {item.key: item.value for item in status.values}
            if status.name == "deeplab: engine":
                self.measurement.engine = values
            elif status.name == "deeplab: camera" and values.get("published", "0") != "0":
                self.measurement.camera = values
