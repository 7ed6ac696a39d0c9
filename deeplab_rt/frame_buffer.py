"""One waiting place per camera, where a newer frame replaces an older one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class LatestFrameBuffer(Generic[T]):
    """Hands frames from the callbacks of several cameras to one thread, the newest of each.

    What waits never grows, so latency never does. Cameras are served in turn, so that none starves
    because another is faster. Nor does one starve because another's frames take longer: a camera
    whose frame made others lose theirs waits until each of them could have had the same time.
    """

    def __init__(self, cameras: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing waits.

        Args:
            cameras: how many there are.
            clock: in seconds.
        """
        self._waiting: list[T | None] = [None] * cameras
        self._not_before = [0.0] * cameras  # of the clock: when a camera may be served again
        self._lost: set[int] = set()  # cameras that lost a frame while the present ones are served
        self._served: set[int] = set()  # cameras whose frames are being worked on
        self._next = 0  # the camera whose turn it is
        self._clock = clock
        self._changed = threading.Condition()
        self._woken = False

    def put(self, camera: int, item: T) -> T | None:
        """Let an item wait; return the older one that it replaces, if any."""
        with self._changed:
            replaced = self._waiting[camera]
            self._waiting[camera] = item
            if replaced is not None and self._served and camera not in self._served:
                self._lost.add(camera)
            self._changed.notify_all()
            return replaced

    def take(self, most: int) -> list[tuple[int, T]]:
        """Wait for items and take up to ``most``, of different cameras, in turn.

        To take again is to say that the work on what was taken before is done.

        Returns:
            (camera, item) pairs; none if :meth:`wake` ended the wait.
        """
        self.done()
        with self._changed:
            while not self._woken and self.delay() != 0:
                self._changed.wait(self.delay())
            if self._woken:
                self._woken = False
                return []
            count, now = len(self._waiting), self._clock()
            taken: list[tuple[int, T]] = []
            for camera in [(self._next + offset) % count for offset in range(count)]:
                item = self._waiting[camera]
                if item is not None and len(taken) < most and self._not_before[camera] <= now:
                    taken.append((camera, item))
                    self._waiting[camera] = None
            self._next = (taken[-1][0] + 1) % count
            self._served = {camera for camera, _ in taken}
            self._lost = set()
            return taken

    def delay(self) -> float | None:
        """Seconds until something may be taken; 0 for now, None while nothing waits."""
        with self._changed:
            times = [
                self._not_before[camera]
                for camera, item in enumerate(self._waiting)
                if item is not None
            ]
            return max(0.0, min(times) - self._clock()) if times else None

    def charge(self, camera: int, seconds: float) -> None:
        """Say how much time the frame took that a camera was served last."""
        with self._changed:
            self._not_before[camera] = self._clock() + seconds * len(self._lost - {camera})

    def done(self) -> None:
        """Say that the work on what was taken is done."""
        with self._changed:
            self._served = set()
            self._changed.notify_all()

    def wait_done(self, timeout: float) -> bool:
        """Wait until nothing that was taken is being worked on; False if something still is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._served, timeout)

    def clear(self) -> list[tuple[int, T]]:
        """Take everything without waiting."""
        with self._changed:
            taken = [(i, item) for i, item in enumerate(self._waiting) if item is not None]
            self._waiting = [None] * len(self._waiting)
            return taken

    def wake(self) -> None:
        """Make the present or the next :meth:`take` return nothing."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()
