"""The memory of one submit in flight: buffers, events, and the plans worked out on them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cuda.bindings import driver

from deeplab_rt.backends.tensorrt import layout
from deeplab_rt.backends.tensorrt.device import Device, Pinned, check
from deeplab_rt.backends.tensorrt.kernels import Launch
from deeplab_rt.backends.tensorrt.layout import Shape, Tensors
from deeplab_rt.device_image import DeviceImage
from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet

PLANS = 8  # shapes that a slot remembers, each with its graph: cameras of different sizes
STAGES = ("preprocess", "network", "labels", "download")


@dataclass
class Buffer:
    """Pinned host memory and its counterpart on the device."""

    pinned: Pinned
    device: int  # address; the mapped one where kernels reach the host's memory
    size: int


@dataclass
class Plan:
    """One shape worked out on the buffers of one slot."""

    preprocess: list[Launch]
    labels: list[Launch]
    taps: list[int]  # device addresses
    tap_arrays: list[np.ndarray]  # where they are copied from
    graph: int = 0
    ran: bool = False  # call by call, at least once: TensorRT is warm for it


@dataclass
class InFlight:
    """What a slot is at work on."""

    shape: Shape
    labels: LabelSet
    order: list[int]  # which frame of the submit stands at each place
    owners: list[object]  # of images on the device
    uploaded: bool
    copy_ms: float


@dataclass
class Slot:
    """One submit in flight."""

    device: Device
    mapped: bool  # kernels read frames and write masks in the host's memory
    upload_begin: int
    upload_end: int
    produced: int  # an image on the device is ready
    marks: list[int]  # before the first stage, and after each
    staged: Pinned  # the label tables on their way
    tables: int  # device address of the label tables
    labels: LabelSet | None = None  # whose tables are there
    up: Buffer | None = None
    down: Buffer | None = None
    plans: OrderedDict[Shape, Plan] = field(default_factory=OrderedDict)
    work: InFlight | None = None

    @classmethod
    def on(cls, device: Device, mapped: bool) -> Slot:
        """A slot without buffers for frames yet.

        Raises:
            BackendError: the device failed or has no memory left.
        """
        begin, end, produced, *marks = (device.event() for _ in range(4 + len(STAGES)))
        staged = device.allocate_pinned(layout.TABLES, "the label tables", mapped=False)
        tables = device.allocate(layout.TABLES, "the label tables")
        return cls(device, mapped, begin, end, produced, marks, staged, tables)

    def plan(self, shape: Shape, tensors: Tensors, stream: int) -> Plan:
        """The plan of a shape, from memory or made now; buffers grow as needed.

        The slot is not in flight, so what is freed here is in nobody's use.

        Raises:
            BackendError: the device failed or has no memory left.
        """
        if plan := self.plans.get(shape):
            self.plans.move_to_end(shape)
            return plan
        self.up = self._at_least(self.up, shape.up_offsets[-1], "frames")
        self.down = self._at_least(self.down, shape.down_offsets[-1], "masks")
        while len(self.plans) >= PLANS:
            self._forget(self.plans.popitem(last=False)[1])
        arrays = layout.taps_of(shape, tensors.size)
        taps: list[int] = []
        plan = Plan([], [], taps, arrays)
        try:
            for array in arrays:
                taps.append(self.device.allocate(array.nbytes, "the frame's geometry"))
                copy = driver.cuMemcpyHtoDAsync(taps[-1], array.ctypes.data, array.nbytes, stream)
                check("uploading the frame's geometry", copy)
        except BaseException:
            self.device.settle(stream)
            self._forget(plan)
            raise
        plan.preprocess = layout.preprocess_launches(shape, tensors, self.up.device, taps)
        plan.labels = layout.label_launches(shape, tensors, self.tables, self.down.device)
        self.plans[shape] = plan
        return plan

    def send_tables(self, labels: LabelSet, stream: int) -> None:
        """Bring the label tables to the device's own memory, if they are not these already.

        Raises:
            BackendError: the device failed.
        """
        if labels is self.labels:
            return
        self.labels = None
        layout.write_tables(self.staged.array, labels)
        copy = driver.cuMemcpyHtoDAsync(self.tables, self.staged.address, layout.TABLES, stream)
        check("uploading the label tables", copy)
        self.labels = labels

    def send_frames(self, shape: Shape, frames: Sequence[Frame], upload: int, main: int) -> bool:
        """Start the upload; the main stream will wait for it. False if there is nothing to move.

        Images on the device are copied there; the stream that writes them waits for that copy.

        Raises:
            BackendError: the device failed.
        """
        assert self.up is not None
        images: list[tuple[int, Any]] = [
            (offset, frame.image) for frame, offset in zip(frames, shape.up_offsets, strict=False)
        ]
        there = [(offset, image) for offset, image in images if isinstance(image, DeviceImage)]
        if self.mapped and not there:
            return False
        check("marking the upload", driver.cuEventRecord(self.upload_begin, upload))
        if not self.mapped and len(there) < len(images):
            copy = driver.cuMemcpyHtoDAsync(
                self.up.device, self.up.pinned.address, shape.up_offsets[-1], upload
            )
            check("uploading a frame", copy)
        for offset, image in there:
            check("waiting for an image", driver.cuEventRecord(self.produced, image.stream))
            check("waiting for an image", driver.cuStreamWaitEvent(upload, self.produced, 0))
            self.device.copy_rows(self.up.device + offset, image, upload)
        check("marking the upload", driver.cuEventRecord(self.upload_end, upload))
        for _, image in there:
            back = driver.cuStreamWaitEvent(image.stream, self.upload_end, 0)
            check("letting the image be written again", back)
        check("ordering the upload", driver.cuStreamWaitEvent(main, self.upload_end, 0))
        return True

    def timings(self) -> dict[str, float]:
        """Milliseconds of each stage on the GPU, and of the copies to and from pinned memory.

        Raises:
            BackendError: the device's clock failed.
        """
        assert self.work is not None
        timings = {}
        if self.work.uploaded:
            timings["upload"] = _between(self.upload_begin, self.upload_end)
        for index, stage in enumerate(STAGES):
            timings[stage] = _between(self.marks[index], self.marks[index + 1])
        return timings

    def free_buffers(self) -> None:
        """Give back the memory of frames, masks and plans; the slot can be used again."""
        while self.plans:
            self._forget(self.plans.popitem()[1])
        for buffer in (self.up, self.down):
            if buffer is not None:
                self._free(buffer)
        self.up = self.down = None

    def _at_least(self, old: Buffer | None, size: int, what: str) -> Buffer:
        """The old buffer, or a larger one in its place; then the plans that point to it are gone."""
        if old is not None and old.size >= size:
            return old
        pinned = self.device.allocate_pinned(size, what, mapped=self.mapped)
        try:
            address = pinned.device_address or self.device.allocate(size, what)
        except BaseException:
            self.device.free("pinned", pinned.address)
            raise
        while self.plans:
            self._forget(self.plans.popitem()[1])
        if old is not None:
            self._free(old)
        return Buffer(pinned, address, size)

    def _free(self, buffer: Buffer) -> None:
        if not buffer.pinned.device_address:
            self.device.free("memory", buffer.device)
        self.device.free("pinned", buffer.pinned.address)

    def _forget(self, plan: Plan) -> None:
        if plan.graph:
            self.device.free("graph", plan.graph)
        for address in plan.taps:
            self.device.free("memory", address)


def _between(begin: int, end: int) -> float:
    return float(check("reading the stage times", driver.cuEventElapsedTime(begin, end)))
