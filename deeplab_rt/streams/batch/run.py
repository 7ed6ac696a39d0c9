"""The jobs of many recordings, one after the other or in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from deeplab_rt.errors import StreamError
from deeplab_rt.segmenter import Segmenter
from deeplab_rt.streams.batch.inputs import Job
from deeplab_rt.streams.batch.job import JobResult, Mode, OnFrame, run_job
from deeplab_rt.streams.settings import ReplaySettings
from deeplab_rt.streams.signals import InterruptSignals

Results = Generator[JobResult, None, None]


@dataclass
class BatchSummary:
    """How the jobs of a batch ended, each under its name."""

    results: dict[str, JobResult] = field(default_factory=dict)
    total: int = 0
    interrupted: bool = False

    def count(self, status: str) -> int:
        """How many jobs ended so."""
        return sum(result.status == status for result in self.results.values())

    @property
    def exit_code(self) -> int:
        """0 if every job is done, 130 if interrupted, else 1."""
        if self.interrupted:
            return 130
        done = self.count("done") + self.count("skipped")
        return 0 if done == self.total else 1

    def to_dict(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        counts = {name: self.count(name) for name in ("done", "skipped", "failed", "interrupted")}
        frames = sum(result.summary.get("frames", 0) for result in self.results.values())
        files = {name: result.to_dict() for name, result in sorted(self.results.items())}
        return {"inputs": self.total, **counts, "frames": frames, "files": files}


def run_batch(
    results: Results,
    total: int,
    keep_going: bool,
    on_result: Callable[[BatchSummary, JobResult], None],
) -> BatchSummary:
    """Collect the results of jobs as they end.

    Args:
        results: of :func:`in_turn`, :func:`in_processes` or
            :func:`~deeplab_rt.streams.batch.cluster.on_cluster`.
        total: how many jobs there are.
        keep_going: go on after a job that failed; otherwise no more are begun.
        on_result: called with each.
    """
    summary = BatchSummary(total=total)
    with closing(results), InterruptSignals() as signals:
        while not summary.interrupted:
            try:
                with signals.interruptible():
                    result = next(results, None)
            except KeyboardInterrupt:
                summary.interrupted = True
                break
            if result is None:
                break
            summary.results[result.name] = result
            summary.interrupted = result.status == "interrupted"
            on_result(summary, result)
            if result.status == "failed" and not keep_going:
                break
    return summary


class SegmenterCache:
    """Keeps the newest segmenter, for jobs that follow each other with the same settings."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] = ()
        self._segmenter: Segmenter | None = None

    def __call__(self, settings: ReplaySettings) -> Segmenter:
        """The segmenter of some settings; its errors are those of :class:`Segmenter`."""
        key: tuple[Any, ...] = (settings.model, settings.backend, settings.precision)
        key += (settings.size, settings.confidence)
        if self._segmenter is None or key != self._key:
            self.close()
            self._segmenter = open_segmenter(settings)
            self._key = key
        return self._segmenter

    def close(self) -> None:
        """Free it."""
        segmenter, self._segmenter = self._segmenter, None
        if segmenter is not None:
            segmenter.close()


def open_segmenter(settings: ReplaySettings) -> Segmenter:
    """A segmenter as a replay's settings want it; its errors are those of :class:`Segmenter`."""
    return Segmenter(
        settings.model,
        settings.backend,
        settings.precision,
        settings.size,
        confidence=settings.confidence,
    )


def in_turn(
    jobs: Sequence[Job],
    settings: ReplaySettings,
    mode: Mode,
    on_source: Callable[[Any], OnFrame] | None = None,
) -> Results:
    """Run jobs in this process, one after the other."""
    segmenters = SegmenterCache()
    try:
        for job in jobs:
            yield run_job(job, settings, mode, segmenters, on_source)
    finally:
        segmenters.close()


def in_processes(
    jobs: Sequence[Job], settings: ReplaySettings, mode: Mode, processes: int
) -> Results:
    """Run jobs in several processes, each on its share of the cores.

    Raises:
        StreamError: a process was killed (often for want of memory); what is done stays done.
    """
    context = multiprocessing.get_context("spawn")
    counter = context.Value("i", 0)
    pool = ProcessPoolExecutor(processes, context, _begin_process, (processes, counter))
    waiting: set[Future[JobResult]] = {
        pool.submit(_run_in_process, job, settings, mode) for job in jobs
    }
    try:
        while waiting:
            ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in ended:
                yield future.result()
    except BrokenProcessPool:
        raise StreamError(
            f"one of the {processes} processes was killed, perhaps for want of memory; what is done "
            "stays done: run it again with --resume, or with fewer --jobs"
        ) from None
    finally:
        for future in waiting:
            future.cancel()
        if any(not future.done() for future in waiting):
            for process in multiprocessing.active_children():
                process.terminate()  # a job that runs ends between two frames, to be resumed
        pool.shutdown(cancel_futures=True)


_process_segmenters = SegmenterCache()


def _begin_process(processes: int, counter: Any) -> None:
    # Ctrl-C reaches every process of a terminal; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if hasattr(os, "sched_setaffinity"):
        with counter.get_lock():
            number = counter.value
            counter.value += 1
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[number % len(cores) :: processes] or cores)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # a killed parent takes no more results; what was written can be resumed


def _run_in_process(job: Job, settings: ReplaySettings, mode: Mode) -> JobResult:
    return run_job(job, settings, mode, _process_segmenters)
