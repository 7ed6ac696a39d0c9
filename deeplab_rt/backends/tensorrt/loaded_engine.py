"""A TensorRT engine loaded on a device: its tensors, its checks, its start."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deeplab_rt.backends.tensorrt.device import Device
from deeplab_rt.backends.tensorrt.engine_store import Engine, writable_by_others
from deeplab_rt.backends.tensorrt.inspection import Layer, layers_of_inspector
from deeplab_rt.backends.tensorrt.layout import Tensors
from deeplab_rt.backends.tensorrt.library import Library, make_log
from deeplab_rt.errors import BackendError, EngineError
from deeplab_rt.files import write_atomically
from deeplab_rt.models import OUTPUT_STRIDE

LOG = logging.getLogger(__name__)


class LoadedEngine:
    """An engine in the typed contract: uint8 ``image`` [N, H, W, 3] in, ``logits`` [N, C, h, w] out."""

    def __init__(
        self,
        library: Library,
        engine: Engine,
        device: Device,
        classes: int,
        rebuild: str,
        allow_host_code: bool = False,
    ) -> None:
        """Load the engine and make its buffers.

        Args:
            library: that built it.
            engine: from the store.
            device: whose context is current.
            classes: that the model's labels name.
            rebuild: the command that builds the engine anew, for messages.
            allow_host_code: whether the engine may carry code that runs on the CPU.

        Raises:
            EngineError: the file is corrupt, or TensorRT does not take it, or its tensors are not
                those of the contract.
            BackendError: the GPU has not enough memory.
        """
        trt = library.module
        self._trt = trt
        self._log = make_log(library)
        self._runtime: Any = trt.Runtime(self._log)
        if allow_host_code and engine.spec.options.version_compatible:
            self._runtime.engine_host_code_allowed = True
        self._engine: Any = self._runtime.deserialize_cuda_engine(engine.read())
        if self._engine is None:
            raise EngineError(
                f"{engine.path}: {library} cannot load this engine ({self._log.reason()}); rebuild it "
                f"with `{rebuild}`"
            )
        half = self._check(trt, engine, classes, rebuild)
        self._cache: _RuntimeCache | None = None
        self._context: Any = self._make_context(library, engine)
        if self._context is None:
            raise BackendError(
                f"{library} cannot make a context ({self._log.reason()}); if the GPU is out of memory "
                "stop other programs that use it, or build for a smaller size"
            )
        height, width = engine.spec.input_size
        grid = (height // OUTPUT_STRIDE, width // OUTPUT_STRIDE)
        frames, area = engine.spec.max_batch, grid[0] * grid[1]
        self.tensors = Tensors(
            image=device.allocate(frames * height * width * 3, "the network's input"),
            logits=device.allocate(frames * classes * area * (2 if half else 4), "the logits"),
            winners=device.allocate(area, "the winners"),
            half=half,
            classes=classes,
            size=(height, width),
            grid=grid,
        )
        addresses = {"image": self.tensors.image, "logits": self.tensors.logits}
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise EngineError(
                    f"{engine.path}: {self._log.reason()}; rebuild it with `{rebuild}`"
                )

    def _make_context(self, library: Library, engine: Engine) -> Any:
        """An execution context; on TensorRT-RTX with its kernels compiled before the first frame.

        RTX compiles kernels while it runs. Its default (lazy) starts with slow general kernels and
        swaps them later, which a captured graph would never see.
        """
        if library.name != "tensorrt_rtx":
            return self._engine.create_execution_context()
        runtime_config = self._engine.create_runtime_config()
        trt = library.module
        eager = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        runtime_config.dynamic_shapes_kernel_specialization_strategy = eager
        # Our own graph holds the kernels before and behind the network too.
        runtime_config.cuda_graph_strategy = trt.CudaGraphStrategy.DISABLED
        self._cache = _RuntimeCache(runtime_config, engine.path.with_suffix(".rtx-cache"))
        return self._engine.create_execution_context(runtime_config)

    def _check(self, trt: Any, engine: Engine, classes: int, rebuild: str) -> bool:
        """Whether the logits are half; anything but the contract is refused."""
        loaded, (height, width) = self._engine, engine.spec.input_size
        names = {loaded.get_tensor_name(i) for i in range(loaded.num_io_tensors)}
        if names != {"image", "logits"}:
            raise EngineError(
                f"{engine.path}: the engine's tensors are {sorted(names)}, expected image and logits; "
                f"rebuild it with `{rebuild}`"
            )
        image, logits = (tuple(loaded.get_tensor_shape(name)) for name in ("image", "logits"))
        types = tuple(loaded.get_tensor_dtype(name) for name in ("image", "logits"))
        expected = (height, width, 3), (classes, height // OUTPUT_STRIDE, width // OUTPUT_STRIDE)
        if (image[1:], logits[1:]) != expected or types not in (
            (trt.DataType.UINT8, trt.DataType.FLOAT),
            (trt.DataType.UINT8, trt.DataType.HALF),
        ):
            raise EngineError(
                f"{engine.path}: the engine has image {list(image)} and logits {list(logits)} of "
                f"{[str(t) for t in types]}, expected uint8 {list(expected[0])} and float or half "
                f"{list(expected[1])} behind the batch; rebuild it with `{rebuild}`"
            )
        return bool(types[1] == trt.DataType.HALF)

    def enqueue(self, frames: int, stream: int) -> None:
        """Start the evaluation of the first ``frames`` images of the input, or record it.

        Raises:
            BackendError: TensorRT refused.
        """
        height, width = self.tensors.size
        self._log.errors.clear()
        started = self._context.set_input_shape("image", (frames, height, width, 3))
        if not (started and self._context.execute_async_v3(stream)):
            raise BackendError(f"TensorRT failed on a frame: {self._log.reason()}")

    def refuses_capture(self, stream: int) -> str | None:
        """Why the network cannot be captured in a graph, where the library knows; else None."""
        if self._cache is None or self._context.is_stream_capturable(stream):
            return None
        return "TensorRT-RTX says that this network cannot be captured"

    def keep_compiled(self) -> None:
        """Write what TensorRT-RTX compiled while loading, so that the next start need not."""
        if self._cache is not None:
            self._cache.save()

    def layers(self) -> list[Layer]:
        """The engine's layers, as TensorRT's inspector describes them.

        Raises:
            EngineError: the engine was built without its layers' details.
        """
        trt, inspector = self._trt, self._engine.create_engine_inspector()
        return layers_of_inspector(
            inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        )

    def profile(self, run: Callable[[], None]) -> dict[str, float]:
        """Milliseconds of each layer in what ``run`` evaluates, call by call, without a graph."""
        times: dict[str, float] = {}

        trt = self._trt

        class Profiler(trt.IProfiler):  # type: ignore[misc, name-defined]
            def report_layer_time(self, layer_name: str, ms: float) -> None:
                times[layer_name] = times.get(layer_name, 0.0) + ms

        self._profiler = Profiler()  # TensorRT keeps no reference of its own
        self._context.profiler = self._profiler
        run()
        return times

    def close(self) -> None:
        """Let go of TensorRT's objects in the order that it wants; the context must be current."""
        self._context = self._cache = self._engine = self._runtime = None


class _RuntimeCache:
    """The kernels that TensorRT-RTX compiled for an engine on this GPU, kept beside the engine."""

    def __init__(self, runtime_config: Any, path: Path) -> None:
        self._path = path
        self._cache = runtime_config.create_runtime_cache()
        if danger := writable_by_others(path):
            LOG.warning("not read: %s", danger)
        elif path.is_file():
            self._cache.deserialize(path.read_bytes())  # what does not fit is compiled anew
        runtime_config.set_runtime_cache(self._cache)

    def save(self) -> None:
        try:
            write_atomically(self._path, bytes(self._cache.serialize()))
            self._path.chmod(0o600)
        except OSError as failure:
            LOG.warning("%s: compiled kernels are not kept: %s", self._path, failure.strerror)
