"""The running node: hostile messages, parameters of types that there are not, transitions in any order.

All of it over real DDS, in a network of its own. A node is started when the first case needs it and
kept; when a case ends it, that is told and the next case gets a new one.
"""

from __future__ import annotations

import atexit
import os
import random
import tempfile
import time
from array import array
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import (
    GetParameters,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from benchmarks.hostile_messages import bad_compressed, bad_image
from deeplab_rt.camera.encodings import fill_image
from deeplab_rt.ros.session import NodeProcess, private_network
from tests.fuzz import corpus
from tests.fuzz.outcome import Outcome
from tests.fuzz.pool import Case
from tests.ros.peer import Peer, stamp_of

BATCH = 50
"""Messages of one case, before a good frame has to be served."""
PATIENCE_S = 30.0
MASKS = "/deeplab/label_mask"
GROWTH = {"threads": 4, "descriptors": 24, "MiB": 300}
"""What a node may hold more than after its first cases."""


@dataclass
class _Stage:
    """A node, and the other side of it."""

    stack: ExitStack
    process: NodeProcess
    peer: Peer
    logged: int = 0  # bytes of the node's log that were looked at
    stamp: int = 10**12  # of the next good frame, in ns
    initial: list[Parameter] = field(default_factory=list)
    publishers: dict[str, Any] = field(default_factory=dict)
    level: dict[str, int] = field(default_factory=dict)
    cases: int = 0

    @property
    def alive(self) -> bool:
        return self.process.process.poll() is None

    def call(self, kind: Any, name: str, request: Any, patience_s: float = PATIENCE_S) -> Any:
        """The answer of a service of the node; None if none came."""
        if not self.alive:
            return None
        client = self.peer.node.create_client(kind, f"/deeplab/{name}")
        try:
            if not client.wait_for_service(timeout_sec=patience_s):
                return None
            future = client.call_async(request)
            end = time.monotonic() + patience_s
            while not future.done() and time.monotonic() < end and self.alive:
                time.sleep(0.002)
            return future.result() if future.done() else None
        finally:
            self.peer.node.destroy_client(client)

    def state(self) -> int:
        """Its lifecycle state; -1 if it does not answer."""
        answer = self.call(GetState, "get_state", GetState.Request())
        return -1 if answer is None else int(answer.current_state.id)

    def change(self, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        answer = self.call(ChangeState, "change_state", request)
        return answer is not None and bool(answer.success)

    def holds(self) -> dict[str, int]:
        """What the process holds."""
        place = Path("/proc") / str(self.process.process.pid)
        pages = int((place / "statm").read_text().split()[1])
        return {
            "threads": len(os.listdir(place / "task")),
            "descriptors": len(os.listdir(place / "fd")),
            "MiB": pages * os.sysconf("SC_PAGE_SIZE") >> 20,
        }

    def close(self) -> None:
        self.stack.close()


_stages: dict[str, _Stage] = {}
_domains: set[str] = set()


def _stage(kind: str, transport: str, folder: Path) -> _Stage:
    """The running node of a kind of case, started if there is none."""
    stage = _stages.get(f"{kind} {transport}")
    if stage is not None and stage.alive:
        return stage
    if stage is not None:
        stage.close()
    place = Path(tempfile.mkdtemp(prefix="node-", dir=folder))
    stack = ExitStack()
    for _ in range(20):
        network = ExitStack()
        network.enter_context(private_network())
        if os.environ["ROS_DOMAIN_ID"] not in _domains:
            break
        network.close()
    stack.enter_context(network)
    _domains.add(os.environ["ROS_DOMAIN_ID"])
    parameters = {
        "model": str(corpus.model(folder)),
        "backend": "cpu",
        "image_transport": transport,
        "image_qos": "reliable",
        "autostart": True,
    }
    process = stack.enter_context(NodeProcess("deeplab_rt.ros.node", parameters, place))
    peer = Peer(f"fuzz_{kind}_{transport}")
    stack.callback(peer.close)
    stage = _Stage(stack, process, peer)
    peer.listen(MASKS)
    profile = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)
    for message, topic in (
        (Image, "/image"),
        (CompressedImage, "/image/compressed"),
        (CameraInfo, "/camera_info"),
    ):
        stage.publishers[topic] = peer.node.create_publisher(message, topic, profile)
    end = time.monotonic() + 120
    while stage.alive and stage.state() != State.PRIMARY_STATE_ACTIVE and time.monotonic() < end:
        time.sleep(0.2)
    if not _serves(stage, transport):
        raise RuntimeError(f"the node serves nothing: {process.output[-2000:]}")
    _stages[f"{kind} {transport}"] = stage
    return stage


@atexit.register
def _end() -> None:
    for stage in _stages.values():
        stage.close()


def _good(transport: str) -> Any:
    picture = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    if transport == "compressed":
        message: Any = CompressedImage(format="jpeg")
        message.data = array("B", cv2.imencode(".jpg", picture)[1].tobytes())
    else:
        message = Image()
        fill_image(message, picture, "bgr8")
    return message


def _serves(stage: _Stage, transport: str) -> bool:
    """Whether a mask comes for a good frame; asked five times, since discovery takes its time."""
    message = _good(transport)
    topic = "/image/compressed" if transport == "compressed" else "/image"
    masks = stage.peer.received[MASKS]
    for _ in range(5):
        stage.stamp += 1
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stage.stamp, 10**9)
        stage.publishers[topic].publish(message)
        end = time.monotonic() + PATIENCE_S / 5
        while time.monotonic() < end and stage.alive:
            if any(stamp_of(mask) == stage.stamp for mask in masks[-5:]):
                return True
            time.sleep(0.005)
    return False


