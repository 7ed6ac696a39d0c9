"""The CPU backend: OpenVINO on x86-64 and ARM."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from deeplab_rt.backends.base import BackendInfo, MaskRequest, check_frames
from deeplab_rt.backends.channel_order import swap_channels
from deeplab_rt.errors import BackendError, ModelError
from deeplab_rt.files import cache_dir
from deeplab_rt.frame import Channels, Frame, Size
from deeplab_rt.masks import Masks
from deeplab_rt.models import Model, check_input_size
from deeplab_rt.options import CPU_PRECISIONS
from deeplab_rt.upsample import masks_from_logits, warm_up


class OpenVINOBackend:
    """One network compiled by OpenVINO for this CPU; meets :class:`~.base.Backend`.

    Frames are evaluated one after the other: on a CPU a batch gains nothing over single frames.
    Two may be in flight, so that one's masks are made while the next one is in the network. A frame
    is resized straight into the network's input whatever its channel order: BGR and RGB frames have
    a compiled network each, the one for RGB from the first such frame on.
    """

    max_batch = 1
    depth = 2

    def __init__(
        self,
        model: Model,
        precision: str = "auto",
        input_size: tuple[int, int] | None = None,
        threads: int | None = None,
    ) -> None:
        """Compile the model for BGR frames; arguments and errors as :func:`compile_network`'s."""
        self._compile: Callable[[Channels], Any] = lambda channels: compile_network(
            model, precision, input_size, threads, channels
        )
        compiled = self._compile("bgr")
        self._compiled = {"bgr": compiled}
        batch, height, width, _ = compiled.input(0).shape
        self._input_size = Size(height, width)
        self._slots = [_Slot((batch, height, width, 3)) for _ in range(self.depth)]
        self._free = deque(self._slots)
        self._busy: deque[_Slot] = deque()
        warm_up()
        self._request(self._slots[0], "bgr").infer()
        self.info = BackendInfo(
            name="openvino",
            device=_cpu_name(),
            precision=model.cpu_precision if precision == "auto" else precision,
            input_size=self._input_size,
            version=_openvino().__version__,
            details={
                "arithmetic": str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string()),
                "threads": int(compiled.get_property("INFERENCE_NUM_THREADS")),
            },
        )

    def submit(self, frames: Sequence[Frame], request: MaskRequest) -> None:
        check_frames(frames, self.max_batch)
        if not self._free:
            raise BackendError(f"{self.depth} frames are in flight already: collect first")
        frame = frames[0]
        slot = self._free[0]
        slot.infer = self._request(slot, frame.channels)
        started = time.perf_counter()
        if frame.size == self._input_size:
            np.copyto(slot.image, frame.image)
        else:
            height, width = self._input_size
            cv2.resize(frame.image, (width, height), dst=slot.image, interpolation=cv2.INTER_LINEAR)
        slot.request = request
        slot.size = request.size or frame.size
        slot.preprocess_ms = 1e3 * (time.perf_counter() - started)
        slot.infer.start_async()
        self._busy.append(self._free.popleft())

    def _request(self, slot: _Slot, channels: Channels) -> Any:
        """The slot's evaluation of a network for that channel order, made when first asked for."""
        if channels not in self._compiled:
            self._compiled[channels] = self._compile(channels)
        if channels not in slot.requests:
            slot.requests[channels] = self._compiled[channels].create_infer_request()
            slot.requests[channels].set_input_tensor(
                _openvino().Tensor(slot.batch, shared_memory=True)
            )
        return slot.requests[channels]

    def collect(self) -> list[Masks]:
        if not self._busy:
            raise BackendError("nothing is in flight: submit first")
        slot = self._busy.popleft()
        self._free.append(slot)
        try:
            slot.infer.wait()
        except RuntimeError as error:
            raise BackendError(f"OpenVINO failed on a frame: {_last_line(error)}") from None
        network_ms = slot.infer.latency
        inferred = time.perf_counter()
        assert slot.request is not None
        masks = masks_from_logits(
            slot.logits, slot.size, slot.request.labels, slot.request.confidence
        )
        masks.timings = {
            "preprocess": slot.preprocess_ms,
            "network": network_ms,
            "labels": 1e3 * (time.perf_counter() - inferred),
        }
        return [masks]

    def close(self) -> None:
        while self._busy:
            self._busy.popleft().infer.wait()
        self._slots.clear()
        self._free.clear()
        self._compiled.clear()


