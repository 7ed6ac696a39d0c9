"""The launch files, held against the package.

ros2/launch is on no package index. Where it is absent a stand-in takes its place, which only records
what the launch files make of it; where it is installed, the descriptions are built for real too.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from deeplab_rt.ros.camera_node import _PARAMETERS
from deeplab_rt.ros.parameters import Settings

ROOT = Path(__file__).parents[2]
FILES = sorted(path.name for path in (ROOT / "launch").glob("*.launch.py"))
MODULES = (
    "launch",
    "launch.actions",
    "launch.conditions",
    "launch.event_handlers",
    "launch.events",
    "launch.launch_description_sources",
    "launch.substitutions",
    "launch_ros",
    "launch_ros.actions",
    "launch_ros.event_handlers",
    "launch_ros.events",
    "launch_ros.events.lifecycle",
    "launch_ros.parameter_descriptions",
)


class Recorded:
    """Whatever the launch file makes: its class's name and its arguments."""

    def __init__(self, kind: str, *args: Any, **kwargs: Any) -> None:
        self.kind, self.args, self.kwargs = kind, args, kwargs

    def perform(self, context: dict[str, str]) -> str:
        """Of a LaunchConfiguration: its value."""
        return context[self.args[0]]


class StandIn(ModuleType):
    """A module of ros2/launch in which every name is a class that records."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: Recorded(name, *args, **kwargs)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMENT_PREFIX_PATH", sys.prefix)
    for name in MODULES:
        monkeypatch.setitem(sys.modules, name, StandIn(name))


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name.split(".")[0], ROOT / "launch" / name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def describe(name: str, **arguments: str) -> tuple[dict[str, Any], list[Recorded]]:
    """The declared arguments (name -> default) and the actions of a launch file."""
    (entities,) = load(name).generate_launch_description().args
    declared = {
        e.args[0]: e.kwargs["default_value"] for e in entities if e.kind == "DeclareLaunchArgument"
    }
    assert set(arguments) <= set(declared)
    context = {k: v for k, v in {**declared, **arguments}.items() if v is not None}
    actions = []
    for entity in entities:
        if entity.kind == "OpaqueFunction":
            actions += entity.kwargs["function"](context)
        elif entity.kind != "DeclareLaunchArgument":
            actions.append(entity)
    return declared, actions


def nodes(actions: list[Recorded]) -> list[Recorded]:
    return [action for action in actions if action.kind in ("Node", "LifecycleNode")]


def executables() -> set[str]:
    """Names of the console scripts in setup.py."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    strings = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    return {s.split(" = ")[0] for s in strings if isinstance(s, str) and " = deeplab_rt." in s}


def test_files_are_what_the_documentation_names() -> None:
    assert FILES == ["replay.launch.py", "segmenter.launch.py", "webcam.launch.py"]
    page = (ROOT / "docs" / "ros.md").read_text(encoding="utf-8")
    assert all(name in page for name in FILES)


@pytest.mark.parametrize("name", FILES)
def test_executables_and_parameters_are_the_packages_own(stand_in: None, name: str) -> None:
    _, actions = describe(name, **({"bag": "drive"} if name.startswith("replay") else {}))
    known = {
        "segmenter_node": {parameter.name for parameter in fields(Settings)},
        "camera_node": set(_PARAMETERS),
    }
    for node in nodes(actions):
        if node.kwargs["package"] != "deeplab_rt":
            continue
        assert node.kwargs["executable"] in executables()
        for given in node.kwargs["parameters"]:
            if isinstance(given, dict):
                names = set(given) - {"use_sim_time"}
                assert names <= known[node.kwargs["executable"]]
            else:
                assert Path(given).is_file()


@pytest.mark.parametrize("name", ["replay.launch.py", "webcam.launch.py"])
def test_included_arguments_are_those_of_the_segmenter(stand_in: None, name: str) -> None:
    declared, _ = describe("segmenter.launch.py")
    _, actions = describe(name, **({"bag": "drive"} if name.startswith("replay") else {}))
    (include,) = [action for action in actions if action.kind == "IncludeLaunchDescription"]
    (source,) = include.args
    assert Path(source.args[0]) == ROOT / "launch" / "segmenter.launch.py"
    assert set(dict(include.kwargs["launch_arguments"])) <= set(declared)
    assert actions.index(include) == 0  # it sets the environment of what follows


