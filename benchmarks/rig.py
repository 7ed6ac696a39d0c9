"""A node under test, cameras, and a listener: what the benchmarks of the node have in common."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

PATIENCE_S = 120.0


@contextmanager
def process(
    module: str, parameters: Mapping[str, object], log: Path, *arguments: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A ROS node as a process; ended when the block ends."""
    command = [sys.executable, "-m", module, "--ros-args", *arguments]
    command += [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()


def segmenter(parameters: Mapping[str, object], log: Path) -> Any:
    """The segmenter as a process that configures and activates itself."""
    return process("deeplab_rt.ros.node", {**parameters, "autostart": "true"}, log)


def camera(parameters: Mapping[str, object], log: Path, namespace: str = "/") -> Any:
    """A camera as a process; its topics lie in the namespace."""
    return process("deeplab_rt.ros.camera_node", parameters, log, "-r", f"__ns:={namespace}")


class Listener:
    """Receives masks and diagnostics; a context manager with a ROS context of its own."""

    def __init__(self) -> None:
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node("listener", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.arrivals: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self.statuses: dict[str, dict[str, str]] = {}
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def listen(self, topic: str) -> list[tuple[int, int]]:
        """Receive a mask topic; the list that is returned grows by (stamp, arrival) in ns."""
        arrivals = self.arrivals[topic]

        def on_mask(message: Image) -> None:
            arrivals.append((stamp_of(message), time.time_ns()))

        profile = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
        self.node.create_subscription(Image, topic, on_mask, profile)
        return arrivals

    def spin_until(self, done: Callable[[], bool], seconds: float = PATIENCE_S) -> bool:
        """Receive until ``done``; False if it was not within so many seconds."""
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                return False
            self._executor.spin_once(timeout_sec=0.05)
        return True

    def spin_for(self, seconds: float) -> None:
        self.spin_until(lambda: False, seconds)

    def settle(self, status: str) -> dict[str, int]:
        """A camera's counters, once nothing is on its way to or in the node any more."""

        def settled() -> bool:
            values = self.statuses.get(status, {})
            counts = {name: int(value) for name, value in values.items() if value.isdigit()}
            return bool(counts) and values["rate in (Hz)"] == "0.0"

        self.statuses.pop(status, None)
        self.spin_until(settled)
        values = self.statuses[status]
        return {name: int(value) for name, value in values.items() if value.isdigit()}

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.statuses[status.name] = {item.key: item.value for item in status.values}

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *exc: object) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()


def logs(folder: Path) -> str:
    """What the processes of a benchmark have said."""
    return "\n".join(f"{p.name}: {p.read_text().strip()}" for p in sorted(folder.glob("*.log")))


def stamp_of(message: Any) -> int:
    """Nanoseconds."""
    return int(message.header.stamp.sec) * 10**9 + int(message.header.stamp.nanosec)


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    """p50, p99 and max."""
    p50, p99 = np.percentile(milliseconds, [50, 99])
    return {
        "p50": round(float(p50), 2),
        "p99": round(float(p99), 2),
        "max": round(max(milliseconds), 2),
    }


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MB."""
    return float(round(psutil.Process(pid).memory_info().rss / 1e6, 1))
