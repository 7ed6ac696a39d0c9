"""Frames through a TensorRT engine: bytes up, masks down, up to two submits in flight.

The way of a frame: its array is copied into pinned memory and uploaded on a stream of its own; on the
main stream the preprocess kernel, the network and the label kernels follow, then the masks come back
into pinned memory. An image that is on the GPU already is copied there. Where GPU and CPU share their
memory, frames and masks are either copied all the same or read and written in place, whichever was
faster when the backend was opened. All but the upload is on the one main stream, so results cannot
overtake each other.

The first frame of a shape runs call by call and warms TensorRT up; from the second one on the main
stream's part is captured in a CUDA graph, which serves the frames after it. Where capturing fails,
frames go on call by call and ``info.details["cuda_graph"]`` says why.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence

import numpy as np
from cuda.bindings import driver

from deeplab_rt.backends.base import (
    ANY_GPU,
    BackendInfo,
    GpuOptions,
    MaskRequest,
    check_frames,
)
from deeplab_rt.backends.tensorrt import layout, probe
from deeplab_rt.backends.tensorrt import library as libraries
from deeplab_rt.backends.tensorrt.device import Device, DeviceLostError, check
from deeplab_rt.backends.tensorrt.engine_store import build_command
from deeplab_rt.backends.tensorrt.inspection import Layer
from deeplab_rt.backends.tensorrt.layout import Shape
from deeplab_rt.backends.tensorrt.loaded_engine import LoadedEngine
from deeplab_rt.backends.tensorrt.slots import InFlight, Plan, Slot
from deeplab_rt.device_image import DeviceImage
from deeplab_rt.errors import BackendError, FrameError
from deeplab_rt.frame import Frame, Size
from deeplab_rt.input_shape import shape_for
from deeplab_rt.masks import Masks
from deeplab_rt.models import Model

LOG = logging.getLogger(__name__)

TRIAL_FRAME = Size(720, 1280)  # what the two ways of shared memory are timed with
TRIALS = 5


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
        gpu: GpuOptions = ANY_GPU,
    ) -> None:
        """Load the engine that fits; nothing is ever built here.

        Args:
            model: whose engine is loaded.
            precision: ``fp32``, ``fp16``, ``int8``, or ``auto``: the model's own choice for a GPU.
            input_size: (height, width) of the network's input; None for that of the engine built last.
            max_batch: frames of several cameras to evaluate at once.
            gpu: which GPU and which engine.

        Raises:
            BackendError: there is no driver, GPU or library, or the GPU has not enough memory.
            EngineError: no engine fits this machine; the message has the command that builds it.
            ModelError: the model does not come in that precision or size.
        """
        engine = probe.find_engine(model, precision, input_size, max_batch, gpu)
        library = libraries.load()
        spec = engine.spec
        self.max_batch = max_batch
        self._index = gpu.device
        self._budget = model.input_size if input_size is None else None
        self._told: set[Size] = set()  # frame sizes whose better input shape was told
        self._free: deque[Slot] = deque()
        self._busy: deque[Slot] = deque()
        self._capturing = True
        self._timing = True
        self._network: LoadedEngine | None = None
        self._main = self._upload = 0  # streams
        self._device = Device(gpu.device)
        self._rebuild = build_command(model, spec)
        try:
            self._network = LoadedEngine(
                library, engine, self._device, len(model.labels), self._rebuild, gpu.allow_host_code
            )
            self._main = self._device.stream()
            self._upload = self._device.stream()
            mapped = self._device.gpu.integrated
            self._free.extend(Slot.on(self._device, mapped) for _ in range(self.depth))
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
                    "memory": "of the GPU's own: frames and masks are copied",
                    "cuda_graph": "on",
                },
            )
            if reason := self._network.refuses_capture(self._main):
                self._without_graph(reason)
            self._warm_up(model)
            self._network.keep_compiled()
        except BaseException:
            self.close()
            raise

    def _warm_up(self, model: Model) -> None:
        """Black frames through every slot, by call and by graph: kernels load now, not at a frame."""
        request = MaskRequest(model.labels)
        if self._device.gpu.integrated:
            self.info.details["memory"] = self._choose_memory(request)
        black = Frame(np.zeros((*self.info.input_size, 3), np.uint8))
        for _ in range(2 * self.depth):
            self.submit([black], request)
            self.collect()

    def _choose_memory(self, request: MaskRequest) -> str:
        """Time both ways of shared memory, keep the faster one, and say which.

        A GPU that shares the CPU's memory may read it uncached (Orin), so that a copy can win.
        """
        frame = Frame(np.zeros((*TRIAL_FRAME, 3), np.uint8))
        took: dict[bool, float] = {}
        for mapped in (True, False):
            self._use_memory(mapped)
            times = []
            for _ in range(self.depth + TRIALS):
                started = time.perf_counter()
                self.submit([frame], request)
                self.collect()
                times.append(time.perf_counter() - started)
            took[mapped] = 1e3 * min(times[self.depth :])
        faster = took[True] <= took[False]
        self._use_memory(faster)
        ways = {True: "read in place", False: "copied"}
        return (
            f"shared with the CPU: frames and masks are {ways[faster]} ({took[faster]:.2f} ms a "
            f"{TRIAL_FRAME} frame, {took[not faster]:.2f} ms if {ways[not faster]})"
        )

    def _use_memory(self, mapped: bool) -> None:
        for slot in self._free:
            slot.free_buffers()
            slot.mapped = mapped

    def submit(self, frames: Sequence[Frame], request: MaskRequest) -> None:
        network = self._open_network()
        check_frames(frames, self.max_batch)
        if len(request.labels) != network.tensors.classes:
            raise FrameError(
                f"{len(request.labels)} labels do not fit the {network.tensors.classes} classes of "
                "the network"
            )
        self._check_devices(frames)
        order = Shape.order(frames)
        frames = [frames[index] for index in order]
        shape = Shape.of(frames, request, network.tensors.size)
        if not self._free:
            raise BackendError(f"{self.depth} submits are in flight already: collect first")
        self._device.activate()
        slot = self._free.popleft()
        try:
            plan = slot.plan(shape, network.tensors, self._main)
            started = time.perf_counter()
            assert slot.up is not None
            layout.write_upload(slot.up.pinned.array, shape, frames)
            copy_ms = 1e3 * (time.perf_counter() - started)
            slot.send_tables(request.labels, self._main)
            uploaded = slot.send_frames(shape, frames, self._upload, self._main)
            if plan.ran and not plan.graph and self._capturing:
                self._capture(slot, shape, plan)
            if plan.graph:
                check("starting a graph", driver.cuGraphLaunch(plan.graph, self._main))
            else:
                self._enqueue(slot, shape, plan, capturing=False)
                plan.ran = True
            check("marking the end", driver.cuEventRecord(slot.marks[-1], self._main))
        except BaseException:
            self._free.append(slot)
            slot.labels = None
            # What was started may still use the slot's buffers.
            self._device.settle(self._upload, self._main)
            raise
        owners: list[object] = [f.image for f in frames if isinstance(f.image, DeviceImage)]
        slot.work = InFlight(shape, request.labels, order, owners, uploaded, copy_ms)
        self._busy.append(slot)
        self._tell_better_shapes(frames)

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
        work = slot.work
        assert slot.down is not None and work is not None
        down = slot.down.pinned.array
        if not layout.logits_are_finite(down):
            raise BackendError(
                f"the network's logits are not finite on this frame: in {self.info.precision} this "
                "model overflows or is broken; take another precision (fp32 is the widest)"
            )
        timings = {"copy": work.copy_ms, **self._stage_times(slot)}
        started = time.perf_counter()
        results = layout.read_download(down, work.shape)
        timings["copy"] += 1e3 * (time.perf_counter() - started)
        for masks in results:
            masks.timings = dict(timings)
            masks.label_set = work.labels
        work.owners.clear()
        return [results[work.order.index(place)] for place in range(len(results))]

    def close(self) -> None:
        if self._network is not None:
            self._device.enter()
            # What is still at work reads the engine's buffers and the slots'.
            self._device.drain(*filter(None, (self._upload, self._main)))
            self._network.close()
            self._network = None
        self._busy.clear()
        self._free.clear()
        self._device.close()

    def layers(self) -> list[Layer]:
        """The engine's layers, as TensorRT's inspector describes them.

        Raises:
            EngineError: the engine was built without its layers' details.
        """
        return self._open_network().layers()

    def profile_layers(self, frame: Frame, request: MaskRequest, frames: int) -> dict[str, float]:
        """Mean milliseconds of each layer of the network, by TensorRT's own profiler, without a graph.

        Raises:
            BackendError: the device failed.
        """
        network = self._open_network()
        capturing, self._capturing = self._capturing, False
        self._device.activate()
        for slot in self._free:
            slot.free_buffers()  # and with them the graphs

        def run() -> None:
            for _ in range(frames):
                self.submit([frame], request)
                self.collect()

        try:
            times = network.profile(run)
        finally:
            self._capturing = capturing
        return {name: total / frames for name, total in times.items()}

    def _open_network(self) -> LoadedEngine:
        if self._network is None:
            raise BackendError("this backend is closed")
        return self._network

    def _check_devices(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            image = frame.image
            if isinstance(image, DeviceImage) and image.device not in (None, self._index):
                raise FrameError(
                    f"an image on GPU {image.device}; this backend runs on GPU {self._index}"
                )

    def _tell_better_shapes(self, frames: Sequence[Frame]) -> None:
        """Once for each size of frames: which engine would fit their shape, if this one does not."""
        for frame in frames:
            if self._budget is None or frame.size in self._told:
                continue
            self._told.add(frame.size)
            better, here = shape_for(frame.size, self._budget), self.info.input_size
            if better != here:
                LOG.warning(
                    "frames of %s are squeezed into the engine's %s; an engine of their own shape (%s): "
                    "`%s --camera %s`",
                    frame.size,
                    here,
                    better,
                    self._rebuild.partition(" --size")[0],
                    frame.size,
                )

    def _enqueue(self, slot: Slot, shape: Shape, plan: Plan, capturing: bool) -> None:
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
        if not slot.mapped:
            to, size = slot.down.pinned.address, shape.down_offsets[-1]
            copy = driver.cuMemcpyDtoHAsync(to, slot.down.device, size, stream)
            check("downloading the masks", copy)

    def _capture(self, slot: Slot, shape: Shape, plan: Plan) -> None:
        """Make the plan's graph, or say why there will be none."""
        try:
            plan.graph = self._device.capture(
                self._main, lambda: self._enqueue(slot, shape, plan, capturing=True)
            )
        except DeviceLostError:
            raise
        except BackendError as error:
            self._without_graph(str(error))

    def _without_graph(self, reason: str) -> None:
        self._capturing = False
        self.info.details["cuda_graph"] = f"off: {reason}"
        LOG.warning("frames run without a CUDA graph: %s", reason)

    def _stage_times(self, slot: Slot) -> dict[str, float]:
        """Stage times in ms; none where the device's clock fails, which costs no frame."""
        try:
            return slot.timings() if self._timing else {}
        except DeviceLostError:
            raise
        except BackendError as error:
            self._timing = False
            self.info.details["stage_times"] = f"off: {error}"
            LOG.warning("frames run without stage times: %s", error)
            return {}
