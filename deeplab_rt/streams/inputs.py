"""What an input is on the disk, so that no output touches it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

BAG_SUFFIXES = (".mcap", ".db3")
Identity = tuple[int, int]  # device and inode: the same for every name of a file


def local_path(uri: str | Path) -> Path | None:
    """The path of an input; None where it is no file (a camera's number, a URL of the network).

    ``~`` is the user's home; a user that does not exist is left as it stands.
    """
    text = os.fspath(uri)
    if text.startswith("file:"):
        return Path(unquote(urlsplit(text).path))
    if "://" in text:
        return None
    return Path(os.path.expanduser(text))


def identity(path: str | Path) -> Identity | None:
    """What a path leads to, symbolic links followed; None where it leads to nothing."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
    return status.st_dev, status.st_ino


class InputFiles:
    """The files and directories that an input consists of.

    Attributes:
        path: as it was given.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: set[Identity] = set()
        self._folders: set[Identity] = set()
        self._above: set[Identity] = set()
        itself = identity(path)
        if itself is None:
            return
        self._files = {itself, *_members(path)}
        if path.is_dir():
            self._folders.add(itself)
        else:
            # SQLite keeps the newest messages in files of these names.
            beside = (identity(f"{path}{suffix}") for suffix in ("-wal", "-shm", "-journal"))
            self._files |= {found for found in beside if found is not None}
            for bag in {path.absolute().parent, Path(os.path.realpath(path)).parent}:
                home = identity(bag) if path.suffix in BAG_SUFFIXES else None
                if home is not None and (bag / "metadata.yaml").is_file():
                    self._folders.add(home)
                    self._files |= set(_members(bag))
        self._above = set(_parents(path))

    def conflict(self, output: Path) -> str | None:
        """How an output would touch this input (``is the input`` ...); None where it does not."""
        itself = identity(output)
        if itself in self._files:
            return "is the input"
        if itself in self._above or not self._files.isdisjoint(_members(output)):
            return "holds the input"
        if not self._folders.isdisjoint(_parents(output)):
            return "lies inside the input"
        return None


def _members(folder: Path) -> Iterator[Identity]:
    """What lies directly in a folder; nothing where it is none."""
    try:
        entries = list(os.scandir(folder))
    except (OSError, ValueError):
        return
    for entry in entries:
        if (found := identity(entry.path)) is not None:
            yield found


def _parents(path: Path) -> Iterator[Identity]:
    """The directories above a path: of the name as it stands, and of what it leads to."""
    lexical = Path(os.path.realpath(path.absolute().parent)) / path.name
    for place in {lexical, Path(os.path.realpath(path))}:
        for parent in place.parents:
            if (found := identity(parent)) is not None:
                yield found
