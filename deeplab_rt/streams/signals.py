"""SIGINT and SIGTERM that end a stream between two frames."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class InterruptSignals:
    """SIGINT and SIGTERM become KeyboardInterrupt, but only where the stream can be interrupted.

    Elsewhere (a frame is handed to the outputs, a bag closed) they are noted and raised at the next
    interruptible place. Signals that the process ignores, and threads other than the main one, are
    left alone.
    """

    def __init__(self) -> None:
        self._noted = False
        self._interruptible = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> InterruptSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Raise KeyboardInterrupt inside, at once, or for a signal that came before."""
        if self._noted:
            raise KeyboardInterrupt
        self._interruptible = True
        try:
            yield
        finally:
            self._interruptible = False

    def _note(self, number: int, stack: object) -> None:
        self._noted = True
        if self._interruptible:
            raise KeyboardInterrupt
