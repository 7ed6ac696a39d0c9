"""The other side of the node in tests: it runs the node as a process and talks to it over DDS."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParametersAtomically
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool

from deeplab_rt.camera.encodings import decode_image, fill_image
from deeplab_rt.models import Model
from deeplab_rt.ros import session


def node_arguments(model: Model, **parameters: object) -> list[str]:
    """Command-line arguments of a node on the CPU that loses no frame on the way."""
    values = {"model": model.directory, "backend": "cpu", "image_qos": "reliable", **parameters}
    return [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]


PATIENCE = 60.0  # seconds; discovery alone may take 2.3, and the machine may be busy


def wait_for(condition: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
    """The first true value of the condition."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError(f"no {what} within {timeout} s")


class NodeProcess(session.NodeProcess):
    """``segmenter_node`` as a process of its own, with what tests ask of it."""

    def __init__(
        self,
        log: Path,
        *arguments: str,
        environment: dict[str, str] | None = None,
        module: str = "deeplab_rt.ros.node",
    ) -> None:
        super().__init__(
            module, {}, log.parent, name=log.name, arguments=arguments, environment=environment
        )

    def wait_for_line(self, text: str) -> None:
        wait_for(lambda: text in self.output, f"{text!r} in {self.output}")

    def stop(self, signum: int = signal.SIGINT, times: int = 1) -> float:
        """Signal it; return how long it took to end, in seconds. Its exit code must be 0."""
        started = time.monotonic()
        for _ in range(times):
            self.process.send_signal(signum)
            time.sleep(0.02)
        assert self.process.wait(timeout=PATIENCE) == 0, self.output
        return time.monotonic() - started

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Peer:
    """A camera, a consumer of masks and a lifecycle manager in one ROS node of the test's process."""

    def __init__(self, name: str = "peer") -> None:
        self.context = Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node(name, context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self.received: dict[str, list[Any]] = defaultdict(list)
        self._last: dict[str, int] = {}  # stamp of the last message of a topic
        self._publishers: dict[str, Any] = {}
        self._subscriptions: dict[str, Any] = {}
        self._clients: dict[str, Any] = {}
        self._closing = False
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while not self._closing:
            self._executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        self._closing = True
        self._thread.join()
        self._executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()

    # Topics.

    def forget(self) -> None:
        """Stop listening to anything, and forget what came."""
        for subscription in self._subscriptions.values():
            self.node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self.received.clear()

    def listen(
        self, topic: str, kind: Any = Image, latched: bool = False, reliable: bool = True
    ) -> None:
        """Collect what comes on a topic in ``received[topic]``."""
        profile = QoSProfile(
            depth=50,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )
        received = self.received[topic]
        self._last.pop(topic, None)

        def on_message(message: Any) -> None:
            received.append(message)
            if hasattr(message, "header"):
                self._last[topic] = stamp_of(message)

        self._subscriptions[topic] = self.node.create_subscription(kind, topic, on_message, profile)

    def matched(self, *topics: str, send: Callable[[int], None] | None = None) -> None:
        """Wait until the node's publishers know of these subscriptions, and forget what came.

        Nothing tells that but a mask that comes: so small frames are sent, one at a time, until one
        has been answered on every topic.

        Args:
            topics: of masks.
            send: sends a frame of stamp 1, 2, 3 ... ns; by default to /image.
        """
        picture = np.zeros((8, 8, 3), np.uint8)
        for topic in topics:
            self._last.pop(topic, None)
        for stamp in range(1, 41):
            (send or (lambda n: self.send(picture, n)))(stamp)
            end = time.monotonic() + PATIENCE / 40
            while time.monotonic() < end:
                # Later stamps come later on every topic: with the last one, nothing is on its way.
                if all(t in self._last and self._last[t] >= stamp for t in topics):
                    for topic in topics:
                        self.received[topic].clear()
                    return
                time.sleep(0.005)
        raise AssertionError(f"no mask on one of {topics}")

    def publisher_count(self, topic: str) -> int:
        """How many subscribers our publisher of a topic has."""
        return int(self._publishers[topic].get_subscription_count())

    def publish_blindly(self, picture: np.ndarray, stamp: int, topic: str = "/image") -> None:
        """Publish although nobody may listen."""
        self._publishers[topic].publish(image(picture, stamp))

    def offer(
        self, topic: str, kind: Any = Image, reliable: bool = True, deadline_ms: int = 0
    ) -> None:
        """Make a publisher without waiting for its subscriber."""
        profile = QoSProfile(
            depth=20,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        )
        if deadline_ms:
            profile.deadline = Duration(nanoseconds=deadline_ms * 1_000_000)
        self._publishers[topic] = self.node.create_publisher(kind, topic, profile)

    def publisher(self, topic: str, kind: Any = Image) -> Any:
        """A publisher, made once, after it has found its subscriber."""
        if topic not in self._publishers:
            self.offer(topic, kind)
        publisher = self._publishers[topic]
        if not publisher.get_subscription_count():
            wait_for(publisher.get_subscription_count, f"subscriber of {topic}")
            time.sleep(0.3)  # until the subscriber knows of us too: best effort does not repeat
        return publisher

    def send(
        self, picture: np.ndarray, stamp: int, topic: str = "/image", encoding: str = "bgr8"
    ) -> None:
        """Publish a picture stamped ``stamp`` nanoseconds."""
        self.publisher(topic).publish(image(picture, stamp, encoding))

    def serve(self, picture: np.ndarray, stamp: int, topic: str) -> None:
        """Send a picture, again if it is lost at best effort, until its mask comes on a topic."""
        for _ in range(5):
            self.send(picture, stamp)
            with contextlib.suppress(AssertionError):
                wait_for(
                    lambda: stamp in [stamp_of(m) for m in list(self.received[topic])],
                    f"mask {stamp} on {topic}",
                    PATIENCE / 5,
                )
                return
        raise AssertionError(f"no mask {stamp} on {topic}")

    def masks(self, topic: str, count: int = 1) -> list[tuple[int, np.ndarray]]:
        """Wait for ``count`` masks on a topic; (stamp in ns, mask) of all that came."""
        wait_for(lambda: len(self.received[topic]) >= count, f"{count} masks on {topic}")
        return [(stamp_of(m), decode_image(m)[0][..., 0]) for m in self.received[topic]]

    # Services.

    def call(self, kind: Any, name: str, request: Any) -> Any:
        if name not in self._clients:
            self._clients[name] = self.node.create_client(kind, name)
        client = self._clients[name]
        assert client.wait_for_service(timeout_sec=PATIENCE), name
        future = client.call_async(request)
        wait_for(future.done, f"answer of {name}")
        return future.result()

    def send_request(self, kind: Any, name: str, request: Any) -> None:
        """Send a request and wait for no answer."""
        if name not in self._clients:
            self._clients[name] = self.node.create_client(kind, name)
        assert self._clients[name].wait_for_service(timeout_sec=PATIENCE), name
        self._clients[name].call_async(request)

    def change(self, transition: str, node: str = "/deeplab") -> bool:
        """Ask for a lifecycle transition by name: configure, activate, deactivate, cleanup."""
        request = ChangeState.Request(
            transition=Transition(id=getattr(Transition, f"TRANSITION_{transition.upper()}"))
        )
        return bool(self.call(ChangeState, f"{node}/change_state", request).success)

    def state(self, node: str = "/deeplab") -> str:
        return str(self.call(GetState, f"{node}/get_state", GetState.Request()).current_state.label)

    def enable(self, on: bool) -> None:
        assert self.call(SetBool, "/deeplab/enable", SetBool.Request(data=on)).success

    def set(self, **values: Any) -> str:
        """Set parameters of the node together; empty if they were taken, else the reason."""
        request = SetParametersAtomically.Request(
            parameters=[Parameter(name=n, value=_value(v)) for n, v in values.items()]
        )
        name = "/deeplab/set_parameters_atomically"
        result = self.call(SetParametersAtomically, name, request).result
        assert result.successful != bool(result.reason)
        return str(result.reason)

    def get(self, *names: str) -> list[Any]:
        """Parameters of the node."""
        request = GetParameters.Request(names=list(names))
        values = self.call(GetParameters, "/deeplab/get_parameters", request).values
        return [parameter_value_to_python(value) for value in values]

    def settled_counts(self, camera: str = "camera") -> dict[str, int]:
        """A camera's counters, once nothing is on its way any more."""

        def settled(status: Any, values: dict[str, str]) -> bool:
            return float(values["rate in (Hz)"]) == 0 and (
                int(values["received"])
                == sum(int(values[name]) for name in ("published", "dropped", "bad"))
            )

        self.received["/diagnostics"].clear()
        _, values = self.diagnostics(camera, settled)
        return {name: int(value) for name, value in values.items() if value.isdigit()}

    def diagnostics(self, name: str, condition: Callable[[Any, dict[str, str]], bool]) -> Any:
        """Wait for a status whose name ends so and that meets the condition (status, values)."""
        topic = "/diagnostics"
        if topic not in self._subscriptions:
            self.listen(topic, DiagnosticArray)

        def find() -> Any:
            for message in self.received[topic][-2:]:
                for status in message.status:
                    values = {value.key: value.value for value in status.values}
                    if status.name.endswith(name) and condition(status, values):
                        return status, values
            return None

        return wait_for(find, f"such a status of {name}; the last: {self.received[topic][-1:]}")


def image(picture: np.ndarray, stamp: int, encoding: str = "bgr8") -> Image:
    message = Image()
    message.header.frame_id = "front_camera"
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
    fill_image(message, picture, encoding)
    return message


def stamp_of(message: Any) -> int:
    return int(message.header.stamp.sec) * 1_000_000_000 + int(message.header.stamp.nanosec)


def _value(value: Any) -> ParameterValue:
    if isinstance(value, bool):
        return ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=value)
    if isinstance(value, float):
        return ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)
    if isinstance(value, str):
        return ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=value)
    assert isinstance(value, Sequence)
    return ParameterValue(type=ParameterType.PARAMETER_STRING_ARRAY, string_array_value=list(value))
