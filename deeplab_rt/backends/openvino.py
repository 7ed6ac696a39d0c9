"""The CPU backend: OpenVINO on x86-64 and ARM."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from deeplab_rt.backends.base import BackendInfo, MaskRequest, check_frames
from deeplab_rt.backends.channel_order import swap_channels
from deeplab_rt.backends.contract import check_logits, check_tensors
from deeplab_rt.backends.openvino_cache import load_or_compile
from deeplab_rt.device_image import DeviceImage
from deeplab_rt.errors import BackendError, FrameError, ModelError
from deeplab_rt.frame import Channels, Frame, Size
from deeplab_rt.input_shape import nearest_shape, shape_for
from deeplab_rt.masks import Masks
from deeplab_rt.models import Model, check_input_size
from deeplab_rt.options import CPU_PRECISIONS
from deeplab_rt.upsample import masks_from_logits, warm_up

LOG = logging.getLogger(__name__)

MOST_SHAPES = 8  # of the network's input, each a compiled network
MOST_SIZES = 1024  # of frames that are remembered


class OpenVINOBackend:
    """One network compiled by OpenVINO for this CPU; meets :class:`~.base.Backend`.

    Frames are evaluated one after the other: on a CPU a batch gains nothing over single frames.
    Two may be in flight, so that one's masks are made while the next one is in the network. A frame
    is resized straight into the network's input whatever its channel order: BGR and RGB frames have
    a compiled network each, and so has each shape of input; both are made at the first such frame.
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
        """Compile the model for BGR frames; arguments and errors as :func:`compile_network`'s.

        Without ``input_size`` the network's input follows the shape of each camera's frames.
        """
        self._compile: Callable[[Size, Channels], Any] = lambda size, channels: compile_network(
            model, precision, size, threads, channels
        )
        self._follow = input_size is None
        self._input_size = check_input_size(input_size or model.input_size)
        self._shapes: dict[Size, Size] = {}  # a frame's size -> the network's input for it
        compiled = self._compile(self._input_size, "bgr")
        self._compiled: dict[tuple[Size, str], Any] = {(self._input_size, "bgr"): compiled}
        self._slots = [_Slot() for _ in range(self.depth)]
        self._free = deque(self._slots)
        self._busy: deque[_Slot] = deque()
        warm_up()
        self._request(self._slots[0], self._input_size, "bgr").infer()
        self.info = BackendInfo(
            name="openvino",
            device=_cpu_name(),
            precision=model.cpu_precision if precision == "auto" else precision,
            input_size=self._input_size,
            version=_openvino().__version__,
            details={
                "arithmetic": str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string()),
                "threads": int(compiled.get_property("INFERENCE_NUM_THREADS")),
                "input": "follows the frame's shape" if self._follow else "of one size",
            },
        )

    def submit(self, frames: Sequence[Frame], request: MaskRequest) -> None:
        check_frames(frames, self.max_batch)
        if not self._free:
            raise BackendError(f"{self.depth} frames are in flight already: collect first")
        frame = frames[0]
        if isinstance(frame.image, DeviceImage):
            raise FrameError(
                "an image on a GPU, and the CPU is at work here: copy it to the host, or take "
                "backend tensorrt"
            )
        slot = self._free[0]
        size = self._input_for(frame.size)
        slot.infer = self._request(slot, size, frame.channels)
        image = slot.batches[size][0]
        started = time.perf_counter()
        if frame.size == size:
            np.copyto(image, frame.image)
        else:
            height, width = size
            cv2.resize(frame.image, (width, height), dst=image, interpolation=cv2.INTER_LINEAR)
        slot.request = request
        slot.size = size if request.size == "network" else request.size or frame.size
        slot.preprocess_ms = 1e3 * (time.perf_counter() - started)
        slot.infer.start_async()
        self._busy.append(self._free.popleft())

    def _input_for(self, frame: Size) -> Size:
        """The network's input for frames of a size; chosen once for each, and told."""
        if not self._follow:
            return self._input_size
        if frame in self._shapes:
            return self._shapes[frame]
        best = shape_for(frame, self._input_size)
        known = {size for size, _ in self._compiled}
        if best not in known and len(known) >= MOST_SHAPES:
            # Every shape is a compiled network: a folder of images of all shapes takes these.
            best = nearest_shape(frame, known)
        if best != self._input_size:
            LOG.info("frames of %s: the network's input is %s", frame, best)
        if len(self._shapes) < MOST_SHAPES:  # for diagnostics, which are one line
            self.info.details["input"] += f"; {best} for {frame}"
        if len(self._shapes) >= MOST_SIZES:
            self._shapes.clear()
        self._shapes[frame] = best
        return best

    def _request(self, slot: _Slot, size: Size, channels: Channels) -> Any:
        """The slot's evaluation of a network for that input, made when first asked for."""
        key = size, channels
        if key not in self._compiled:
            self._compiled[key] = self._compile(size, channels)
        if size not in slot.batches:
            slot.batches[size] = np.zeros((1, *size, 3), np.uint8)
        if key not in slot.requests:
            slot.requests[key] = self._compiled[key].create_infer_request()
            slot.requests[key].set_input_tensor(
                _openvino().Tensor(slot.batches[size], shared_memory=True)
            )
        return slot.requests[key]

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
    """The buffers of one frame in flight; the networks read and write them in place."""

    def __init__(self) -> None:
        self.batches: dict[Size, np.ndarray] = {}  # uint8 [1, H, W, 3], by input size
        self.requests: dict[tuple[Size, str], Any] = {}  # by input size and channel order
        self.infer: Any = None  # the one of this frame
        self.request: MaskRequest | None = None
        self.size = Size(0, 0)
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
    """Compile a model's file, or load it compiled (:mod:`.openvino_cache`).

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
        ModelError: the model has no file of that precision, its tensors are not those of the
            contract, it has another number of classes than labels, or the size is not one it takes.
    """
    ov = _openvino()
    if precision == "auto":
        precision = model.cpu_precision
    if precision not in CPU_PRECISIONS:
        raise ModelError(
            f"precision {precision!r} is not one of auto, {', '.join(CPU_PRECISIONS)} on a CPU"
        )
    form = "int8" if precision == "int8" else "fp32"
    path, sha256 = model.file(form), model.files[form][1]
    height, width = check_input_size(input_size or model.input_size)
    core = ov.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise BackendError("this CPU has no bf16 arithmetic; take precision fp32 or int8")
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if precision == "fp32":
        config["INFERENCE_PRECISION_HINT"] = "f32"
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads

    def compile_model() -> Any:
        network = core.read_model(path)
        check_tensors(
            path, *([_described(p) for p in side] for side in (network.inputs, network.outputs))
        )
        network.reshape({0: [1, height, width, 3]})
        check_logits(path, (height, width), _dims(network.output(0)) or (), len(model.labels))
        if channels == "bgr":
            swap_channels(network)
        return core.compile_model(network, "CPU", config)

    key = {
        "file": sha256,
        "input": [height, width],
        "channels": channels,
        "labels": len(model.labels),
        "openvino": ov.__version__,
        "cpu": _cpu_name(),
        "threads": os.cpu_count(),
    }
    try:
        return load_or_compile(core, key, config, compile_model)
    except RuntimeError as error:
        raise BackendError(f"{path}: OpenVINO cannot use it: {_last_line(error)}") from None


def _described(port: Any) -> tuple[str, tuple[int | None, ...] | None]:
    names = {"u8": "uint8", "f32": "float32", "f16": "float16"}
    kind = port.element_type.get_type_name()
    return names.get(kind, kind), _dims(port)


def _dims(port: Any) -> tuple[int | None, ...] | None:
    """Of an OpenVINO port; None where a side, or all of them, may be anything."""
    shape = port.partial_shape
    if shape.rank.is_dynamic:
        return None
    return tuple(side.get_length() if side.is_static else None for side in shape)


def _openvino() -> Any:
    # Its Python package reports every import over the network, by a process that it forks off for
    # it. Without the package that does so it goes on silently.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
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
