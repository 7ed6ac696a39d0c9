"""Which GPU installation a machine wants. The standard library alone: it is asked before anything is there.

`make test-gpu` loads this file by its path, with the system's Python.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Platform:
    """An installation, named as its extra in setup.py.

    Attributes:
        system_tensorrt: whether TensorRT's Python module is the system's, which a virtual environment
            sees with ``--system-site-packages`` alone.
        what: it is for.
    """

    system_tensorrt: bool
    what: str


PLATFORMS = {
    "jetpack6": Platform(True, "Jetson Orin, JetPack 6: CUDA 12, TensorRT of the system"),
    "jetpack7": Platform(True, "Jetson Orin and Thor, JetPack 7: CUDA 13, TensorRT of the system"),
    "cuda12": Platform(False, "a driver of CUDA 12, TensorRT from pip"),
    "cuda13": Platform(False, "a driver of CUDA 13, TensorRT from pip"),
    "tensorrt-rtx": Platform(False, "an RTX GPU with a driver of CUDA 13, TensorRT-RTX from pip"),
}
_JETPACKS = {"R36": "jetpack6", "R38": "jetpack7", "R39": "jetpack7"}


def guess(root: Path = Path("/"), cuda: int | None = None) -> tuple[str | None, str]:
    """The platform of this machine.

    Args:
        root: of the file system.
        cuda: major version of CUDA that the driver knows; None asks the driver.

    Returns:
        A key of :data:`PLATFORMS` or None, and by what it was told.
    """
    try:
        release = (root / "etc/nv_tegra_release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        release = ""
    if release:
        major = release.lstrip("# ").partition(" ")[0]
        known = _JETPACKS.get(major)
        return known, f"/etc/nv_tegra_release says {major}" + (
            "" if known else ", which is unknown"
        )
    cuda = _driver_cuda() if cuda is None else cuda
    if cuda is None:
        return None, "there is no NVIDIA driver (libcuda.so.1)"
    if cuda < 12:
        return None, f"the driver knows CUDA {cuda}; 12 or later is needed"
    return ("cuda12" if cuda == 12 else "cuda13"), f"the driver knows CUDA {cuda}"


def _driver_cuda() -> int | None:
    try:
        version = ctypes.c_int()
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    return version.value // 1000 or None


def environment_commands(platform: str, folder: Path, python: str) -> list[list[str]]:
    """What makes a virtual environment for the GPU tests, and nothing that they do not need.

    Args:
        platform: key of :data:`PLATFORMS`.
        folder: of the environment.
        python: that makes it.
    """
    make = [python, "-m", "venv"]
    if PLATFORMS[platform].system_tensorrt:
        make.append("--system-site-packages")
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--quiet", "install"]
    extras = f".[cpu,gpu-test,{platform}]"
    pins = ["numpy<2"] if platform == "jetpack6" or os.environ.get("ROS_DISTRO") == "humble" else []
    return [[*make, str(folder)], [*pip, "--upgrade", "pip"], [*pip, "--editable", extras, *pins]]
