"""One waiting place per camera, where a newer frame replaces an older one."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class LatestFrameBuffer(Generic[T]):
    """Hands frames from the callbacks of several cameras to one thread, the newest of each.

    What waits never grows, so latency never does. Cameras are served in turn: none starves because
    another is faster.
    """

    def __init__(self, cameras: int) -> None:
        self._waiting: list[T | None] = [None] * cameras
        self._next = 0  # the camera whose turn it is
        self._changed = threading.Condition()
        self._woken = False
        self._out = False  # whether what was taken is still being worked on

    def put(self, camera: int, item: T) -> T | None:
        """Let an item wait; return the older one that it replaces, if any."""
        with self._changed:
            replaced = self._waiting[camera]
            self._waiting[camera] = item
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
            while not self._woken and all(item is None for item in self._waiting):
                self._changed.wait()
            if self._woken:
                self._woken = False
                return []
            count = len(self._waiting)
            taken: list[tuple[int, T]] = []
            for camera in [(self._next + offset) % count for offset in range(count)]:
                item = self._waiting[camera]
                if item is not None and len(taken) < most:
                    taken.append((camera, item))
                    self._waiting[camera] = None
            self._next = (taken[-1][0] + 1) % count
            self._out = True
            return taken

    def done(self) -> None:
        """Say that the work on what was taken is done."""
        with self._changed:
            self._out = False
            self._changed.notify_all()

    def wait_done(self, timeout: float) -> bool:
        """Wait until nothing that was taken is being worked on; False if something still is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._out, timeout)

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
