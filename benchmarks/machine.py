"""What a figure was measured on, printed beside it."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any


def describe() -> dict[str, Any]:
    """CPU, cores, memory, load at the beginning, versions of what the figures depend on."""
    cpuinfo: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        cpuinfo[key.strip()] = value.strip()
    flags = cpuinfo.get("flags", "").split()
    memory = Path("/proc/meminfo").read_text().splitlines()[0].split()[1]
    return {
        "cpu": cpuinfo.get("model name", platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "vector": [
            name for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16") if name in flags
        ],
        "memory_gb": round(int(memory) / 2**20, 1),
        "load_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in ("openvino", "ros-rclpy", "ros-fastdds")},
    }


def warn_if_busy() -> None:
    """Say so where other work will disturb the figures."""
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"the machine is busy (load {load:.1f}): expect worse figures", file=sys.stderr)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
