"""Cases in a worker process that a watchdog ends when one hangs, crashes or eats the memory.

The worker imports the package once and runs case after case, hundreds a minute. What a case leaves
behind (files, threads, descriptors, memory) is measured in it.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.fuzz.outcome import Outcome

START_S = 300.0  # imports and the first network, on a busy machine: a slow start is no hang
HANG_S = 90.0  # of one case, which takes a tenth of a second
HANG_CPU_S = 45.0  # and it has to have worked: on a busy machine waiting is no hang
MEMORY = 700 << 20  # bytes that a case may add; the inputs are a megabyte at most


@dataclass(frozen=True)
class Case:
    """One case: of which kind, its number, and the seed of the whole run."""

    kind: str
    index: int
    seed: int

    def rng(self) -> random.Random:
        return random.Random(f"{self.seed}/{self.kind}/{self.index}")


Runner = Callable[[Case, Path], Outcome]
"""Runs a case; the folder keeps what cases have in common (a corpus, a model)."""


@dataclass(frozen=True)
class Levels:
    """What a process holds."""

    descriptors: int
    threads: int
    memory: int  # resident, in bytes


class _Leaks:
    """Tells what grows with the cases from what is opened once and kept."""

    WARM = 20  # cases of a process before its level is taken
    ELSEWHERE = ("messages", "parameters", "transitions")
    ALLOWED = Levels(descriptors=8, threads=4, memory=400 << 20)

    def __init__(self) -> None:
        self._count = 0
        self._first: Levels | None = None

    def check(self, kind: str, outcome: Outcome, levels: Levels) -> Outcome:
        """The same outcome, or a leak: told once, at the case that went over what is allowed."""
        if kind in self.ELSEWHERE:
            self._first = None  # these open DDS participants here, and watch the node's process
            return outcome
        self._count += 1
        if self._count < self.WARM:
            return outcome
        first = self._first = self._first or levels
        for name in ("descriptors", "threads", "memory"):
            before, now = getattr(first, name), getattr(levels, name)
            if now - before > getattr(self.ALLOWED, name):
                self._count, self._first = 0, None
                return Outcome("leak", f"{name} from {before} to {now}; last case: {outcome}")
        return outcome


class Worker:
    """A process that runs cases; a context manager."""

    def __init__(self, runners: dict[str, Runner], folder: Path) -> None:
        """Nothing is started before the first case.

        Args:
            runners: kind -> what runs its cases; functions that can be imported.
            folder: for the corpus.
        """
        self._runners = runners
        self._folder = folder
        self._process: Any = None
        self._pipe: Any = None
        self._leaks = _Leaks()

    def run(self, case: Case) -> Outcome:
        """Run a case, in a new process if the last one was lost."""
        if self._process is None:
            self._start()
        self._pipe.send(case)
        began, cpu, rss = time.monotonic(), self._cpu_s(), self._rss()
        while not self._pipe.poll(0.2):
            if not self._process.is_alive():
                return self._lost(Outcome("crash", f"exit code {self._process.exitcode}"))
            if self._rss() - rss > MEMORY:
                return self._lost(Outcome("bomb", f"{(self._rss() - rss) >> 20} MiB"))
            waited, worked = time.monotonic() - began, self._cpu_s() - cpu
            if waited > HANG_S and (worked > HANG_CPU_S or worked < 1 or waited > 5 * HANG_S):
                return self._lost(Outcome("hang", f"{waited:.0f} s, of CPU {worked:.0f} s"))
        try:
            outcome, levels = self._pipe.recv()
        except EOFError:
            self._process.join()
            return self._lost(Outcome("crash", f"exit code {self._process.exitcode}"))
        if outcome.verdict == "broken test":
            raise RuntimeError(f"{case}: {outcome.detail}")
        return self._leaks.check(case.kind, outcome, levels)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other, self._runners, self._folder), daemon=True
        )
        self._process.start()
        other.close()
        if not self._pipe.poll(START_S) or self._pipe.recv() != "ready":
            raise RuntimeError("the worker of the fuzz tests does not start")

    def _lost(self, outcome: Outcome) -> Outcome:
        self._process.kill()
        self._process.join()
        self._process = None
        self._leaks = _Leaks()
        return outcome

    def _rss(self) -> int:
        try:
            with open(f"/proc/{self._process.pid}/statm") as stream:
                return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return 0

    def _cpu_s(self) -> float:
        try:
            with open(f"/proc/{self._process.pid}/stat") as stream:
                fields = stream.read().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()


def _serve(pipe: Connection, runners: dict[str, Runner], folder: Path) -> None:
    """The worker's own loop."""
    os.environ["DEEPLAB_RT_CACHE"] = str(folder / "cache")
    scratch = folder / f"scratch-{os.getpid()}"
    tempfile.tempdir = os.environ["TMPDIR"] = str(scratch)
    pipe.send("ready")
    while True:
        try:
            case: Case = pipe.recv()
        except EOFError:
            return
        scratch.mkdir(exist_ok=True)
        os.chdir(scratch)
        try:
            outcome = runners[case.kind](case, folder)
        except BaseException:  # of the attack, not of what is attacked
            outcome = Outcome("broken test", traceback.format_exc())
        finally:
            os.chdir(folder)
        shutil.rmtree(scratch, ignore_errors=True)
        pipe.send((outcome, _levels()))


def _levels() -> Levels:
    gc.collect()
    with open("/proc/self/statm") as stream:
        pages = int(stream.read().split()[1])
    return Levels(
        descriptors=len(os.listdir("/proc/self/fd")),
        threads=len(os.listdir("/proc/self/task")),
        memory=pages * os.sysconf("SC_PAGE_SIZE"),
    )
