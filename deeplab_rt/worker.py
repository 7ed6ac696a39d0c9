"""The thread that owns the Segmenter.

A GPU context belongs to the thread that made it, and a frame must not hold up the executor: so one
thread opens the Segmenter, gives it frames, and closes it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from deeplab_rt.errors import BackendError
from deeplab_rt.frame_buffer import LatestFrameBuffer
from deeplab_rt.segmenter import Segmenter

T = TypeVar("T")


class InferenceThread(Generic[T]):
    """Takes frames from the slots and processes them until it is stopped or fails."""

    def __init__(
        self,
        frames: LatestFrameBuffer[T],
        process: Callable[[Segmenter, Sequence[tuple[int, T]]], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Nothing runs before :meth:`open`.

        Args:
            frames: where frames wait.
            process: called in the thread with the Segmenter and (camera, frame) pairs.
            failed: called in the thread with what ``process`` raised; the thread ends after it.
        """
        self._frames = frames
        self._process = process
        self._failed = failed
        self._requests: queue.Queue[
            tuple[Callable[[], Segmenter], Callable[[Exception | None], None]]
        ] = queue.Queue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self.segmenter: Segmenter | None = None

    def reopen(
        self, make: Callable[[], Segmenter], done: Callable[[Exception | None], None]
    ) -> None:
        """Have the thread make a Segmenter, which takes the place of the one there is.

        Args:
            make: called in the thread; if it raises, the Segmenter that there is goes on.
            done: called in the thread with what ``make`` raised, or None.
        """
        self._requests.put((make, done))
        if self._thread.ident is None:
            self._thread.start()
        self._frames.wake()

    def open(self, make: Callable[[], Segmenter]) -> None:
        """:meth:`reopen`, and wait for it.

        Raises:
            Exception: whatever ``make`` raised.
            BackendError: the thread ended meanwhile.
        """
        opened: queue.Queue[Exception | None] = queue.Queue()
        self.reopen(make, opened.put)
        while self._thread.is_alive():
            try:
                error = opened.get(timeout=0.1)
            except queue.Empty:
                continue
            if error is not None:
                raise error
            return
        raise BackendError("the inference thread ended before it opened the model")

    def close(self, timeout: float) -> bool:
        """Finish the present frame, free the Segmenter, end the thread; False if it has not ended."""
        self._stop.set()
        self._frames.wake()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._requests.empty():
                make, done = self._requests.get()
                done(self._open(make))
            taken = self._frames.take(self.segmenter.backend.max_batch if self.segmenter else 1)
            if not taken or self.segmenter is None:
                continue
            try:
                self._process(self.segmenter, taken)
            except Exception as error:
                self._failed(error)
                break
        self._frames.done()
        if self.segmenter is not None:
            self.segmenter.close()

    def _open(self, make: Callable[[], Segmenter]) -> Exception | None:
        try:
            segmenter = make()
        except Exception as error:
            return error
        if self.segmenter is not None:
            self.segmenter.close()
        self.segmenter = segmenter
        return None
