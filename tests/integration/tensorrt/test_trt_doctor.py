"""doctor and probe on a machine with a GPU: the emulated driver."""

from __future__ import annotations

import ctypes
import importlib.metadata
from typing import Any

import pytest

from deeplab_rt import doctor
from deeplab_rt.backends.tensorrt import engine_store, probe
from deeplab_rt.errors import BackendError
from deeplab_rt.models import DEFAULT_MODEL, load_model, model_names


def found(name: str) -> list[doctor.Finding]:
    return [finding for finding in doctor.examine() if finding.name == name]


def test_gpu_and_driver(driver: ctypes.CDLL, tensorrt: Any) -> None:
    assert found("GPU")[0].found == ("Emulated Orin (8.7, 16 SMs), 8.0 GiB of memory of its own")
    assert found("driver")[0].found == "knows CUDA 13.0"
    assert (
        "make test-gpu PLATFORM=cuda13` (the driver knows CUDA 13)"
        in found("GPU platform")[0].found
    )
    assert found("TensorRT")[0].found == "TensorRT 10.3.0"
    driver.emu_integrated(1)
    assert "shared with the CPU" in found("GPU")[0].found


@pytest.mark.skipif(DEFAULT_MODEL not in model_names(), reason="no model is shipped")
def test_engines_of_this_machine(
    driver: ctypes.CDLL, tensorrt: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPLAB_RT_CACHE", str(tmp_path))
    missing = found("engine")
    assert missing and all(one.state == "missing" for one in missing)
    assert missing[0].fix.startswith("deeplab_rt build --precision ")
    model = load_model(DEFAULT_MODEL)
    spec = engine_store.spec_of(model, "fp32", None, 1, probe.target_here())
    engine_store.save(spec, b"engine")
    there = [one for one in found("engine") if one.state == "ok"]
    assert len(there) == 1
    assert (
        "fp32 " in there[0].found
        and "Emulated Orin (8.7, 16 SMs) with TensorRT 10.3.0" in there[0].found
    )


@pytest.mark.parametrize(
    ("call", "code", "message"),
    [
        ("cuInit", 100, "finds no GPU.*CUDA_VISIBLE_DEVICES"),
        ("cuInit", 34, "stub and not a driver"),
        ("cuInit", 803, r"cuInit says emulated error 803 .803..*nvidia-smi"),
        ("cuDeviceGetName", 999, "cuDeviceGetName says"),
    ],
)
def test_a_driver_that_does_not_work_is_described(
    driver: ctypes.CDLL, call: str, code: int, message: str
) -> None:
    driver.emu_fail(call.encode(), 1, code)
    with pytest.raises(BackendError, match=message):
        probe.find_gpu()


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (None, "cuda-python is not installed: `pip install 'cuda-bindings==13"),
        (
            "14.1.0",
            "14.1.0 is for newer drivers than this one, which knows CUDA 13.0: `pip install",
        ),
    ],
)
def test_a_cuda_python_that_does_not_suit_the_driver(
    driver: ctypes.CDLL,
    tensorrt: Any,
    monkeypatch: pytest.MonkeyPatch,
    version: str | None,
    message: str,
) -> None:
    def installed(name: str) -> str:
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    assert probe.machine_lacks() is None
    monkeypatch.setattr(importlib.metadata, "version", installed)
    missing = probe.machine_lacks()
    assert missing is not None and message in missing
