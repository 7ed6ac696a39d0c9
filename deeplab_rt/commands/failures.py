"""What a command prints when something fails that its own code does not expect.

Readers turn what they know to go wrong into a :class:`~deeplab_rt.errors.DeeplabError`. Behind them
stand parsers that raise nearly anything on damaged bytes, and an operating system that refuses nearly
anywhere: that is told in one line too. What is left is a defect of this program and keeps its
traceback.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from deeplab_rt.errors import one_line
from deeplab_rt.files import expand_user

TRACEBACK = "DEEPLAB_RT_TRACEBACK"
"""Set in the environment, it keeps the traceback of every error, to find a defect by."""

# Top-level packages whose exceptions mean that a file's content is not what it should be. Names, not
# classes: most of them are not imported by most commands.
_PARSERS = frozenset(
    (
        "_lzma", "_pickle", "apsw", "av", "binascii", "cv2", "google", "json", "lz4", "mcap", "onnx",
        "rosbags", "ruamel", "safetensors", "sqlite3", "struct", "yaml", "zlib", "zstandard",
    )
)  # fmt: skip
_OUTPUTS = ("output", "record", "overlay", "masks", "out_dir", "report")


def describe(error: BaseException, args: argparse.Namespace) -> str | None:
    """One line about an error that a file or the machine has caused, or None: then it is a defect.

    Args:
        error: what a command has raised.
        args: the command's arguments; the files among them are named where the error names none.
    """
    if isinstance(error, OSError):
        reason = error.strerror or printable(error) or type(error).__name__
        if error.filename is None:
            return f"{_named(args)}{reason}"
        names = [_shown(name) for name in (error.filename, error.filename2) if name is not None]
        return f"{' -> '.join(names)}: {reason}"
    if isinstance(error, MemoryError):
        return (
            f"{_named(args)}not enough memory{_detail(error)}; a smaller input, or a machine with "
            "more memory, is needed"
        )
    is_damage = isinstance(error, (UnicodeError, EOFError, RecursionError))
    if is_damage or _is_from(error, _PARSERS):
        return (
            f"{_named(args)}damaged, or not of the kind that its name says ({type(error).__name__}"
            f"{_detail(error)}); copy it again; {TRACEBACK}=1 shows where it fails"
        )
    return None


def _is_from(error: BaseException, packages: frozenset[str]) -> bool:
    return any(kind.__module__.partition(".")[0] in packages for kind in type(error).__mro__)


def _named(args: argparse.Namespace) -> str:
    names = list(dict.fromkeys(_inputs(args)))
    more = f" (or one of {len(names) - 3} more)" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}: " if names else ""


def _inputs(args: argparse.Namespace) -> Iterator[str]:
    """The arguments that name something on disk, except outputs."""
    for key, value in vars(args).items():
        if key in _OUTPUTS:
            continue
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(item, (str, Path)) and _exists(item):
                yield _shown(item)


def _exists(name: str | Path) -> bool:
    try:
        return os.path.lexists(expand_user(name))
    except (OSError, ValueError):  # too long a name, a NUL in it
        return False


def _shown(name: object) -> str:
    """A file name as it can be printed; one of the operating system may hold any byte."""
    text = os.fsdecode(name) if isinstance(name, (str, bytes, os.PathLike)) else str(name)
    return _escaped(text)


def printable(error: BaseException) -> str:
    """An error's message in one line that any terminal takes, whatever a file put into it."""
    return _escaped(one_line(error))


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _detail(error: BaseException) -> str:
    text = printable(error)
    return f": {text[:300]}" if text else ""
