"""The other end of the node: receives its masks as any consumer would, and measures.

Latency is from the stamp, which the camera takes just before it publishes, to the moment when the
mask's callback runs in this process: two passes through DDS and the node between them, on one clock.
The label mask is what is received: it is the last of the three that the node sends for a frame, and
the other two follow from it.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
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

    Attributes:
        node: its ROS node, for further publishers and subscriptions.
        measurements: camera's name -> what was measured of it; the only camera's name is empty.
    """

    def __init__(
        self, node: str = "/deeplab", cameras: Sequence[str] = ("",), keep_masks: bool = True
    ) -> None:
        """Join the network.

        Args:
            node: the fully qualified name of the segmenter.
            cameras: the node's parameter of that name; one empty name for one camera.
            keep_masks: whether to keep the masks too (about 5 KB each, compressed).
        """
        self.measurements = {camera: Measurement() for camera in cameras}
        self._masks: dict[tuple[str, int], tuple[tuple[int, int], bytes]] = {}
        self._keep_masks = keep_masks
        self._statuses: dict[str, dict[str, str]] = {}
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node("probe", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._spin = GuardedSpin(self._executor, self.node.get_logger())
        profile = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
        self._topics = []
        for camera in cameras:
            self._topics.append(f"{node}/{camera}/label_mask" if camera else f"{node}/label_mask")
            on_mask = partial(self._on_mask, camera)
            self.node.create_subscription(Image, self._topics[-1], on_mask, profile)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._change_state: Any = self.node.create_client(ChangeState, f"{node}/change_state")

    @property
    def measurement(self) -> Measurement:
        """What was measured of the first camera."""
        return next(iter(self.measurements.values()))

    def spin_until(self, done: Callable[[], bool], timeout_s: float = math.inf) -> bool:
        """Receive until ``done``, which is asked after every message and at least ten times a second.

        Returns:
            False if it was not done within ``timeout_s``.
        """
        end = time.monotonic() + timeout_s
        while not done():
            left = end - time.monotonic()
            if left <= 0:
                return False
            self._spin.once(min(TICK_S, left))
        return True

    def spin_for(self, seconds: float) -> None:
        """Receive for so long."""
        self.spin_until(lambda: False, seconds)

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

    def sees_masks_topics(self) -> bool:
        """Whether the node's publishers of masks have been discovered."""
        return all(self.node.count_publishers(topic) for topic in self._topics)

    def labels(self, stamp_ns: int, camera: str = "") -> np.ndarray | None:
        """uint8 [H, W] label ids of the frame of a stamp; None if its mask was not kept."""
        if (camera, stamp_ns) not in self._masks:
            return None
        size, packed = self._masks[camera, stamp_ns]
        return np.frombuffer(zlib.decompress(packed), np.uint8).reshape(size)

    def settled_counts(self, camera: str = "", timeout_s: float = 60.0) -> dict[str, int]:
        """The node's counters of a camera, once nothing comes to it any more.

        Raises:
            StreamError: it does not come to rest.
        """
        status = _status(camera)
        self._statuses.pop(status, None)
        rests = {"rate in (Hz)": "0.0"}.items()
        if not self.spin_until(lambda: rests <= self._statuses.get(status, {}).items(), timeout_s):
            raise StreamError(f"no status {status!r} without input within {timeout_s:g} s")
        return {
            name: int(value) for name, value in self._statuses[status].items() if value.isdigit()
        }

    def close(self) -> None:
        """Leave the network."""
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()

    def __enter__(self) -> LatencyProbe:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _on_mask(self, camera: str, message: Image) -> None:
        arrival = time.time_ns()
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        self.measurements[camera].arrivals[stamp] = arrival
        if self._keep_masks:
            # The node sends whole rows without padding (mono8).
            packed = zlib.compress(message.data, 1)
            self._masks[camera, stamp] = ((message.height, message.width), packed)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self._statuses[status.name] = {item.key: item.value for item in status.values}
        for camera, measurement in self.measurements.items():
            measurement.engine = self._statuses.get("deeplab: engine", measurement.engine)
            values = self._statuses.get(_status(camera), {})
            if values.get("published", "0") != "0":
                measurement.camera = values


def _status(camera: str) -> str:
    return f"deeplab: {camera or 'camera'}"
