"""What a figure was measured on, to be printed beside it."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from deeplab_rt import parallel

# What decides how fast matrix arithmetic can be: x86-64 and ARM names, as /proc/cpuinfo has them.
FLAGS = (
    "avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
    "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
PACKAGES = (
    "openvino", "onnxruntime", "torch", "segmentation_models_pytorch", "opencv-python", "numba",
    "numpy", "ros-rclpy", "ros-fastdds",
)  # fmt: skip
BUSY_LOAD = 0.5


def describe(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """CPU, cores this process may use, memory, load so far, system and versions; plain values."""
    cpu = _last_processor(cpuinfo)
    flags = {*cpu.get("flags", "").split(), *cpu.get("Features", "").split()}
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": cpu.get("model name", platform.machine()),
        "cores": parallel.cores(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "memory_gib": round(pages / 2**30, 1),
        "load_1min": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
    }


def warning() -> str | None:
    """One line where other work on this machine will disturb the figures."""
    load = os.getloadavg()[0]
    if load <= BUSY_LOAD:
        return None
    return f"other work runs on this machine (load {load:.1f}): compare the ratios, not the times"


def warn_if_busy() -> None:
    """Print :func:`warning` on stderr."""
    if text := warning():
        print(f"warning: {text}", file=sys.stderr)


def in_words(machine: dict[str, Any]) -> str:
    """A description in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['cpu']}, {machine['cores']} cores ({' '.join(machine['flags'])}), "
        f"{machine['memory_gib']} GiB, load {machine['load_1min']}, {machine['system']}, "
        f"Python {machine['python']}, {versions}"
    )


def _last_processor(path: Path) -> dict[str, str]:
    """The last processor of /proc/cpuinfo; empty where there is no such file."""
    lines = path.read_text().splitlines() if path.is_file() else []
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
