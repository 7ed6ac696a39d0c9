"""A double of TensorRT's runtime: "engines" are ONNX files, evaluated by OpenVINO on the CPU.

It reads and writes the emulated device's memory, and puts its work into the emulated stream as a host
function, so that it is queued, awaited and captured as a real engine's work is. Each frame is evaluated
by itself exactly as the CPU backend does it, so that the logits are the same to the bit.
"""

from __future__ import annotations

import ctypes
import enum
from functools import lru_cache
from typing import Any

import numpy as np
from host_gpu import emulated_driver

__version__ = "10.3.0"

DataType = enum.Enum("DataType", ["FLOAT", "HALF", "INT8", "INT32", "UINT8"])
_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

refuse_when_capturing = False  # a test's wish: the network cannot be captured
poison: float | None = None  # a test's wish: this value among the logits


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self) -> None:
        pass


class Runtime:
    DLA_core = 0

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
        try:
            return Engine(content, self.logger)
        except RuntimeError as error:
            self.logger.log(ILogger.ERROR, f"deserialisation failed: {str(error)[-80:]}")
            return None


@lru_cache(maxsize=16)
def _compiled(content: bytes) -> tuple[Any, Any]:
    """The network as it is, and compiled for one frame as the CPU backend compiles it."""
    import openvino as ov

    core = ov.Core()
    model = core.read_model(content)
    one = model.clone()
    one.reshape({0: [1, *[dim.get_length() for dim in list(one.input(0).partial_shape)[1:]]]})
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    return model, core.compile_model(one, "CPU", config)


class Engine:
    def __init__(self, content: bytes, logger: Any) -> None:
        self.logger = logger
        self.model, self.compiled = _compiled(content)
        self.names = ["image", "logits"]
        self.num_io_tensors = 2
        self.types = {
            "u8": DataType.UINT8, "f32": DataType.FLOAT, "f16": DataType.HALF, "i32": DataType.INT32
        }  # fmt: skip

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def _port(self, name: str) -> Any:
        return self.model.input(0) if name == "image" else self.model.output(0)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(
            dim.get_length() if dim.is_static else -1 for dim in self._port(name).partial_shape
        )

    def get_tensor_dtype(self, name: str) -> DataType:
        return self.types[self._port(name).element_type.get_type_name()]

    def create_execution_context(self) -> Context | None:
        return Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self._compiled = engine.compiled
        self._request = self._compiled.create_infer_request()
        self._engine = engine
        self._address: dict[str, int] = {}
        self._shape: tuple[int, ...] = ()
        self._callbacks: list[Any] = []  # graphs call them again

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._address[name] = address
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shape = tuple(shape)
        return True

    def execute_async_v3(self, stream: int) -> bool:
        driver = emulated_driver()
        if refuse_when_capturing and driver.emu_is_capturing(ctypes.c_void_p(stream)):
            self._engine.logger.log(
                ILogger.ERROR, "this network synchronises and cannot be captured"
            )
            return False
        shape = self._shape

        @_CALLBACK
        def evaluate(_: int) -> None:
            self._evaluate(shape)

        self._callbacks.append(evaluate)
        code = driver.cuLaunchHostFunc(ctypes.c_void_p(stream), evaluate, None)
        if code:
            self._engine.logger.log(ILogger.ERROR, f"Cuda failure {code}")
        return not code

    def _evaluate(self, shape: tuple[int, ...]) -> None:
        images = _view(self._address["image"], np.uint8, shape)
        out = self._compiled.output(0)
        for index, image in enumerate(images):
            logits = self._request.infer({0: image[None]})[out]
            to = self._address["logits"] + index * logits.nbytes
            _view(to, logits.dtype, logits.shape)[...] = logits
            if poison is not None:
                _view(to, logits.dtype, logits.shape)[0, 1, 2, 3] = poison


def _view(address: int, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    flat = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
    return flat.view(dtype).reshape(shape)
