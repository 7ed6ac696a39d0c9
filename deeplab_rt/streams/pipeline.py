"""Reading, network and outputs overlapped: a thread each, bounded queues between them, in order.

The network runs in the thread that calls, because a segmenter belongs to one thread. The source is
read by a second thread and each output is written by one of its own, so that on a machine with cores
to spare a stream takes as long as its slowest thread, not as long as all of them together.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, TypeVar

from deeplab_rt.frame import Frame
from deeplab_rt.masks import Masks
from deeplab_rt.streams.base import MaskSink

QUEUE_FRAMES = 4
"""Frames that wait before the network and before each output; more would only hold memory."""

_SWITCH_S = 0.0005
T = TypeVar("T")


class BoundedQueue(Generic[T]):
    """A first-in first-out queue between two threads that can be ended from either side."""

    def __init__(self, size: int = QUEUE_FRAMES) -> None:
        self._size = size
        self._items: deque[T] = deque()
        self._ended = False
        self._changed = threading.Condition()

    def put(self, item: T) -> bool:
        """Append, waiting while the queue is full; False if it was ended instead."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self._items) < self._size)
            if self._ended:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def get(self) -> T | None:
        """The oldest item, waiting for one; None when the queue was ended and is empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._items)
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def end(self, discard: bool = False) -> None:
        """Take no more items; those that wait are still given, unless they are discarded."""
        with self._changed:
            self._ended = True
            if discard:
                self._items.clear()
            self._changed.notify_all()


class FrameReader:
    """Iterates a source on a thread of its own, some frames ahead of its consumer.

    Attributes:
        busy_s: seconds that reading and decoding took so far.
        waited_s: seconds that the consumer waited for a frame.
    """

    def __init__(self, source: Iterable[Frame]) -> None:
        self._source = source
        self._queue: BoundedQueue[tuple[Frame, float]] = BoundedQueue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="replay read", daemon=True)
        self.busy_s = 0.0
        self.waited_s = 0.0
        self._thread.start()

    def __iter__(self) -> Iterator[tuple[Frame, float]]:
        """Every frame with the milliseconds that it took to read, until the source ends or fails."""
        while True:
            started = time.perf_counter()
            item = self._queue.get()
            self.waited_s += time.perf_counter() - started
            if item is None:
                return
            yield item

    def check(self) -> None:
        """Raise what the source raised, if it did."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the thread; the source is not read any more after this."""
        self._queue.end(discard=True)
        self._thread.join()

    def _read(self) -> None:
        try:
            frames = iter(self._source)
            while True:
                started = time.perf_counter()
                frame = next(frames, None)
                took = time.perf_counter() - started
                self.busy_s += took
                if frame is None or not self._queue.put((frame, 1e3 * took)):
                    break
        except BaseException as error:  # raised by check(), when the frames before it are written
            self._error = error
        self._queue.end()


class FrameResult:
    """A frame with its masks on its way through the outputs.

    Attributes:
        stages_ms: milliseconds of each stage; ``write`` grows as the outputs are done with it.
    """

    def __init__(self, frame: Frame, masks: Masks, stages_ms: dict[str, float]) -> None:
        self.frame = frame
        self.masks = masks
        self.stages_ms = stages_ms


class SinkWriters:
    """Writes frames to every sink on a thread of its own, and closes the sinks at the end.

    Attributes:
        busy_s: sink's name -> seconds that writing and closing took so far.
        waited_s: seconds that the producer waited for room in a queue.
    """

    def __init__(self, sinks: Mapping[str, MaskSink]) -> None:
        self.busy_s = dict.fromkeys(sinks, 0.0)
        self.waited_s = 0.0
        self._error: BaseException | None = None
        self._written: deque[FrameResult] = deque()
        self._pending: dict[int, int] = {}  # id of a result -> sinks that have yet to write it
        self._lock = threading.Lock()
        self._queues: list[BoundedQueue[FrameResult]] = [BoundedQueue() for _ in sinks]
        self._threads = [
            threading.Thread(
                target=self._write, args=(name, sink, queue), name=f"replay {name}", daemon=True
            )
            for (name, sink), queue in zip(sinks.items(), self._queues, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, result: FrameResult) -> None:
        """Hand a frame to every sink, waiting for room.

        Raises:
            BaseException: what a sink raised.
        """
        started = time.perf_counter()
        if self._queues:
            self._pending[id(result)] = len(self._queues)
        else:
            self._written.append(result)
        for queue in self._queues:
            queue.put(result)
        self.waited_s += time.perf_counter() - started
        self.check()

    def check(self) -> None:
        """Raise what a sink raised, if one did."""
        if self._error is not None:
            raise self._error

    def written(self) -> Iterator[FrameResult]:
        """The frames that every sink has written since the last call, in order."""
        while self._written:
            yield self._written.popleft()

    def close(self) -> None:
        """Let the sinks write what waits, close them, and end the threads. Safe to call twice.

        Raises:
            BaseException: what a sink raised, at any time.
        """
        for queue in self._queues:
            queue.end()
        for thread in self._threads:
            thread.join()
        self.check()

    def _write(self, name: str, sink: MaskSink, queue: BoundedQueue[FrameResult]) -> None:
        with self._kept_error():
            while (result := queue.get()) is not None:
                self._done(result, self._timed(name, sink, result))
        queue.end(discard=True)
        with self._kept_error():
            started = time.perf_counter()
            sink.close()
            self.busy_s[name] += time.perf_counter() - started

    @contextmanager
    def _kept_error(self) -> Iterator[None]:
        """Keep the first error for the thread that hands the frames over."""
        try:
            yield
        except BaseException as error:
            with self._lock:
                self._error = self._error or error

    def _timed(self, name: str, sink: MaskSink, result: FrameResult) -> float:
        started = time.perf_counter()
        sink.write(result.frame, result.masks)
        took = time.perf_counter() - started
        self.busy_s[name] += took
        return took

    def _done(self, result: FrameResult, took_s: float) -> None:
        with self._lock:
            stages = result.stages_ms
            stages["write"] = stages.get("write", 0.0) + 1e3 * took_s
            self._pending[id(result)] -= 1
            if not self._pending[id(result)]:
                del self._pending[id(result)]
                self._written.append(result)


@contextmanager
def short_switch_interval() -> Iterator[None]:
    """Let a thread that becomes ready run Python code within half a millisecond.

    By default a thread that computes in Python keeps the interpreter for 5 ms, as long as the network
    takes for a frame: the thread that feeds it would come late.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, _SWITCH_S))
    try:
        yield
    finally:
        sys.setswitchinterval(before)
