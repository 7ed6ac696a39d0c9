"""Start, stop and failure of the node, in a process of its own."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters, SetParametersAtomically

from deeplab_rt.models import Model
from deeplab_rt.ros.transport import profile_environment
from tests.ros.peer import PATIENCE, NodeProcess, Peer, node_arguments, wait_for

MASK = "/deeplab/label_mask"
Painted = tuple[np.ndarray, np.ndarray]


def test_transitions(palette_model: Model, tmp_path: Path, peer: Peer, painted: Painted) -> None:
    frame = painted[0]
    with NodeProcess(tmp_path / "log", *("-p", "model:=nowhere", "-p", "backend:=cpu")) as node:
        assert peer.state() == "unconfigured"
        assert not peer.change("configure")
        node.wait_for_line("cannot configure: no model 'nowhere'")
        assert peer.state() == "unconfigured"
        status, _ = peer.diagnostics("deeplab: engine", lambda s, v: "no model" in s.message)
        assert status.level == DiagnosticStatus.ERROR
        assert not peer.set(model=str(palette_model.directory))
        assert peer.change("configure")
        assert "model needs `cleanup`" in peer.set(model="other")
        assert peer.node.count_publishers(MASK) == 1
        assert peer.node.count_subscribers("/image") == 0
        peer.listen(MASK)
        for stamp in (1, 2):  # deactivation keeps the loaded engine
            assert peer.change("activate")
            peer.serve(frame, stamp, MASK)
            assert peer.change("deactivate")
            wait_for(lambda: not peer.publisher_count("/image"), "unsubscription")
            peer.publish_blindly(frame, 1000)
        assert node.output.count("model palette") == 1

        assert not peer.set(image_qos="reliable")  # no longer refused
        assert peer.change("activate")
        peer.serve(frame, 3, MASK)
        assert {stamp for stamp, _ in peer.masks(MASK)} == {1, 2, 3}
        assert peer.change("deactivate")
        assert peer.change("cleanup")
        wait_for(lambda: not peer.node.count_publishers(MASK), "end of the masks' topic")
        assert peer.state() == "unconfigured"
        assert peer.change("configure")  # it can be had again
        assert peer.change("cleanup")
        node.stop()


@pytest.mark.parametrize(
    ("signum", "times"), [(signal.SIGINT, 3), (signal.SIGTERM, 1)], ids=["SIGINT x 3", "SIGTERM"]
)
def test_stop_in_the_middle_of_a_frame(
    palette_model: Model, tmp_path: Path, peer: Peer, signum: int, times: int
) -> None:
    arguments = node_arguments(palette_model, autostart="true", input_size="1024x1024")
    with NodeProcess(tmp_path / "log", *arguments) as node:
        peer.publisher("/image")
        for _ in range(5):
            peer.send(np.zeros((64, 64, 3), np.uint8), time.time_ns())
        node.stop(signum, times)
        assert "Traceback" not in node.output
    wait_for(lambda: not peer.node.count_publishers(MASK), "end of the topics")
    wait_for(lambda: "deeplab" not in peer.node.get_node_names(), "end of the node")


def test_device_that_dies_leads_to_unconfigured_and_back(
    palette_model: Model, tmp_path: Path, peer: Peer, painted: Painted
) -> None:
    """The device's death is played: ``dying_node`` fails on a black frame."""
    arguments = node_arguments(palette_model, autostart="true")
    with NodeProcess(tmp_path / "log", *arguments, module="tests.ros.dying_node") as node:
        peer.listen(MASK)
        peer.send(np.zeros((32, 32, 3), np.uint8), 1)
        wait_for(lambda: peer.state() == "unconfigured", "way to unconfigured")
        assert "the backend failed: the device was pulled out; configure again" in node.output
        status, _ = peer.diagnostics("engine", lambda s, v: "pulled out" in s.message)
        assert status.level == b"\2"
        wait_for(lambda: not peer.node.count_publishers(MASK), "end of the masks' topic")
        assert peer.change("configure")
        assert peer.change("activate")
        peer.serve(painted[0], 2, MASK)
        assert {stamp for stamp, _ in peer.masks(MASK)} == {2}
        node.stop()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--log-level", "deeplab:=loud"), "log-level"),
        (("-r", "image:=/a//b"), "/a//b"),
        (("-p", "autostart:=true", "-r", "image:=a b"), "a b"),
    ],
)
def test_wrong_ros_argument_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    with NodeProcess(tmp_path / "log", *arguments) as node:
        assert node.process.wait(timeout=PATIENCE) == 1
        assert "Traceback" not in node.output
        (line,) = [text for text in node.output.splitlines() if "segmenter_node: " in text]
        assert reason in line


