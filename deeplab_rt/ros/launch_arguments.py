"""What the arguments of the launch files and a parameter file mean for the node.

Imports neither launch nor rclpy, so that it is tested without them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from deeplab_rt.errors import DeeplabError
from deeplab_rt.files import expand_user
from deeplab_rt.ros.parameters import Settings
from deeplab_rt.yaml_files import load_yaml

NODE_NAME = "deeplab"
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")
_TOPIC = re.compile(r"(~/|/)?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")
_NOT_OURS = re.compile(r"use_sim_time|qos_overrides\..*|start_type_description_service")
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


class LaunchArgumentError(DeeplabError):
    """An argument of a launch file is not what it may be."""


@dataclass
class NodeSetup:
    """How the node is to be started.

    Attributes:
        params_file: the parameter file.
        parameters: what takes the place of its values.
        remappings: (from, to) pairs.
        autostart: whether the launch file configures and activates the node.
        respawn: whether the node is started again when it dies; it then starts itself.
    """

    params_file: str
    parameters: dict[str, Any] = field(default_factory=dict)
    remappings: list[tuple[str, str]] = field(default_factory=list)
    autostart: bool = True
    respawn: bool = False


def node_setup(arguments: Mapping[str, str], default_file: Path) -> NodeSetup:
    """What the arguments of segmenter.launch.py ask for.

    Args:
        arguments: ``image``, ``camera_info``, ``params_file``, ``namespace``, ``log_level``,
            ``autostart``, ``respawn``, ``use_sim_time``, and every parameter by its name; empty means
            that nothing was said.
        default_file: the parameter file where none is named.

    Raises:
        LaunchArgumentError: one of them is not what it may be.
    """
    check_choice("log_level", arguments["log_level"], LOG_LEVELS)
    file = expand_user(arguments["params_file"] or default_file)
    setup = NodeSetup(
        str(file),
        autostart=parse_bool("autostart", arguments["autostart"]),
        respawn=parse_bool("respawn", arguments["respawn"]),
    )
    # A node that was killed stays in the graph for up to 20 s, and a request to the one that takes its
    # place may go to that ghost: a node that is to come back starts itself.
    setup.parameters["autostart"] = setup.autostart and setup.respawn
    # Only where it is said: else that of the parameter file, or of a launch file around this one.
    if arguments["use_sim_time"]:
        setup.parameters["use_sim_time"] = parse_bool("use_sim_time", arguments["use_sim_time"])
    for parameter in fields(Settings):
        text = arguments.get(parameter.name, "")
        if text and parameter.name != "autostart":
            setup.parameters[parameter.name] = parse_value(parameter.name, parameter.type, text)
    given = {**file_parameters(file, arguments["namespace"]), **setup.parameters}
    cameras = [name for name in _as_list(given.get("cameras")) if name]
    if any(_as_list(given.get("images"))):
        return setup
    image = arguments["image"]
    check_topic("image", image)
    info = arguments["camera_info"] or beside(image)
    check_topic("camera_info", info)
    setup.remappings = [("image", image), ("camera_info", info)]
    if cameras:
        if image.startswith(("/", "~")):
            raise LaunchArgumentError(
                f"image:={image}: with several cameras it is the last part of each one's topic, as in "
                "image:=image_raw; or name every topic: images:=/front/image_raw,/rear/image_raw"
            )
        setup.remappings = [
            (f"{camera}/{a}", f"{camera}/{b}") for camera in cameras for a, b in setup.remappings
        ]
    return setup


def file_parameters(path: Path, namespace: str = "", node: str = NODE_NAME) -> dict[str, Any]:
    """The parameters that a ROS parameter file gives to the node.

    Raises:
        LaunchArgumentError: it cannot be read, or is not YAML.
    """
    content = load_yaml(path, LaunchArgumentError)
    full = "/" + "/".join(part for part in (namespace.strip("/"), node) if part)
    found: dict[str, Any] = {}
    for pattern, parameters in _sections(content, ""):
        if re.fullmatch(pattern, full):
            found |= parameters
    return found


def unknown_parameters(names: Sequence[str]) -> list[str]:
    """A line for each name that the node does not declare, with the likeliest that was meant."""
    known = [parameter.name for parameter in fields(Settings)]
    lines = []
    for name in names:
        if name in known or _NOT_OURS.fullmatch(name):
            continue
        meant = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {meant[0]}?" if meant else ""
        lines.append(f"parameter {name} is not one of this node and has no effect{hint}")
    return lines


def given_parameters(arguments: Sequence[str], namespace: str, node: str) -> list[str]:
    """Names of the parameters on a ROS command line: those of ``-p`` and of every ``--params-file``."""
    names: list[str] = []
    for option, value in pairwise(arguments):
        if option in ("-p", "--param"):
            names.append(value.partition(":=")[0].rpartition(":")[2])
        elif option == "--params-file":
            names += file_parameters(Path(value), namespace, node)
    return list(dict.fromkeys(names))


def parse_bool(name: str, text: str) -> bool:
    """True or false.

    Raises:
        LaunchArgumentError: it is neither.
    """
    check_choice(name, text.lower(), (*_TRUE, *_FALSE))
    return text.lower() in _TRUE


def parse_value(name: str, kind: object, text: str) -> Any:
    """The value of a parameter from its text; lists with commas between, or in YAML's brackets.

    Raises:
        LaunchArgumentError: it is not of the parameter's type.
    """
    if kind == "bool":
        return parse_bool(name, text)
    if kind in ("float", "int"):
        try:
            return float(text) if kind == "float" else int(text)
        except ValueError:
            whole = "a number" if kind == "float" else "a whole number"
            raise LaunchArgumentError(f"{name}:={text}: expected {whole}") from None
    if kind == "str":
        return text
    if text.startswith("["):
        try:
            return [str(item) for item in yaml.safe_load(text)]
        except (yaml.YAMLError, TypeError):
            raise LaunchArgumentError(f"{name}:={text}: expected a list, as in [a, b]") from None
    return [text] if name == "ego_mask" else [item.strip() for item in text.split(",")]


def check_choice(name: str, text: str, choices: Sequence[str]) -> None:
    """Refuse what is not one of the choices.

    Raises:
        LaunchArgumentError: it is not.
    """
    if text not in choices:
        raise LaunchArgumentError(f"{name}:={text}: expected one of {', '.join(choices)}")


def check_topic(name: str, topic: str) -> None:
    """Refuse what cannot be the name of a topic.

    Raises:
        LaunchArgumentError: it cannot.
    """
    if not _TOPIC.fullmatch(topic):
        raise LaunchArgumentError(
            f"{name}:={topic}: not a topic name; expected words of letters, digits and underscores with "
            "a / between them, as in /camera/image_raw"
        )


def beside(image: str) -> str:
    """The camera_info topic that belongs to an image topic, by the convention of image_transport."""
    folder, slash, _ = image.removesuffix("/compressed").rpartition("/")
    return f"{folder}/camera_info" if slash else "camera_info"


def _sections(content: Any, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(regular expression of full node names, parameters) of a parameter file."""
    if not isinstance(content, dict):
        return
    for key, value in content.items():
        if key == "ros__parameters":
            if isinstance(value, dict):
                yield prefix, dict(_flat(value))
            continue
        words = [word for word in str(key).split("/") if word]
        pattern = prefix
        for word in words:
            pattern += {"**": "(/[^/]+)*", "*": "/[^/]+"}.get(word, "/" + re.escape(word))
        yield from _sections(value, pattern)


def _flat(parameters: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in parameters.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _as_list(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else []
