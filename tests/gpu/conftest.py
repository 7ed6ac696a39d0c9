"""A real GPU, or a reason why these tests are skipped.

With DEEPLAB_RT_EMULATED_GPU=1 they run over the doubles of tests/backends/tensorrt/emulation instead.
That proves the tests, so that they work when a person first runs them on a Jetson, and nothing else.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deeplab_rt.backends.tensorrt import probe
from deeplab_rt.models import Model

HELPERS = Path(__file__).resolve().parents[1] / "unit" / "backends" / "tensorrt"
EMULATED = os.environ.get("DEEPLAB_RT_EMULATED_GPU") == "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


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
        "_compile",
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
