"""How far a long stream is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

from deeplab_rt.streams.base import FrameSource
from deeplab_rt.streams.stats import RunStats

_EVERY_S = 10.0


class Progress:
    """Called after every frame; writes to stderr."""

    def __init__(self, source: FrameSource) -> None:
        self._total = source.total
        self._bar: Any = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=source.total, unit=" frames", dynamic_ncols=True, leave=False)
        self._next = time.monotonic() + _EVERY_S

    def __call__(self, stats: RunStats) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(stats.line(), refresh=False)
            self._bar.update()
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY_S
            of = f" of {self._total}" if self._total else ""
            print(f"frame {stats.frames}{of}, {stats.line()}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
