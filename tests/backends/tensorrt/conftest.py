"""Doubles of what this machine lacks, a GPU and its driver; everything on top of them is real."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "emulation"))

from host_gpu import HostKernels, build_host_kernels  # noqa: E402


@pytest.fixture(scope="session")
def host_kernels_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``kernels.cu`` compiled for the CPU."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed: apt-get install g++")
    return build_host_kernels(tmp_path_factory.mktemp("kernels") / "kernels_host.so")


@pytest.fixture(scope="session")
def host_kernels(host_kernels_library: Path) -> HostKernels:
    return HostKernels(host_kernels_library)