def _judge(stage: _Stage, answered: bool, detail: str) -> Outcome:
    """What came of a case, from the node itself."""
    output = stage.process.output
    new, stage.logged = output[stage.logged :], len(output)
    if not stage.alive:
        code = stage.process.process.returncode
        return Outcome("crash", f"the node ended with exit code {code} at {detail}: {new[-1500:]}")
    if "Traceback (most recent call last)" in new:
        return Outcome("traceback", f"{detail}: {new[-1500:]}")
    if not answered:
        return Outcome("hang", f"the node does not answer any more after {detail}: {new[-800:]}")
    stage.cases += 1
    now = stage.holds()
    if stage.cases == 20:
        stage.level = now
    grown = [n for n in stage.level if now[n] - stage.level[n] > GROWTH[n]]
    if grown:
        before, stage.level = stage.level, now
        return Outcome("leak", f"{', '.join(grown)}: from {before} to {now}")
    return Outcome("told" if new.strip() else "whole", new[-500:])


# Messages.


def messages(case: Case, folder: Path) -> Outcome:
    """50 messages that are no frames, then one that is."""
    rng = case.rng()
    transport = ("raw", "compressed")[case.index % 2]
    stage = _stage("messages", transport, folder)
    topic, make = (
        ("/image", bad_image) if transport == "raw" else ("/image/compressed", bad_compressed)
    )
    masks = stage.peer.received[MASKS]
    masks.clear()
    good = _good(transport)
    bad_stamps = set()
    for number in range(BATCH):
        if rng.random() < 0.1:
            stage.publishers["/camera_info"].publish(_bad_calibration(rng))
            continue
        message: Any = make(rng, good)  # type: ignore[operator]
        if not isinstance(message, bytes):
            stamp = case.index * BATCH + number + 1
            bad_stamps.add(stamp)
            message.header.stamp.sec, message.header.stamp.nanosec = 0, stamp
        stage.publishers[topic].publish(message)
        time.sleep(0.001)
    served = _serves(stage, transport)
    lies = [stamp_of(mask) for mask in list(masks) if stamp_of(mask) in bad_stamps]
    if lies:
        return Outcome("unclear", f"{len(lies)} masks for frames that are none")
    return _judge(stage, served, f"{BATCH} bad messages")


def _bad_calibration(rng: random.Random) -> CameraInfo:
    numbers = [float("nan"), float("inf"), -1.0, 0.0, 1e308, 1e-308, 320.0]
    info = CameraInfo(
        height=rng.choice([0, 1, 480, 2**32 - 1]),
        width=rng.choice([0, 1, 640, 2**32 - 1]),
        distortion_model=rng.choice(["", "plumb_bob", "x" * 500, "equidistant"]),
    )
    info.d = [rng.choice(numbers) for _ in range(rng.choice([0, 1, 5, 100]))]
    info.k = [rng.choice(numbers) for _ in range(9)]
    info.r = [rng.choice(numbers) for _ in range(9)]
    info.p = [rng.choice(numbers) for _ in range(12)]
    return info


# Parameters.

_UNKNOWN_TYPES = (10, 11, 42, 127, 128, 254, 255)
_TEXTS = (
    "", "x", "auto", "cpu", "tensorrt", "int8", "640x480", "0x0", "-1x-1", "99999x99999", "road",
    "/dev/zero", "~nouser12345", "../../etc", "x" * 5000, "\n", "%s{}", "\u202e", "nan", "[1, 2]",
)  # fmt: skip
_NUMBERS = (0, 1, -1, 255, 2**31, -(2**31), 2**63 - 1, -(2**63))
_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e308, -1e308, float("nan"), float("inf"), float("-inf"), 5e-324)


def parameters(case: Case, folder: Path) -> Outcome:
    """One request that sets parameters, most of them to what they cannot be."""
    rng = case.rng()
    stage = _stage("parameters", "raw", folder)
    if not stage.initial:
        _remember(stage)
    kinds: list[tuple[Any, str]] = [
        (SetParameters, "set_parameters"),
        (SetParametersAtomically, "set_parameters_atomically"),
    ]
    kind, name = rng.choice(kinds)
    known = [parameter.name for parameter in stage.initial]
    request = kind.Request(
        parameters=[
            Parameter(name=_name(rng, known), value=_value(rng))
            for _ in range(rng.choice([1, 1, 1, 2, 6]))
        ]
    )
    described = ", ".join(f"{p.name[:40]} (type {p.value.type})" for p in request.parameters)
    unknown = any(parameter.value.type in _UNKNOWN_TYPES for parameter in request.parameters)
    # rclpy itself gives no answer to a type that it does not know: then the next one has to come.
    answer = stage.call(kind, name, request, 1.0 if unknown else PATIENCE_S)
    answered = answer is not None or (unknown and stage.state() != -1)
    if answered and case.index % 25 == 24:
        answered = _restored(stage) and _serves(stage, "raw")
    return _judge(stage, answered, f"{name}: {described}")


