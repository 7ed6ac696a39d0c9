"""Every row once, whoever takes it."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_rt.parallel import MOST_THREADS, parallel_rows


@settings(deadline=None)
@given(rows=st.integers(1, 99), threads=st.none() | st.integers(1, MOST_THREADS))
def test_every_row_once(rows: int, threads: int | None) -> None:
    done = np.zeros(rows, int)

    def work(first: int, end: int) -> None:
        assert first < end
        done[first:end] += 1

    parallel_rows(work, rows, threads)
    assert (done == 1).all()


def test_threads_work_at_the_same_time() -> None:
    both = threading.Barrier(2)
    met = []

    def work(first: int, end: int) -> None:
        if not met:  # the first two chunks wait for each other
            both.wait(timeout=30)
            met.append(first)

    parallel_rows(work, 6, threads=2)
    assert met


def test_one_thread_is_the_callers() -> None:
    seen = []
    parallel_rows(lambda first, end: seen.append((threading.get_ident(), first, end)), 7, threads=1)
    assert seen == [(threading.get_ident(), 0, 7)]


def test_nobody_waits_for_a_helper_that_has_not_begun() -> None:
    gate = threading.Event()
    busy = threading.Thread(
        target=parallel_rows,
        args=(lambda first, end: gate.wait(30), MOST_THREADS * 3, MOST_THREADS),
    )
    busy.start()
    time.sleep(0.05)  # its helpers hold the pool's threads
    seen: list[int] = []
    parallel_rows(lambda first, end: seen.extend(range(first, end)), 9, threads=2)
    assert sorted(seen) == list(range(9)) and busy.is_alive()
    gate.set()
    busy.join()


def test_what_a_helper_raises_is_raised() -> None:
    caller = threading.get_ident()

    def work(first: int, end: int) -> None:
        if threading.get_ident() != caller:
            raise ValueError("of a helper")
        time.sleep(0.02)

    with pytest.raises(ValueError, match="of a helper"):
        parallel_rows(work, 60, threads=2)
