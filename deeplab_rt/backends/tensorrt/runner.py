"""Frames through a TensorRT engine: bytes up, masks down, two submits in flight.

The way of a frame: its array is copied into pinned memory and uploaded on a stream of its own; on the
main stream the preprocess kernel, the network and the label kernels follow, then the masks come back
into pinned memory. Where GPU and CPU share their memory the pinned buffers are mapped and nothing is
copied. While one frame computes, the next one is staged and uploaded. All else is on the one main
stream, so results cannot overtake each other.

The first frame of a shape runs call by call and warms TensorRT up; then the main stream's part is
captured in a CUDA graph, which serves the frames after it. Where capturing fails, frames go on call
by call and ``info.details["cuda_graph"]`` says why.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from cuda.bindings import driver

from deeplab_rt.backends.base import BackendInfo, MaskRequest, check_frames
from deeplab_rt.backends.tensorrt import layout, probe
from deeplab_rt.backends.tensorrt import library as libraries
from deeplab_rt.backends.tensorrt.device import Device, DeviceLostError, Pinned, check
from deeplab_rt.backends.tensorrt.engine_store import build_command
from deeplab_rt.backends.tensorrt.kernels import Launch
from deeplab_rt.backends.tensorrt.layout import Shape
from deeplab_rt.backends.tensorrt.loaded_engine import LoadedEngine
from deeplab_rt.errors import BackendError, FrameError
from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.models import Model

LOG = logging.getLogger(__name__)

PLANS = 8  # shapes that a slot remembers, each with its graph: cameras of different sizes
_STAGES = ("preprocess", "network", "labels", "download")


@dataclass
class _Buffer:
    """Pinned host memory and its counterpart on the device."""

    pinned: Pinned
    device: int  # address; the mapped one where memory is unified
    size: int


@dataclass
class _Plan:
    """One shape worked out on the buffers of one slot."""

    preprocess: list[Launch]
    labels: list[Launch]
    taps: list[int]  # device addresses
    tap_arrays: list[np.ndarray]  # where they are copied from
    graph: int = 0


@dataclass
class _Slot:
    """One submit in flight: its buffers, plans and events."""

    upload_begin: int
    upload_end: int
    marks: list[int]  # before the first stage, and after each
    up: _Buffer | None = None
    down: _Buffer | None = None
    plans: OrderedDict[Shape, _Plan] = field(default_factory=OrderedDict)
    shape: Shape | None = None
    labels: LabelSet | None = None
    copy_ms: float = 0.0


class TensorRTBackend:
    """A compiled engine on this machine's GPU; meets :class:`~deeplab_rt.backends.base.Backend`.

    It may be made, used and closed in different threads, one at a time.
    """

    depth = 2

    def __init__(
        self,
        model: Model,
        precision: str = "auto",
        input_size: tuple[int, int] | None = None,
        max_batch: int = 1,
    ) -> None:
        """Load the engine that fits; nothing is ever built here.

        Args:
            model: whose engine is loaded.
            precision: ``fp32``, ``fp16``, ``int8``, or ``auto``: the model's own choice for a GPU.
            input_size: (height, width) of the network's input; None for the manifest's.
            max_batch: frames of several cameras to evaluate at once.

        Raises:
            BackendError: there is no driver, GPU or library, or the GPU has not enough memory.
            EngineError: no engine fits this machine; the message has the command that builds it.
            ModelError: the model does not come in that precision or size.
        """
        engine = probe.find_engine(model, precision, input_size, max_batch)
        library = libraries.load()
        spec = engine.spec
        self.max_batch = max_batch
        self._free: deque[_Slot] = deque()
        self._busy: deque[_Slot] = deque()
        self._capturing = True
        self._network: LoadedEngine | None = None
        self._device = Device()
        self._unified = self._device.gpu.integrated
        try:
            rebuild = build_command(model, spec)
            self._network = LoadedEngine(library, engine, self._device, len(model.labels), rebuild)
            self._main, self._upload = self._device.stream(), self._device.stream()
            for _ in range(self.depth):
                begin, end, *marks = (self._device.event() for _ in range(3 + len(_STAGES)))
                self._free.append(_Slot(begin, end, marks))
            self.info = BackendInfo(
                name="tensorrt",
                device=self._device.gpu.name,
                precision=spec.precision.removesuffix("-trt"),
                input_size=spec.input_size,
                version=library.version,
                details={
                    "library": str(library),
                    "engine": str(engine.path),
                    "compute_capability": spec.target.capability,
                    "memory": "unified: no copies" if self._unified else "discrete",
                    "cuda_graph": "on",
                },
            )
            # The first evaluation loads kernels and takes long: better now than at a camera's frame.
            height, width = spec.input_size
            black = Frame(np.zeros((height, width, 3), np.uint8))
            self.submit([black], MaskRequest(model.labels))
            self.collect()
        except BaseException:
            self.close()
            raise

    def submit(self, frames: Sequence[Frame], request: MaskRequest) -> None:
        network = self._open_network()
        check_frames(frames, self.max_batch)
        if len(request.labels) != network.tensors.classes:
            raise FrameError(
                f"{len(request.labels)} labels do not fit the {network.tensors.classes} classes of "
                "the network"
            )
        shape = Shape.of(frames, request)
        if not self._free:
            raise BackendError(f"{self.depth} submits are in flight already: collect first")
        self._device.activate()
        slot = self._free.popleft()
        try:
            plan = self._plan(slot, shape)
            started = time.perf_counter()
            assert slot.up is not None
            layout.write_upload(slot.up.pinned.array, shape, frames, request.labels)
            slot.copy_ms = 1e3 * (time.perf_counter() - started)
            self._send_up(slot, shape)
            if plan.graph:
                check("starting a graph", driver.cuGraphLaunch(plan.graph, self._main))
            else:
                self._enqueue(slot, shape, plan, capturing=False)
            check("marking the end", driver.cuEventRecord(slot.marks[-1], self._main))
            if not plan.graph and self._capturing:
                self._capture(slot, shape, plan)
        except BaseException:
            self._free.append(slot)
            # What was started may still use the slot's buffers.
            self._device.settle(self._upload, self._main)
            raise
        slot.shape = shape
        slot.labels = request.labels
        self._busy.append(slot)

    def collect(self) -> list[Masks]:
        self._open_network()
        if not self._busy:
            raise BackendError("nothing is in flight: submit first")
        self._device.activate()
        slot = self._busy.popleft()
        self._free.append(slot)
        try:
            check("evaluating a frame", driver.cuEventSynchronize(slot.marks[-1]))
        except BackendError:
            self._device.settle(self._upload, self._main)
            raise
        assert slot.down is not None and slot.shape is not None
        down = slot.down.pinned.array
        if not layout.logits_are_finite(down):
            raise BackendError(
                f"the network's logits are not finite on this frame: in {self.info.precision} this "
                "model overflows or is broken; take another precision (fp32 is the widest)"
            )
        timings = self._timings(slot)
        started = time.perf_counter()
        results = layout.read_download(down, slot.shape)
        timings["copy"] += 1e3 * (time.perf_counter() - started)
        for masks in results:
            masks.timings = dict(timings)
            masks.label_set = slot.labels
        return results

    def close(self) -> None:
        if self._network is not None:
            self._device.enter()
            self._network.close()
            self._network = None
        self._busy.clear()
        self._free.clear()
        self._device.close()

    def _open_network(self) -> LoadedEngine:
        if self._network is None:
            raise BackendError("this backend is closed")
        return self._network

    def _plan(self, slot: _Slot, shape: Shape) -> _Plan:
        """The plan of a shape, from the slot's memory or made now; buffers grow as needed.

        The slot is not in flight, so what is freed here is in nobody's use.
        """
        if plan := slot.plans.get(shape):
            slot.plans.move_to_end(shape)
            return plan
        slot.up = self._at_least(slot, slot.up, shape.up_offsets[-1], "frames")
        slot.down = self._at_least(slot, slot.down, shape.down_offsets[-1], "masks")
        while len(slot.plans) >= PLANS:
            self._forget(slot.plans.popitem(last=False)[1])
        network = self._open_network()
        arrays = layout.taps_of(shape, network.tensors.size)
        taps: list[int] = []
        plan = _Plan([], [], taps, arrays)
        try:
            for array in arrays:
                taps.append(self._device.allocate(array.nbytes, "the frame's geometry"))
                copy = driver.cuMemcpyHtoDAsync(
                    taps[-1], array.ctypes.data, array.nbytes, self._main
                )
                check("uploading the frame's geometry", copy)
        except BaseException:
            self._device.settle(self._main)
            self._forget(plan)
            raise
        up, down = slot.up.device, slot.down.device
        plan.preprocess = layout.preprocess_launches(shape, network.tensors, up, taps)
        plan.labels = layout.label_launches(shape, network.tensors, up, down)
        slot.plans[shape] = plan
        return plan

    def _at_least(self, slot: _Slot, old: _Buffer | None, size: int, what: str) -> _Buffer:
        """The old buffer, or a larger one in its place; then the plans that point to it are gone."""
        if old is not None and old.size >= size:
            return old
        pinned = self._device.allocate_pinned(size, what, mapped=self._unified)
        try:
            address = pinned.device_address or self._device.allocate(size, what)
        except BaseException:
            self._device.free("pinned", pinned.address)
            raise
        while slot.plans:
            self._forget(slot.plans.popitem()[1])
        if old is not None:
            if not self._unified:
                self._device.free("memory", old.device)
            self._device.free("pinned", old.pinned.address)
        return _Buffer(pinned, address, size)

    def _forget(self, plan: _Plan) -> None:
        if plan.graph:
            self._device.free("graph", plan.graph)
        for address in plan.taps:
            self._device.free("memory", address)

    def _send_up(self, slot: _Slot, shape: Shape) -> None:
        """Start the upload; the main stream will wait for it."""
        if self._unified:
            return
        assert slot.up is not None
        size, stream = shape.up_offsets[-1], self._upload
        check("marking the upload", driver.cuEventRecord(slot.upload_begin, stream))
        copy = driver.cuMemcpyHtoDAsync(slot.up.device, slot.up.pinned.address, size, stream)
        check("uploading a frame", copy)
        check("marking the upload", driver.cuEventRecord(slot.upload_end, stream))
        check("ordering the upload", driver.cuStreamWaitEvent(self._main, slot.upload_end, 0))

    def _enqueue(self, slot: _Slot, shape: Shape, plan: _Plan, capturing: bool) -> None:
        """Put a frame's work into the main stream, or into the graph that is being captured there."""
        assert slot.down is not None
        network, stream = self._open_network(), self._main
        # In a graph a plain record would only order things; an external one is a node that records.
        flags = driver.CUevent_record_flags.CU_EVENT_RECORD_DEFAULT
        if capturing:
            flags = driver.CUevent_record_flags.CU_EVENT_RECORD_EXTERNAL

        def mark(index: int) -> None:
            record = driver.cuEventRecordWithFlags(slot.marks[index], stream, flags)
            check("marking a stage", record)

        mark(0)
        check("clearing a flag", driver.cuMemsetD32Async(slot.down.device, 0, 1, stream))
        for launch in plan.preprocess:
            self._device.launch(launch, stream)
        mark(1)
        network.enqueue(len(shape.frames), stream)
        mark(2)
        for launch in plan.labels:
            self._device.launch(launch, stream)
        mark(3)
        if not self._unified:
            to, size = slot.down.pinned.address, shape.down_offsets[-1]
            copy = driver.cuMemcpyDtoHAsync(to, slot.down.device, size, stream)
            check("downloading the masks", copy)

    def _capture(self, slot: _Slot, shape: Shape, plan: _Plan) -> None:
        """Make the plan's graph, or say why there will be none."""
        try:
            plan.graph = self._device.capture(
                self._main, lambda: self._enqueue(slot, shape, plan, capturing=True)
            )
        except DeviceLostError:
            raise
        except BackendError as error:
            self._capturing = False
            self.info.details["cuda_graph"] = f"off: {error}"
            LOG.warning("frames run without a CUDA graph: %s", error)

    def _timings(self, slot: _Slot) -> dict[str, float]:
        """Milliseconds of each stage on the GPU, and of the copies to and from pinned memory."""
        timings = {"copy": slot.copy_ms}
        if not self._unified:
            timings["upload"] = _between(slot.upload_begin, slot.upload_end)
        for index, stage in enumerate(_STAGES):
            timings[stage] = _between(slot.marks[index], slot.marks[index + 1])
        return timings


def _between(begin: int, end: int) -> float:
    return float(check("reading the stage times", driver.cuEventElapsedTime(begin, end)))