def test_parameter_that_nobody_declared_is_warned_about(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "log", "-p", "max_age:=5.0") as node:
        node.wait_for_line("parameter max_age is not one of this node and has no effect; did you")
        node.stop()


@pytest.mark.parametrize(
    ("parameter", "reason"),
    [
        ("backend:=gpu", "backend is 'gpu', expected one of: auto, cpu, tensorrt"),
        ("max_age_ms:=100", "expecting type 'DOUBLE'"),
        ("cameras:=['a b']", "cannot be part of a topic name"),
    ],
)
def test_wrong_parameter_at_start_is_one_line(tmp_path: Path, parameter: str, reason: str) -> None:
    with NodeProcess(tmp_path / "log", "-p", parameter) as node:
        assert node.process.wait(timeout=PATIENCE) == 1
        assert "Traceback" not in node.output
        (line,) = [text for text in node.output.splitlines() if "segmenter_node: " in text]
        assert reason in line


def test_missing_transport_profile_is_said(tmp_path: Path) -> None:
    unset = {"FASTDDS_DEFAULT_PROFILES_FILE": "", "FASTRTPS_DEFAULT_PROFILES_FILE": ""}
    with NodeProcess(tmp_path / "log", environment=unset) as node:
        (name,) = profile_environment()
        node.wait_for_line(f"export {name}=/")
        node.stop()


@pytest.mark.parametrize("unknown", [10, 255])
def test_parameter_of_an_unknown_type_ends_no_process(
    palette_model: Model, tmp_path: Path, peer: Peer, painted: Painted, unknown: int
) -> None:
    """rclpy raises in its own service; no answer comes, and the node goes on."""
    arguments = node_arguments(palette_model, autostart="true")
    value = Parameter(name="max_age_ms", value=ParameterValue(type=unknown))
    with (
        NodeProcess(tmp_path / "log", *arguments) as node,
        NodeProcess(
            tmp_path / "camera", "-p", "rate:=5.0", "-p", "size:=64x48",
            module="deeplab_rt.ros.camera_node",
        ) as camera,
    ):  # fmt: skip
        for name, process in (("deeplab", node), ("camera", camera)):
            for kind, service in (
                (SetParameters, "set_parameters"),
                (SetParametersAtomically, "set_parameters_atomically"),
            ):
                request = kind.Request(parameters=[value])
                peer.send_request(kind, f"/{name}/{service}", request)
            process.wait_for_line("a callback failed, going on: ValueError")
            assert process.process.poll() is None
        peer.listen(MASK)
        peer.serve(painted[0], time.time_ns(), MASK)
        assert not peer.set(max_age_ms=5.0)
        node.stop()
        camera.stop()


def test_configure_that_fails_leaves_nothing_behind(
    palette_model: Model, tmp_path: Path, peer: Peer
) -> None:
    """The model is loaded and most topics are there when the last one cannot be made."""
    override = {"qos_overrides./deeplab/camera_info.publisher.reliability": "nonsense"}
    with NodeProcess(tmp_path / "log", *node_arguments(palette_model, **override)) as node:
        process = psutil.Process(node.process.pid)
        threads = []
        for _ in range(3):
            assert not peer.change("configure")
            assert peer.state() == "unconfigured"
            wait_for(lambda: not peer.node.count_publishers(MASK), "end of the masks' topic")
            threads.append(process.num_threads())
        assert threads[2] <= threads[0], node.output
        node.stop()


def test_node_that_nobody_configures_says_that_it_waits(tmp_path: Path, peer: Peer) -> None:
    arguments = ("-r", "__ns:=/car")
    with NodeProcess(tmp_path / "log", *arguments) as node:
        node.wait_for_line(
            "waiting for `configure`: run `ros2 lifecycle set /car/deeplab configure`"
        )
        status, _ = peer.diagnostics("car/deeplab: engine", lambda s, v: True)
        assert (status.level, status.message) == (DiagnosticStatus.OK, "not configured")
        node.stop()


@pytest.mark.parametrize("configured", [True, False])
def test_node_that_was_shut_down_ends_well_on_the_signal(
    palette_model: Model, tmp_path: Path, peer: Peer, configured: bool
) -> None:
    with NodeProcess(tmp_path / "log", *node_arguments(palette_model)) as node:
        if configured:
            assert peer.change("configure")
            assert peer.change("inactive_shutdown")
        else:
            assert peer.change("unconfigured_shutdown")
        status, _ = peer.diagnostics("engine", lambda s, v: "finalised" in s.message)
        assert status.level == DiagnosticStatus.ERROR
        node.stop()
        assert "Traceback" not in node.output
