"""How far long work is: a bar on a terminal, a line now and then elsewhere. Writes to stderr."""

from __future__ import annotations

import sys
import time
from typing import Any

_EVERY_S = 10.0


class ProgressBar:
    """Told again and again how much is done; a context manager that takes the bar away at the end."""

    def __init__(self, total: int | None, unit: str) -> None:
        """Show nothing yet, or an empty bar.

        Args:
            total: how much there is to do; None if that is not known.
            unit: what is counted, as in ``frames``.
        """
        self._total, self._unit = total, unit
        self._bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit=f" {unit}", dynamic_ncols=True, leave=False)
        self._next = time.monotonic() + _EVERY_S

    def update(self, done: int, note: str = "") -> None:
        """Show how much is done, and a note beside it."""
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self._bar.n)
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY_S
            of = f" of {self._total}" if self._total else ""
            text = f"{done}{of} {self._unit}" + (f", {note}" if note else "")
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the bar away. Safe to call twice."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