def test_one_camera(stand_in: None) -> None:
    _, actions = describe("segmenter.launch.py", image="/front/image_raw", namespace="car")
    (node,) = nodes(actions)
    assert node.kind == "LifecycleNode"
    assert node.kwargs["remappings"] == [
        ("image", "/front/image_raw"),
        ("camera_info", "/front/camera_info"),
    ]
    assert node.kwargs["parameters"][1] == {"autostart": False}
    changes = [action for action in actions if action.kind == "RegisterEventHandler"]
    assert [change.args[0].kind for change in changes] == ["OnProcessStart", "OnStateTransition"]
    assert changes[1].args[0].kwargs["start_state"] == "configuring"


def test_several_cameras_that_come_back(stand_in: None) -> None:
    _, actions = describe(
        "segmenter.launch.py",
        cameras="front, rear",
        image="image_raw",
        respawn="true",
        use_sim_time="true",
    )
    (node,) = nodes(actions)
    assert node.kwargs["remappings"] == [
        ("front/image", "front/image_raw"),
        ("front/camera_info", "front/camera_info"),
        ("rear/image", "rear/image_raw"),
        ("rear/camera_info", "rear/camera_info"),
    ]
    parameters = node.kwargs["parameters"][1]
    assert parameters == {"use_sim_time": True, "autostart": True, "cameras": ["front", "rear"]}
    assert Settings.from_values({"cameras": parameters["cameras"]}).cameras == ("front", "rear")
    assert not [action for action in actions if action.kind == "RegisterEventHandler"]


def test_profile_of_the_user_is_left_alone(stand_in: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from deeplab_rt.ros.transport import profile_environment

    for name in profile_environment():
        monkeypatch.delenv(name)
    _, actions = describe("segmenter.launch.py")
    assert {a.args for a in actions if a.kind == "SetEnvironmentVariable"} == set(
        profile_environment().items()
    )
    for name in profile_environment():
        monkeypatch.setenv(name, "/mine.xml")
    _, actions = describe("segmenter.launch.py")
    assert not [action for action in actions if action.kind == "SetEnvironmentVariable"]


def test_replay_plays_the_bag_and_records_the_masks(stand_in: None) -> None:
    declared, actions = describe("replay.launch.py", bag="drive", record="masks")
    assert declared["bag"] is None  # it must be given
    (timer,) = [action for action in actions if action.kind == "TimerAction"]
    (play,) = timer.kwargs["actions"]
    assert play.kwargs["cmd"][:5] == ["ros2", "bag", "play", "drive", "--clock"]
    (record,) = [action for action in actions if action.kind == "ExecuteProcess"]
    assert record.kwargs["cmd"][:5] == ["ros2", "bag", "record", "-o", "masks"]
    assert "/deeplab/label_mask" in record.kwargs["cmd"]


@pytest.mark.parametrize("name", FILES)
def test_description_is_built_for_real(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("launch.actions", reason="ros2/launch is not installed")
    pytest.importorskip("launch_ros.actions", reason="ros2/launch_ros is not installed")
    from launch import LaunchContext
    from launch.actions import DeclareLaunchArgument, OpaqueFunction
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    monkeypatch.setenv("AMENT_PREFIX_PATH", sys.prefix)
    context = LaunchContext()
    description = PythonLaunchDescriptionSource(str(ROOT / "launch" / name)).get_launch_description(
        context
    )
    context.launch_configurations["bag"] = "drive"
    kinds = set()
    for entity in description.entities:
        if isinstance(entity, (DeclareLaunchArgument, OpaqueFunction)):
            kinds |= {type(made).__name__ for made in entity.visit(context) or []}
    assert description.get_launch_arguments()
    if name == "segmenter.launch.py":
        assert {"LifecycleNode", "RegisterEventHandler"} <= kinds


def test_replay_follows_the_namespace(stand_in: None) -> None:
    _, actions = describe("replay.launch.py", bag="drive", record="masks", namespace="/car")
    (include,) = [action for action in actions if action.kind == "IncludeLaunchDescription"]
    assert dict(include.kwargs["launch_arguments"])["namespace"] == "/car"
    (record,) = [action for action in actions if action.kind == "ExecuteProcess"]
    assert "/car/deeplab/label_mask" in record.kwargs["cmd"]


def test_every_parameter_is_an_argument(stand_in: None) -> None:
    declared, actions = describe(
        "segmenter.launch.py",
        engine_policy="build",
        max_age_ms="100",
        publish_grid="true",
        images="/a/image_raw,/b/image_raw",
    )
    assert {parameter.name for parameter in fields(Settings)} <= set(declared)
    (node,) = nodes(actions)
    parameters = node.kwargs["parameters"][1]
    assert parameters["engine_policy"].args == ("build",)  # a text, whatever it looks like
    assert (parameters["max_age_ms"], parameters["publish_grid"]) == (100.0, True)
    assert parameters["images"] == ["/a/image_raw", "/b/image_raw"]
    assert node.kwargs["remappings"] == []
