"""The thread that owns the Segmenter: the newest frame of each camera in, masks out.

A GPU context belongs to the thread that made it, and a frame must not hold up whoever receives frames:
so one thread opens the Segmenter, gives it frames, exchanges it for another one, and closes it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from deeplab_rt.errors import BackendError, FrameError
from deeplab_rt.frame import Frame
from deeplab_rt.frame_buffer import LatestFrameBuffer
from deeplab_rt.masks import Masks
from deeplab_rt.segmenter import Segmenter


class Job(Protocol):
    """A frame on its way. All is called in the worker's thread, ``load`` first."""

    def load(self) -> Frame:
        """The frame, decoded.

        Raises:
            FrameError: it cannot be.
        """

    def deliver(self, frame: Frame, masks: Masks) -> None:
        """Take the masks. What this raises ends the worker, as a device's failure does."""

    def reject(self, error: FrameError) -> None:
        """Hear that this frame cannot be used; the next one may be fine."""

    def discard(self) -> None:
        """Hear that the device has failed with this frame."""


class InferenceWorker:
    """Segments frames of several cameras until it is closed or fails.

    Frames wait in a :class:`~deeplab_rt.frame_buffer.LatestFrameBuffer`. Any thread may call.
    """

    def __init__(self, cameras: int, failed: Callable[[], None]) -> None:
        """Nothing runs before :meth:`open`.

        Args:
            cameras: how many there are.
            failed: called in the worker's thread when it ends because a device failed;
                :attr:`failure` then says how.
        """
        self._jobs: LatestFrameBuffer[Job] = LatestFrameBuffer(cameras)
        self._failed = failed
        self._requests: queue.Queue[
            tuple[Callable[[], Segmenter], Callable[[Exception | None], None]]
        ] = queue.Queue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._segmenter: Segmenter | None = None
        self.failure: Exception | None = None

    @property
    def segmenter(self) -> Segmenter:
        """The one that serves; there is one from :meth:`open` on."""
        assert self._segmenter is not None
        return self._segmenter

    def open(self, make: Callable[[], Segmenter]) -> None:
        """:meth:`swap`, and wait for it.

        Raises:
            Exception: whatever ``make`` raised.
            BackendError: the thread ended meanwhile.
        """
        opened: queue.Queue[Exception | None] = queue.Queue()
        self.swap(make, opened.put)
        while self._thread.is_alive():
            try:
                error = opened.get(timeout=0.1)
            except queue.Empty:
                continue
            if error is not None:
                raise error
            return
        raise BackendError("the inference thread ended before it opened the model")

    def swap(self, make: Callable[[], Segmenter], done: Callable[[Exception | None], None]) -> None:
        """Have the thread make a Segmenter, which takes the place of the one there is.

        Args:
            make: called in the thread; if it raises, the Segmenter that there is goes on.
            done: called in the thread with what ``make`` raised, or None.
        """
        self._requests.put((make, done))
        if self._thread.ident is None:
            self._thread.start()
        self._jobs.wake()

    def put(self, camera: int, job: Job) -> Job | None:
        """Let a frame wait for its turn; return the older one that it replaces, if any."""
        return self._jobs.put(camera, job)

    def clear(self) -> list[Job]:
        """Take the frames that wait out of the way, and return them."""
        return [job for _, job in self._jobs.clear()]

    def wait_idle(self, timeout: float) -> bool:
        """Wait for the end of the frame that is being segmented; False if it takes longer."""
        return self._jobs.wait_done(timeout)

    def close(self, timeout: float) -> bool:
        """Finish the present frame, free the Segmenter, end the thread; False if it has not ended."""
        self._stop.set()
        self._jobs.wake()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._requests.empty():
                make, done = self._requests.get()
                done(self._open(make))
            taken = self._jobs.take(self._segmenter.backend.max_batch if self._segmenter else 1)
            if not taken or self._segmenter is None:
                continue
            try:
                self._serve(self._segmenter, taken)
            except Exception as error:
                self.failure = error
                self._failed()
                break
        self._jobs.done()
        if self._segmenter is not None:
            self._segmenter.close()

    def _open(self, make: Callable[[], Segmenter]) -> Exception | None:
        try:
            segmenter = make()
        except Exception as error:
            return error
        if self._segmenter is not None:
            self._segmenter.close()
        self._segmenter = segmenter
        return None

    def _serve(self, segmenter: Segmenter, taken: Sequence[tuple[int, Job]]) -> None:
        """The way of the frames of one turn: decoded, segmented together, delivered."""
        started = time.perf_counter()
        loaded: list[tuple[Job, Frame]] = []
        for _, job in taken:
            try:
                loaded.append((job, job.load()))
            except FrameError as error:
                job.reject(error)
        for job, frame, masks in _segment(segmenter, loaded):
            job.deliver(frame, masks)
        seconds = (time.perf_counter() - started) / len(taken)
        for camera, _ in taken:
            self._jobs.charge(camera, seconds)


def _segment(
    segmenter: Segmenter, loaded: Sequence[tuple[Job, Frame]]
) -> list[tuple[Job, Frame, Masks]]:
    """The masks of the frames that could be used; the others' jobs have been told."""
    try:
        masks = segmenter.segment_batch([frame for _, frame in loaded])
    except FrameError as error:
        if len(loaded) == 1:
            loaded[0][0].reject(error)
            return []
        # Of one of them; which one, a backend does not say.
        return [result for one in loaded for result in _segment(segmenter, [one])]
    except Exception:
        for job, _ in loaded:
            job.discard()
        raise
    return [(job, frame, one) for (job, frame), one in zip(loaded, masks, strict=True)]
