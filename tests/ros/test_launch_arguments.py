"""What the launch files' arguments and parameter files mean, without launch."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from deeplab_rt.ros.launch_arguments import (
    LaunchArgumentError,
    NodeSetup,
    beside,
    file_parameters,
    given_parameters,
    node_setup,
    unknown_parameters,
)
from deeplab_rt.ros.parameters import Settings

DEFAULT_FILE = Path(__file__).parents[2] / "config" / "segmenter.yaml"
NOTHING_SAID = {
    "image": "image",
    "camera_info": "",
    "params_file": "",
    "namespace": "",
    "log_level": "info",
    "autostart": "true",
    "respawn": "false",
    "use_sim_time": "",
    **{parameter.name: "" for parameter in fields(Settings) if parameter.name != "autostart"},
}


def setup(**arguments: str) -> NodeSetup:
    return node_setup({**NOTHING_SAID, **arguments}, DEFAULT_FILE)


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_nothing_said_changes_nothing() -> None:
    assert setup() == NodeSetup(
        str(DEFAULT_FILE),
        {"autostart": False},
        [("image", "image"), ("camera_info", "camera_info")],
    )


def test_use_sim_time_is_set_only_where_it_is_said() -> None:
    """That of a parameter file, or of SetParameter in a launch file around this one, is kept."""
    assert "use_sim_time" not in setup().parameters
    assert setup(use_sim_time="true").parameters["use_sim_time"] is True
    assert setup(use_sim_time="false").parameters["use_sim_time"] is False


@pytest.mark.parametrize(
    "name", ["/**", "deeplab", "/deeplab", "/*", "/car/deeplab", "/**/deeplab"]
)
def test_cameras_of_a_parameter_file_are_remapped_too(tmp_path: Path, name: str) -> None:
    text = f"{name}:\n  ros__parameters:\n    cameras: [front, rear]\n"
    file = write(tmp_path / "params.yaml", text)
    namespace = "car" if name == "/car/deeplab" else ""
    remappings = setup(params_file=file, image="image_raw", namespace=namespace).remappings
    assert remappings == [
        ("front/image", "front/image_raw"),
        ("front/camera_info", "front/camera_info"),
        ("rear/image", "rear/image_raw"),
        ("rear/camera_info", "rear/camera_info"),
    ]


def test_parameters_of_another_node_are_not_ours(tmp_path: Path) -> None:
    text = (
        "other:\n  ros__parameters:\n    cameras: [front]\nx:\n  deeplab:\n    ros__parameters:\n"
    )
    text += "      cameras: [rear]\n"
    path = Path(write(tmp_path / "params.yaml", text))
    assert file_parameters(path) == {}
    assert file_parameters(path, "x") == {"cameras": ["rear"]}


def test_images_need_no_remapping() -> None:
    result = setup(images="/a/image_raw,/b/image_raw")
    assert result.parameters["images"] == ["/a/image_raw", "/b/image_raw"]
    assert result.remappings == []
    settings = Settings.from_values({"images": result.parameters["images"]})
    assert settings.camera_names == ("a", "b")


@pytest.mark.parametrize(
    ("images", "names"),
    [
        (["/cam/front/image", "/cam/rear/image"], ("front", "rear")),
        (["/a/image", "/a/image"], ("camera_0", "camera_1")),
        (["/a/image"], ("",)),
        ([""], ("",)),
    ],
)
def test_names_of_cameras_by_their_topics(images: list[str], names: tuple[str, ...]) -> None:
    assert Settings.from_values({"images": images}).camera_names == names


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"params_file": "/nowhere.yaml"}, "/nowhere.yaml"),
        ({"autostart": "maybe"}, "autostart:=maybe: expected one of true, 1, yes, on, false"),
        ({"respawn": "2"}, "respawn:=2: expected one of"),
        ({"use_sim_time": "si"}, "use_sim_time:=si: expected one of"),
        ({"log_level": "loud"}, "log_level:=loud: expected one of debug, info, warn"),
        ({"image": "/camera//image"}, "image:=/camera//image: not a topic name"),
        ({"image": "my camera"}, "image:=my camera: not a topic name"),
        ({"camera_info": "1/x"}, "camera_info:=1/x: not a topic name"),
        ({"max_age_ms": "soon"}, "max_age_ms:=soon: expected a number"),
        ({"device": "first"}, "device:=first: expected a whole number"),
        ({"publish_grid": "perhaps"}, "publish_grid:=perhaps: expected one of"),
        ({"cameras": "a,b", "image": "/x/image"}, "images:=/front/image_raw,/rear/image_raw"),
        ({"cameras": "[a, b"}, "expected a list"),
    ],
)
def test_what_is_not_right_is_refused_in_one_line(arguments: dict[str, str], reason: str) -> None:
    with pytest.raises(LaunchArgumentError) as caught:
        setup(**arguments)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_broken_parameter_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LaunchArgumentError, match="params.yaml: not a YAML file"):
        setup(params_file=write(tmp_path / "params.yaml", "a: [1\nb: }"))


@pytest.mark.parametrize(
    ("image", "info"),
    [
        ("/cam/image_raw", "/cam/camera_info"),
        ("/cam/image_raw/compressed", "/cam/camera_info"),
        ("image", "camera_info"),
    ],
)
def test_camera_info_is_beside_the_image(image: str, info: str) -> None:
    assert beside(image) == info


def test_parameters_that_nobody_declared_are_named(tmp_path: Path) -> None:
    text = "/**:\n  ros__parameters:\n    max_age: 5.0\n    use_sim_time: true\n"
    text += "    qos_overrides:\n      /image:\n        subscription: {depth: 3}\n"
    file = write(tmp_path / "params.yaml", text)
    arguments = [
        "node",
        "--ros-args",
        "-p",
        "modle:=x",
        "-p",
        "backend:=cpu",
        "--params-file",
        file,
    ]
    lines = unknown_parameters(given_parameters(arguments, "/", "deeplab"))
    assert lines == [
        "parameter modle is not one of this node and has no effect; did you mean model?",
        "parameter max_age is not one of this node and has no effect; did you mean max_age_ms?",
    ]


def test_shipped_file_has_no_such_parameter() -> None:
    assert unknown_parameters(list(file_parameters(DEFAULT_FILE))) == []


def test_list_of_one_text_with_commas() -> None:
    polygon = "0,400 640,400 640,480 0,480"
    parameters: dict[str, Any] = setup(ego_mask=polygon).parameters
    assert parameters["ego_mask"] == [polygon]
