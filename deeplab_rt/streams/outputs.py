"""What all outputs share: not overwriting, not filling the disk, errors in one line."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deeplab_rt.errors import StreamError

# Writing stops while there is this much room, so that a bag's index or a video's header still fits
# and what was written so far can be closed and read.
RESERVE = 32 << 20


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system or SQLite refuses into one line that names the output.

    Raises:
        StreamError: the body raised an ``OSError`` or an ``sqlite3.Error``.
    """
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise StreamError(f"{path}: cannot write: {reason}") from None


def check_space(path: Path, reserve: int = RESERVE) -> None:
    """Refuse to write to a disk that is about to be full.

    Args:
        path: of the output, which need not exist yet.
        reserve: how many bytes must stay free.

    Raises:
        StreamError: fewer are free.
    """
    with writing(path):
        place = os.statvfs(path if path.exists() else path.parent)
    free = place.f_bavail * place.f_frsize
    if free < reserve:
        raise StreamError(
            f"{path}: the disk is full ({free >> 20} MB free, {reserve >> 20} MB are kept for "
            "closing the output); what was written so far is complete"
        )


def check_new(path: Path, overwrite: bool) -> None:
    """Refuse an output that exists, unless it may be replaced.

    Raises:
        StreamError: it exists and ``overwrite`` is not set, or its folder does not exist.
    """
    if os.path.lexists(path) and not overwrite:
        raise StreamError(
            f"{path}: exists already; give another name, or --overwrite to replace it"
        )
    if not path.absolute().parent.is_dir():
        raise StreamError(f"{path}: there is no folder {path.parent}; make it first")


def remove_bag(path: Path) -> None:
    """Remove a bag that is to be replaced, and nothing that is not a bag.

    Raises:
        StreamError: a directory holds anything else, or cannot be removed.
    """
    if not os.path.lexists(path):
        return
    with writing(path):
        if not path.is_dir() or path.is_symlink():
            path.unlink()
            return
        foreign = [
            entry.name
            for entry in path.iterdir()
            if entry.name != "metadata.yaml" and entry.suffix not in (".mcap", ".db3")
        ]
        if foreign:
            raise StreamError(
                f"{path}: not replaced: the folder holds more than a bag ({sorted(foreign)[0]})"
            )
        shutil.rmtree(path)
