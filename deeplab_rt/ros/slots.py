"""One waiting place per camera, where a newer frame replaces an older one."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class NewestFrames(Generic[T]):
    """Hands frames from the callbacks of several cameras to one thread, the newest of each.

    What waits never grows, so latency never does. Cameras are served in turn: none starves because
    another is faster.
    """

    def __init__(self, cameras: int) -> None:
        self._waiting: list[T | None] = [None] * cameras
        self._next = 0  # the camera whose turn it is
        self._changed = threading.Condition()
        self._woken = False

    def put(self, camera: int, item: T) -> T | None:
        """Let an item wait; return the older one that it replaces, if any."""
        with self._changed:
            replaced = self._waiting[camera]
            self._waiting[camera] = item
            self._changed.notify()
            return replaced

    def take(self, most: int) -> list[tuple[int, T]]:
        """Wait for items and take up to ``most``, of different cameras, in turn.

        Returns:
            (camera, item) pairs; none if :meth:`wake` ended the wait.
        """
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
            return taken

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
            self._changed.notify()
