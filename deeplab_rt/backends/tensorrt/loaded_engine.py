"""A TensorRT engine loaded on a device: its tensors, its checks, its start."""

from __future__ import annotations

from typing import Any

from deeplab_rt.backends.tensorrt.device import Device
from deeplab_rt.backends.tensorrt.engine_store import Engine
from deeplab_rt.backends.tensorrt.layout import Tensors
from deeplab_rt.backends.tensorrt.library import Library, make_log
from deeplab_rt.errors import BackendError, EngineError
from deeplab_rt.models import OUTPUT_STRIDE


class LoadedEngine:
    """An engine in the typed contract: uint8 ``image`` [N, H, W, 3] in, ``logits`` [N, C, h, w] out."""

    def __init__(
        self, library: Library, engine: Engine, device: Device, classes: int, rebuild: str
    ) -> None:
        """Load the engine and make its buffers.

        Args:
            library: that built it.
            engine: from the store.
            device: whose context is current.
            classes: that the model's labels name.
            rebuild: the command that builds the engine anew, for messages.

        Raises:
            EngineError: the file is corrupt, or TensorRT does not take it, or its tensors are not
                those of the contract.
            BackendError: the GPU has not enough memory.
        """
        trt = library.module
        self._log = make_log(library)
        self._runtime: Any = trt.Runtime(self._log)
        # Version-compatible engines carry the code that loads them; the store made sure whose it is.
        self._runtime.engine_host_code_allowed = engine.spec.options.version_compatible
        if engine.spec.options.dla_core is not None:
            self._runtime.DLA_core = engine.spec.options.dla_core
        self._engine: Any = self._runtime.deserialize_cuda_engine(engine.read())
        if self._engine is None:
            raise EngineError(
                f"{engine.path}: {library} cannot load this engine ({self._log.reason()}); rebuild it "
                f"with `{rebuild}`"
            )
        half = self._check(trt, engine, classes, rebuild)
        self._context: Any = self._engine.create_execution_context()
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
        """Start the evaluation of the first ``frames`` pictures of the input, or record it.

        Raises:
            BackendError: TensorRT refused.
        """
        height, width = self.tensors.size
        self._log.errors.clear()
        started = self._context.set_input_shape("image", (frames, height, width, 3))
        if not (started and self._context.execute_async_v3(stream)):
            raise BackendError(f"TensorRT failed on a frame: {self._log.reason()}")

    def close(self) -> None:
        """Let go of TensorRT's objects in the order that it wants; the context must be current."""
        self._context = self._engine = self._runtime = None