def _remember(stage: _Stage) -> None:
    listed = stage.call(ListParameters, "list_parameters", ListParameters.Request())
    names = [n for n in listed.result.names if not n.startswith("qos_overrides")]
    request = GetParameters.Request(names=names)
    values = stage.call(GetParameters, "get_parameters", request).values
    stage.initial = [Parameter(name=n, value=v) for n, v in zip(names, values, strict=True)]


def _restored(stage: _Stage) -> bool:
    """Give the node its first parameters again, and make it active."""
    request = SetParameters.Request(parameters=stage.initial)
    if stage.call(SetParameters, "set_parameters", request) is None:
        return False
    if stage.state() == State.PRIMARY_STATE_UNCONFIGURED:
        stage.change(Transition.TRANSITION_CONFIGURE)
    if stage.state() == State.PRIMARY_STATE_INACTIVE:
        stage.change(Transition.TRANSITION_ACTIVATE)
    return stage.state() == State.PRIMARY_STATE_ACTIVE


def _name(rng: random.Random, known: list[str]) -> str:
    if rng.random() < 0.85:
        return rng.choice(known)
    return rng.choice(["", "unknown", ".", "a" * 3000, "qos_overrides./image.x", "ü", "%s", " "])


def _value(rng: random.Random) -> ParameterValue:
    kind = rng.choice([*range(10), *range(1, 5), *_UNKNOWN_TYPES])
    value = ParameterValue(type=kind)
    size = rng.choice([0, 1, 2, 12, 300])
    if kind == ParameterType.PARAMETER_BOOL:
        value.bool_value = rng.random() < 0.5
    elif kind == ParameterType.PARAMETER_INTEGER:
        value.integer_value = rng.choice(_NUMBERS)
    elif kind == ParameterType.PARAMETER_DOUBLE:
        value.double_value = rng.choice(_FLOATS)
    elif kind == ParameterType.PARAMETER_STRING:
        value.string_value = rng.choice(_TEXTS)
    elif kind == ParameterType.PARAMETER_BYTE_ARRAY:
        value.byte_array_value = [bytes([rng.randrange(256)]) for _ in range(size)]
    elif kind == ParameterType.PARAMETER_BOOL_ARRAY:
        value.bool_array_value = [True] * size
    elif kind == ParameterType.PARAMETER_INTEGER_ARRAY:
        value.integer_array_value = [rng.choice(_NUMBERS) for _ in range(size)]
    elif kind == ParameterType.PARAMETER_DOUBLE_ARRAY:
        value.double_array_value = [rng.choice(_FLOATS) for _ in range(size)]
    elif kind == ParameterType.PARAMETER_STRING_ARRAY:
        value.string_array_value = [rng.choice(_TEXTS) for _ in range(size)]
    return value


# Transitions.

_ENDING = (
    Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
    Transition.TRANSITION_INACTIVE_SHUTDOWN,
    Transition.TRANSITION_ACTIVE_SHUTDOWN,
    Transition.TRANSITION_DESTROY,
)
_USUAL = (
    Transition.TRANSITION_CONFIGURE,
    Transition.TRANSITION_CLEANUP,
    Transition.TRANSITION_ACTIVATE,
    Transition.TRANSITION_DEACTIVATE,
)


def transitions(case: Case, folder: Path) -> Outcome:
    """One request for a transition, whether it is one or not."""
    rng = case.rng()
    stage = _stage("transitions", "raw", folder)
    chance = rng.random()
    if chance < 0.75:
        number = rng.choice(_USUAL)
    elif chance < 0.77:
        number = rng.choice(_ENDING)
    else:
        number = rng.choice([0, 9, 10, 20, 30, 40, 60, 62, 99, 128, 255])
    label = rng.choice(["", "", "", "activate", "shutdown", "x" * 3000, "\n"])
    request = ChangeState.Request(transition=Transition(id=number, label=label))
    answer = stage.call(ChangeState, "change_state", request)
    ended = number in _ENDING or label == "shutdown"
    if ended and (not stage.alive or stage.state() in (-1, State.PRIMARY_STATE_FINALIZED)):
        code = stage.process.process.poll()
        stage.close()
        _stages.pop("transitions raw")
        if code not in (None, 0):
            return Outcome("crash", f"shutdown ended the node with exit code {code}")
        return Outcome("told", "it was shut down")
    answered = answer is not None and stage.state() != -1
    if answered and case.index % 50 == 49:
        answered = _restored(stage) and _serves(stage, "raw")
    return _judge(stage, answered, f"transition {number} {label[:20]!r}")
