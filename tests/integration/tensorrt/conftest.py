"""Doubles of what this machine lacks, a GPU and its driver; everything on top of them is real."""

from __future__ import annotations

import ctypes
import gc
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deeplab_rt.backends.tensorrt import library, probe
from deeplab_rt.models import Model

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "emulation"))

import fake_tensorrt
from host_gpu import HostKernels, build_driver, build_host_kernels, emulated_driver
from typed_networks import make_typed_model


@pytest.fixture(scope="session")
def host_kernels_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``kernels.cu`` compiled for the CPU."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed: apt-get install g++")
    return build_host_kernels(tmp_path_factory.mktemp("kernels") / "kernels_host.so")


@pytest.fixture(scope="session")
def host_kernels(host_kernels_library: Path) -> HostKernels:
    return HostKernels(host_kernels_library)


@pytest.fixture(scope="session")
def _driver(host_kernels_library: Path, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The double of libcuda.so.1, loaded, without a GPU until a test asks for one."""
    pytest.importorskip("cuda.bindings.driver", reason="cuda-python is not installed")
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        pass
    else:
        pytest.skip("this machine has a real driver: tests/gpu/ is for it")
    ctypes.CDLL(str(build_driver(tmp_path_factory.mktemp("driver") / "libcuda.so.1")))
    driver = emulated_driver()
    driver.emu_present(0)
    driver.emu_kernels(str(host_kernels_library).encode())
    return driver


@pytest.fixture
def driver(_driver: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Iterator[ctypes.CDLL]:
    """The emulated driver with one GPU; afterwards nothing may be left on it, nor written past an end."""
    monkeypatch.setattr(probe, "lost_because", None)
    monkeypatch.setattr(probe, "BOARD", Path("/nonexistent"))
    for record in (
        fake_tensorrt.violations,
        fake_tensorrt.host_code_allowed,
        fake_tensorrt.configs,
    ):
        record.clear()
    _driver.emu_forget()
    _driver.emu_present(1)
    _driver.emu_device(b"Emulated Orin", 8, 7)
    yield _driver
    _driver.emu_present(0)
    assert _driver.emu_live() == 0, "something was not freed"
    assert _driver.emu_corruptions() == 0, "something was written past the end of a buffer"
    assert _driver.emu_blocking_streams() == 0, "a stream waits for the default one"
    gc.collect()
    found, fake_tensorrt.violations[:] = list(fake_tensorrt.violations), []
    assert not found, found


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The double of TensorRT in the place of the library."""
    double = library.Library(fake_tensorrt, "tensorrt", fake_tensorrt.__version__)
    monkeypatch.setattr(library, "load", lambda name=None: double)
    return fake_tensorrt


@pytest.fixture(scope="session")
def typed_model(palette_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The palette network in fp32, in typed fp16 and in symmetric int8 for TensorRT."""
    return make_typed_model(palette_model, tmp_path_factory.mktemp("models") / "typed")
