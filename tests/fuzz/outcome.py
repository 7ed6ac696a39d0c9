"""What may come of a case, and how a command is run so that all of it is seen."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GOOD = ("whole", "told", "altered")
"""``whole``: all of it came through; ``told``: it was refused or cut short, in words; ``altered``: every
frame came, some with other pixels, in a format that has no checksum."""
BAD = ("traceback", "silent loss", "unclear", "hang", "crash", "bomb", "leak")
"""``unclear``: refused, but not in one line; ``bomb``: more memory than a small file may cost."""


@dataclass(frozen=True)
class Outcome:
    """What came of one case.

    Attributes:
        verdict: one of ``GOOD`` and ``BAD``.
        detail: for a person: the message, the traceback, what is missing.
    """

    verdict: str
    detail: str = ""


def failed(error: BaseException) -> Outcome:
    """An error that should not have left what raised it."""
    return Outcome("traceback", "".join(traceback.format_exception(error)))


@dataclass(frozen=True)
class Run:
    """One run of the program in this process."""

    code: int
    out: str
    err: str
    trace: str

    @property
    def result(self) -> dict[str, Any]:
        """What ``--json`` has printed; empty if nothing."""
        try:
            content = json.loads(self.out)
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    def failure(self) -> Outcome | None:
        """What is wrong whatever was expected: a traceback, or a failure that is not told in a line."""
        if self.trace or "Traceback (most recent call last)" in self.err:
            return Outcome("traceback", self.trace or self.err)
        if self.code not in (0, 1, 2):
            return Outcome("unclear", f"exit code {self.code}: {self.err}")
        lines = self.err.strip().splitlines()
        if self.code and not (lines and lines[-1].startswith(("deeplab_rt ", "usage:"))):
            return Outcome("unclear", f"exit code {self.code}, and on stderr: {self.err!r}")
        return None


def run_program(arguments: Sequence[str | Path]) -> Run:
    """Run ``deeplab_rt`` in this process, with all that it and its libraries print."""
    from deeplab_rt.commands import main

    code, trace = -1, ""
    with _captured() as (out, err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            trace = traceback.format_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        return Run(code, _text(out), _text(err), trace)


@contextmanager
def _captured() -> Iterator[tuple[Any, Any]]:
    """stdout and stderr of the process, by their descriptors: FFmpeg and others write past Python."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sys.stdout.flush()
        sys.stderr.flush()
        saved = [os.dup(1), os.dup(2)]
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        python = sys.stdout, sys.stderr
        sys.stdout = open(1, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115
        try:
            yield out, err
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            sys.stdout, sys.stderr = python
            for number, handle in enumerate(saved, start=1):
                os.dup2(handle, number)
                os.close(handle)


def _text(stream: Any) -> str:
    stream.seek(0)
    return str(stream.read(1 << 20).decode(errors="replace"))
