"""The inference thread: newest frames in, masks out, exchange of the Segmenter, failure."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from deeplab_rt.backends.base import BackendInfo, MaskRequest
from deeplab_rt.errors import BackendError, FrameError, ModelError
from deeplab_rt.frame import Frame, Size
from deeplab_rt.masks import Masks
from deeplab_rt.models import Model
from deeplab_rt.segmenter import Segmenter
from deeplab_rt.worker import InferenceWorker

PATIENCE = 20.0
GOOD, ODD, DEADLY = 1, 2, 3  # first pixel of a frame


class FakeDevice:
    """A backend without arithmetic: waits for its gate, refuses odd frames, dies of deadly ones."""

    def __init__(self, name: str = "fake", max_batch: int = 1) -> None:
        self.info = BackendInfo(name, "none", "fp32", Size(32, 32), "0")
        self.max_batch, self.depth = max_batch, 1
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.closed = 0
        self.batches: list[int] = []
        self.threads: set[int] = {threading.get_ident()}  # of those who made and used it

    def submit(self, frames: Sequence[Frame], request: MaskRequest) -> None:
        self.threads.add(threading.get_ident())
        self.entered.set()
        assert self.gate.wait(PATIENCE)
        kinds = [int(frame.image[0, 0, 0]) for frame in frames]
        if ODD in kinds:
            raise FrameError("an odd frame")
        if DEADLY in kinds:
            raise BackendError("the device was pulled out")
        self.batches.append(len(frames))

    def collect(self) -> list[Masks]:
        mask = np.zeros((1, 1), np.uint8)
        return [Masks(mask, mask, mask) for _ in range(self.batches[-1])]

    def close(self) -> None:
        self.closed += 1


class RecordedJob:
    """A frame, and what became of it."""

    def __init__(self, kind: int = GOOD, broken: bool = False) -> None:
        self.kind, self.broken = kind, broken
        self.end = ""
        self.ended = threading.Event()

    def load(self) -> Frame:
        if self.broken:
            raise FrameError("cannot be decoded")
        return Frame(np.full((2, 2, 3), self.kind, np.uint8))

    def deliver(self, frame: Frame, masks: Masks) -> None:
        self._ends("delivered")

    def reject(self, error: FrameError) -> None:
        self._ends(str(error))

    def discard(self) -> None:
        self._ends("discarded")

    def outcome(self) -> str:
        assert self.ended.wait(PATIENCE)
        return self.end

    def _ends(self, how: str) -> None:
        assert not self.end, "a frame ends once"
        self.end = how
        self.ended.set()


Make = Callable[..., InferenceWorker]


@pytest.fixture
def failures() -> list[str]:
    return []


@pytest.fixture
def make(failures: list[str]) -> Iterator[Make]:
    workers: list[InferenceWorker] = []

    def made(cameras: int = 1) -> InferenceWorker:
        workers.append(InferenceWorker(cameras, lambda: failures.append("failed")))
        return workers[-1]

    yield made
    assert all([worker.close(PATIENCE) for worker in workers])
    assert not [thread for thread in threading.enumerate() if thread.name == "inference"]


def test_real_network_in_its_thread(make: Make, palette_model: Model) -> None:
    worker, job = make(), RecordedJob()
    worker.open(lambda: Segmenter(palette_model, "cpu"))
    worker.put(0, job)
    assert job.outcome() == "delivered"


def test_newest_frame_wins_while_the_network_is_busy(make: Make, palette_model: Model) -> None:
    worker, device = make(), FakeDevice()
    worker.open(lambda: Segmenter(palette_model, device))
    device.gate.clear()
    first, second, third = (RecordedJob() for _ in range(3))
    worker.put(0, first)
    assert device.entered.wait(PATIENCE)
    assert worker.put(0, second) is None
    assert worker.put(0, third) is second
    assert not worker.wait_idle(0.01)
    device.gate.set()
    assert (first.outcome(), third.outcome()) == ("delivered", "delivered")
    assert second.end == ""
    assert worker.wait_idle(PATIENCE)


def test_frames_that_wait_can_be_taken_back(make: Make, palette_model: Model) -> None:
    worker, device = make(2), FakeDevice()
    worker.open(lambda: Segmenter(palette_model, device))
    device.gate.clear()
    busy, waiting = RecordedJob(), RecordedJob()
    worker.put(0, busy)
    assert device.entered.wait(PATIENCE)
    worker.put(1, waiting)
    assert worker.clear() == [waiting]
    device.gate.set()
    assert busy.outcome() == "delivered"
    assert waiting.end == ""


def test_bad_frames_are_rejected_and_the_next_is_served(make: Make, palette_model: Model) -> None:
    worker = make()
    worker.open(lambda: Segmenter(palette_model, FakeDevice()))
    jobs = [RecordedJob(broken=True), RecordedJob(ODD), RecordedJob()]
    ends = []
    for job in jobs:
        worker.put(0, job)
        ends.append(job.outcome())
    assert ends == ["cannot be decoded", "an odd frame", "delivered"]


def test_bad_frame_of_a_batch_costs_the_others_nothing(make: Make, palette_model: Model) -> None:
    worker, device = make(4), FakeDevice(max_batch=4)
    worker.open(lambda: Segmenter(palette_model, device))
    device.gate.clear()
    first = RecordedJob()
    worker.put(0, first)
    assert device.entered.wait(PATIENCE)
    jobs = [RecordedJob(), RecordedJob(ODD), RecordedJob(broken=True), RecordedJob()]
    for camera, job in enumerate(jobs):
        worker.put(camera, job)
    device.gate.set()
    assert [job.outcome() for job in jobs] == [
        "delivered",
        "an odd frame",
        "cannot be decoded",
        "delivered",
    ]
    assert first.outcome() == "delivered"


def test_device_that_fails_ends_the_worker_once(
    make: Make, palette_model: Model, failures: list[str]
) -> None:
    worker, device = make(), FakeDevice()
    worker.open(lambda: Segmenter(palette_model, device))
    job = RecordedJob(DEADLY)
    worker.put(0, job)
    assert job.outcome() == "discarded"
    assert worker.wait_idle(PATIENCE)
    assert worker.close(PATIENCE)
    assert str(worker.failure) == "the device was pulled out"
    assert failures == ["failed"]
    assert device.closed == 1
    with pytest.raises(BackendError, match="the inference thread ended"):
        worker.open(lambda: Segmenter(palette_model, FakeDevice()))


def test_segmenter_is_made_used_and_exchanged_in_one_thread(
    make: Make, palette_model: Model
) -> None:
    worker = make()
    devices: list[FakeDevice] = []

    def segmenter(name: str) -> Segmenter:
        devices.append(FakeDevice(name))
        return Segmenter(palette_model, devices[-1])

    def serve() -> str:
        job = RecordedJob()
        worker.put(0, job)
        assert job.outcome() == "delivered"
        return worker.segmenter.info.name

    worker.open(lambda: segmenter("cpu"))
    assert serve() == "cpu"
    ended = threading.Event()
    errors: list[Exception | None] = []

    def done(error: Exception | None) -> None:
        errors.append(error)
        ended.set()

    def fail() -> Segmenter:
        raise ModelError("no such model")

    worker.swap(fail, done)
    assert ended.wait(PATIENCE)
    assert str(errors[0]) == "no such model"
    assert serve() == "cpu"
    ended.clear()
    worker.swap(lambda: segmenter("gpu"), done)
    assert ended.wait(PATIENCE)
    assert errors[1] is None
    assert serve() == "gpu"
    assert [device.closed for device in devices] == [1, 0]
    threads = devices[0].threads | devices[1].threads
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_open_raises_what_making_raised(make: Make) -> None:
    def fail() -> Segmenter:
        raise ModelError("no such model")

    with pytest.raises(ModelError, match="no such model"):
        make().open(fail)
