"""The rows of one job shared by the cores of this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

MOST_THREADS = 4
"""What is shared here takes a millisecond or two; more threads would wait for each other."""

CHUNKS = 3
"""Chunks of each thread: rows differ in their work, and who is done early takes another one."""


def parallel_rows(work: Callable[[int, int], None], rows: int, threads: int | None = None) -> None:
    """Call ``work(first, end)`` for chunks of ``range(rows)``, each row once, and wait for all.

    Args:
        work: releases the interpreter while it works, and writes to its own rows only.
        rows: how many there are.
        threads: this one included; None for one per core, :data:`MOST_THREADS` at most.
    """
    threads = threads or min(cores(), MOST_THREADS)
    size = -(-rows // (CHUNKS * threads)) if threads > 1 else rows
    starts = iter(range(0, rows, size))

    def take() -> None:
        for first in starts:
            work(first, min(first + size, rows))

    helpers = [_pool().submit(take) for _ in range(threads - 1)]
    take()
    for helper in helpers:
        if not helper.cancel():  # one that has not begun has nothing left to do
            helper.result()


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MOST_THREADS - 1, "deeplab_rt share")