class _Slot:
    """The buffers of one frame in flight; the network reads and writes them in place."""

    def __init__(self, shape: tuple[int, int, int, int]) -> None:
        self.batch = np.zeros(shape, np.uint8)
        self.image = self.batch[0]
        self.requests: dict[str, Any] = {}  # by channel order, all reading ``batch``
        self.infer: Any = None  # the one of this frame
        self.request: MaskRequest | None = None
        self.size = Size.of(self.image)
        self.preprocess_ms = 0.0

    @property
    def logits(self) -> np.ndarray:
        """float32 [C, h, w]; a view that the next evaluation of this slot overwrites."""
        logits: np.ndarray = self.infer.get_output_tensor(0).data[0]
        return logits


def compile_network(
    model: Model,
    precision: str = "auto",
    input_size: tuple[int, int] | None = None,
    threads: int | None = None,
    channels: Channels = "rgb",
) -> Any:
    """Compile a model's file, through OpenVINO's own cache in :func:`~deeplab_rt.files.cache_dir`.

    Args:
        model: whose file is compiled.
        precision: ``fp32`` (exact), ``bf16`` (fp32 weights, bf16 arithmetic), ``int8``
            (what is not quantised runs in bf16 where the CPU has it), or ``auto``: the model's
            own choice for a CPU.
        input_size: (height, width) of the network's input; None for the manifest's.
        threads: inference threads; None lets OpenVINO take every core it may use.
        channels: order of the channels that the network is to take.

    Returns:
        An ``openvino.CompiledModel`` of uint8 [1, H, W, 3] to float32 [1, C, H/4, W/4].

    Raises:
        BackendError: OpenVINO is not installed, the CPU lacks the precision, or OpenVINO cannot
            read or compile the model.
        ModelError: the model has no file of that precision, another number of classes than labels,
            or the size is not one it takes.
    """
    ov = _openvino()
    if precision == "auto":
        precision = model.cpu_precision
    if precision not in CPU_PRECISIONS:
        raise ModelError(
            f"precision {precision!r} is not one of auto, {', '.join(CPU_PRECISIONS)} on a CPU"
        )
    path = model.file("int8" if precision == "int8" else "fp32")
    height, width = check_input_size(input_size or model.input_size)
    core = ov.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise BackendError("this CPU has no bf16 arithmetic; take precision fp32 or int8")
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if precision == "fp32":
        config["INFERENCE_PRECISION_HINT"] = "f32"
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    cache = cache_dir() / "openvino"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        config["CACHE_DIR"] = str(cache)
    except OSError:
        pass  # a read-only home costs a second at every start and nothing else
    try:
        network = core.read_model(path)
        network.reshape({0: [1, height, width, 3]})
        if channels == "bgr":
            swap_channels(network)
        compiled = core.compile_model(network, "CPU", config)
    except RuntimeError as error:
        raise BackendError(f"{path}: OpenVINO cannot use it: {_last_line(error)}") from None
    classes = compiled.output(0).shape[1]
    if classes != len(model.labels):
        raise ModelError(
            f"{path}: the network gives {classes} classes, the manifest names "
            f"{len(model.labels)} labels"
        )
    return compiled


def _openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise BackendError(
            f"the CPU backend needs OpenVINO ({error}); install it with `pip install openvino`"
        ) from None
    return openvino


def _cpu_name() -> str:
    return str(_openvino().Core().get_property("CPU", "FULL_DEVICE_NAME")).strip()


def _last_line(error: Exception) -> str:
    """OpenVINO's messages are a trace of its sources; the last line that is not blank says what."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
