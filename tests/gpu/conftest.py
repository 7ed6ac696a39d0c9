"""A real GPU, or a reason why these tests are skipped.

With DEEPLAB_RT_EMULATED_GPU=1 they run over the doubles of tests/integration/tensorrt/emulation instead.
That proves the tests, so that they work when a person first runs them on a Jetson, and nothing else.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deeplab_rt.backends.tensorrt import probe
from deeplab_rt.models import Model

HELPERS = Path(__file__).resolve().parents[1] / "integration" / "tensorrt"
EMULATED = os.environ.get("DEEPLAB_RT_EMULATED_GPU") == "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


PAGE: list[str] = []  # lines of the report that tests add


@pytest.fixture
def page() -> list[str]:
    """Lines for the page that `make test-gpu` leaves: stage times, the layers of an engine."""
    return PAGE


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print one page to send back, and write it where DEEPLAB_RT_GPU_REPORT says."""
    outcomes = terminalreporter.stats
    if not outcomes.get("passed") and not outcomes.get("failed") and not outcomes.get("error"):
        return
    counts = [
        f"{len(outcomes.get(kind, []))} {kind}" for kind in ("passed", "failed", "error", "skipped")
    ]
    lines = [*_machine(), f"tests: {', '.join(counts)}"]
    for kind in ("failed", "error"):
        for report in outcomes.get(kind, []):
            crash = getattr(report.longrepr, "reprcrash", None)
            first = str(getattr(crash, "message", report.longrepr)).partition("\n")[0][:160]
            lines.append(f"  {kind}: {report.nodeid.rpartition('/')[2]}: {first}")
    lines += PAGE
    terminalreporter.section("GPU report: send this page back")
    terminalreporter.write_line("\n".join(lines))
    if path := os.environ.get("DEEPLAB_RT_GPU_REPORT"):
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _machine() -> Iterator[str]:
    """What ran: from ``doctor``, so that the page and the program say the same."""
    from deeplab_rt import doctor

    wanted = (
        "machine",
        "deeplab_rt",
        "JetPack",
        "GPU",
        "driver",
        "GPU platform",
        "cuda-python",
        "TensorRT",
    )
    for finding in doctor.examine():
        if finding.name in wanted:
            yield f"{finding.name}: {finding.found}"
    for name in ("numpy", "opencv-python", "openvino", "onnx", "nvidia-cuda-nvrtc"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield f"{name}: {importlib.metadata.version(name)}"
    if EMULATED:
        yield "EMULATED: this page says nothing of any GPU"


@pytest.fixture(scope="session", autouse=True)
def _gpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    sys.path[:0] = [str(HELPERS), str(HELPERS / "emulation")]
    if EMULATED:
        with pytest.MonkeyPatch.context() as patch:
            _emulate(tmp_path_factory.mktemp("emulated"), patch)
            yield
        return
    if missing := probe.machine_lacks():
        pytest.skip(f"these tests need a GPU: {missing}")
    yield


def _emulate(folder: Path, patch: pytest.MonkeyPatch) -> None:
    import fake_tensorrt
    import onnx
    from host_gpu import build_driver, build_host_kernels, emulated_driver
    from typed_networks import of_one_size

    from deeplab_rt.backends.tensorrt import builder, library

    ctypes.CDLL(str(build_driver(folder / "libcuda.so.1")))
    emulated_driver().emu_kernels(str(build_host_kernels(folder / "kernels.so")).encode())
    double = library.Library(fake_tensorrt, "tensorrt", fake_tensorrt.__version__)
    patch.setattr(library, "load", lambda name=None: double)
    patch.setattr(
        builder,
        "compile_network",
        lambda library, path, content, spec, *rest: of_one_size(
            onnx.load_model_from_string(content), spec.input_size
        ),
    )


@pytest.fixture(scope="session")
def typed_model(
    _gpu: None, palette_model: Model, tmp_path_factory: pytest.TempPathFactory
) -> Model:
    """The palette network in fp32, in typed fp16 and in symmetric int8."""
    from typed_networks import make_typed_model

    return make_typed_model(palette_model, tmp_path_factory.mktemp("models") / "typed")
