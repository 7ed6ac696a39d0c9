"""A double of TensorRT's runtime: "engines" are ONNX files, evaluated by OpenVINO on the CPU.

It reads and writes the emulated device's memory, and puts its work into the emulated stream as a host
function, so that it is queued, awaited and captured as a real engine's work is. Each frame is evaluated
by itself exactly as the CPU backend does it, so that the logits are the same to the bit.

It is strict: what a real TensorRT would crash or err on in silence is written down in ``violations``,
which the fixtures find empty or fail.
"""

from __future__ import annotations

import ctypes
import enum
import json
import weakref
from functools import lru_cache
from typing import Any

import numpy as np
from host_gpu import emulated_driver

__version__ = "10.3.0"

DataType = enum.Enum("DataType", ["FLOAT", "HALF", "INT8", "INT32", "UINT8"])
_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

DynamicShapesKernelSpecializationStrategy = enum.Enum(
    "DynamicShapesKernelSpecializationStrategy", ["LAZY", "EAGER", "NONE"]
)
CudaGraphStrategy = enum.Enum("CudaGraphStrategy", ["DISABLED", "WHOLE_GRAPH_CAPTURE"])
LayerInformationFormat = enum.Enum("LayerInformationFormat", ["ONELINE", "JSON"])

violations: list[str] = []  # what a real TensorRT would not have survived
_callbacks: list[Any] = []  # streams and graphs call them, whatever became of their context
host_code_allowed: list[bool] = []  # of each runtime that loaded an engine
configs: list[Any] = []  # runtime configs that contexts were made with
warning: str | None = None  # a test's wish: TensorRT warns of this when it loads
capturable = True  # a test's wish: what TensorRT-RTX says of the network
on_enqueue: Any = None  # a test's wish: called within every enqueue
refuse_when_capturing = False  # a test's wish: the network cannot be captured
poison: float | None = None  # a test's wish: this value among the logits


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self) -> None:
        pass


class IProfiler:
    def __init__(self) -> None:
        pass


class Runtime:
    engine_host_code_allowed = False

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
        host_code_allowed.append(self.engine_host_code_allowed)
        if warning:
            self.logger.log(ILogger.WARNING, warning)
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

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig()

    def create_execution_context(self, config: RuntimeConfig | None = None) -> Context | None:
        if config is not None:
            configs.append(config)
            config.cache.content = config.cache.content or b"compiled kernels"
        return Context(self)

    def create_engine_inspector(self) -> Inspector:
        return Inspector(self)


class RuntimeCache:
    content = b""

    def deserialize(self, content: bytes) -> bool:
        self.content = content
        return True

    def serialize(self) -> bytes:
        return self.content


class RuntimeConfig:
    dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY
    cuda_graph_strategy = CudaGraphStrategy.WHOLE_GRAPH_CAPTURE

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache()

    def set_runtime_cache(self, cache: RuntimeCache) -> bool:
        self.cache = cache
        return True


class Inspector:
    """One layer, as TensorRT 10 writes it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get_engine_information(self, kind: LayerInformationFormat) -> str:
        assert kind is LayerInformationFormat.JSON
        sides = [
            {
                "Name": name,
                "Dimensions": list(self._engine.get_tensor_shape(name)),
                "Format/Datatype": {"FLOAT": "Float", "HALF": "Half"}.get(
                    self._engine.get_tensor_dtype(name).name, "UInt8"
                ),
            }
            for name in self._engine.names
        ]
        layer = {"Name": "the network", "LayerType": "CaskConvolution"}
        return json.dumps({"Layers": [{**layer, "Inputs": sides[:1], "Outputs": sides[1:]}]})


class Context:
    profiler: Any = None

    def __init__(self, engine: Engine) -> None:
        self._compiled = engine.compiled
        self._request = self._compiled.create_infer_request()
        self._engine = engine
        self._address: dict[str, int] = {}
        self._shape: tuple[int, ...] = ()
        self._enqueued: set[tuple[int, ...]] = set()  # shapes, outside of a capture
        self._pending = {"count": 0}
        weakref.finalize(self, _dropped, self._pending, self._address)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._address[name] = address
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shape = tuple(shape)
        return True

    def is_stream_capturable(self, stream: int) -> bool:
        return capturable

    def execute_async_v3(self, stream: int) -> bool:
        driver = emulated_driver()
        capturing = driver.emu_is_capturing(ctypes.c_void_p(stream))
        if on_enqueue is not None:
            on_enqueue(capturing)
        if refuse_when_capturing and capturing:
            self._engine.logger.log(
                ILogger.ERROR, "this network synchronises and cannot be captured"
            )
            return False
        shape, pending, alive = self._shape, self._pending, weakref.ref(self)
        if capturing and shape not in self._enqueued:
            violations.append(f"captured at {shape} before it was ever enqueued at that shape")
        if not capturing:
            self._enqueued.add(shape)
            pending["count"] += 1

        @_CALLBACK
        def evaluate(_: int) -> None:
            if not capturing:
                pending["count"] -= 1
            context = alive()
            if context is None:
                violations.append("evaluated after its context was dropped")
            else:
                context._evaluate(shape)

        _callbacks.append(evaluate)
        code = driver.cuLaunchHostFunc(ctypes.c_void_p(stream), evaluate, None)
        if code:
            pending["count"] -= not capturing
            self._engine.logger.log(ILogger.ERROR, f"Cuda failure {code}")
        elif self.profiler is not None:
            self.profiler.report_layer_time("the network", 0.5)
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


def _dropped(pending: dict[str, int], addresses: dict[str, int]) -> None:
    """A context is gone: nothing of it may be at work, and its buffers must still be there."""
    driver = emulated_driver()
    if pending["count"] and not driver.emu_lost():
        violations.append("a context was dropped while its work was queued")
    for name, address in addresses.items():
        if not driver.emu_is_allocated(ctypes.c_uint64(address)):
            violations.append(f"the buffer of {name} was freed before the context")
