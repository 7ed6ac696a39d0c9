"""Doubles of what this machine lacks, a GPU and its driver; everything on top of them is real."""

from __future__ import annotations

import ctypes
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from deeplab_rt.backends.tensorrt import library, probe
from deeplab_rt.model_store import Model, write_manifest

sys.path.insert(0, str(Path(__file__).parent / "emulation"))

import fake_tensorrt
from host_gpu import HostKernels, build_driver, build_host_kernels, emulated_driver


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
    monkeypatch.setattr(probe, "_lost", None)
    _driver.emu_forget()
    _driver.emu_present(1)
    _driver.emu_device(b"Emulated Orin", 8, 7)
    yield _driver
    _driver.emu_present(0)
    assert _driver.emu_live() == 0, "something was not freed"
    assert _driver.emu_corruptions() == 0, "something was written past the end of a buffer"


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The double of TensorRT in the place of the library."""
    double = library.Library(fake_tensorrt, "tensorrt", fake_tensorrt.__version__)
    monkeypatch.setattr(library, "load", lambda name=None: double)
    return fake_tensorrt


@pytest.fixture(scope="session")
def typed_model(palette_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The palette network in fp32, in typed fp16 and in symmetric int8 for TensorRT."""
    directory = tmp_path_factory.mktemp("models") / "typed"
    directory.mkdir()
    network = onnx.load(palette_model.files["fp32"][0])
    onnx.save(network, directory / "model.onnx")
    onnx.save(as_half(network), directory / "model.fp16.onnx")
    onnx.save(as_int8(network), directory / "model.int8-trt.onnx")
    names = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8-trt": "model.int8-trt.onnx"}
    return write_manifest(
        directory,
        {
            "name": "typed",
            "labels": palette_model.labels.to_list(),
            "input": {"height": 96, "width": 128},
            "files": {precision: {"path": name} for precision, name in names.items()},
        },
    )


def as_half(network: onnx.ModelProto) -> onnx.ModelProto:
    """Every float a half: what exporting ``model.half()`` gives."""
    network = onnx.ModelProto.FromString(network.SerializeToString())
    for tensor in network.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            half = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    for node in network.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
    network.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    return network


def as_int8(network: onnx.ModelProto) -> onnx.ModelProto:
    """Symmetric Q/DQ around the convolution: int8, zero point 0, bias in float."""
    network = onnx.ModelProto.FromString(network.SerializeToString())
    graph, helper = network.graph, onnx.helper
    (weight,) = (t for t in graph.initializer if t.name == "weight")
    values = numpy_helper.to_array(weight)
    scales = np.maximum(np.abs(values).max(axis=(1, 2, 3)), 1e-6).astype(np.float32) / 127
    quantised = np.rint(values / scales[:, None, None, None]).astype(np.int8)
    constants = {
        "weight_q": quantised,
        "weight_scale": scales,
        "weight_zero": np.zeros(len(scales), np.int8),
        "cells_scale": np.float32(1 / 127),
        "cells_zero": np.int8(0),
    }
    graph.initializer.remove(weight)
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()
    )
    conv = graph.node[-1]
    cells = ["cells_scale", "cells_zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["cells", *cells], ["cells_q"]),
        helper.make_node("DequantizeLinear", ["cells_q", *cells], ["cells_dq"]),
        helper.make_node(
            "DequantizeLinear", ["weight_q", "weight_scale", "weight_zero"], ["weight_dq"], axis=0
        ),
    ]
    conv.input[:2] = ["cells_dq", "weight_dq"]
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*rest[:-1], *nodes, conv])
    return network
