"""What all outputs share: sparing inputs, not overwriting, not filling the disk, errors in one line."""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from deeplab_rt.errors import StreamError
from deeplab_rt.files import private_dir
from deeplab_rt.streams.inputs import BAG_SUFFIXES, InputFiles, local_path

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
            "closing the output)"
        )


def check_outputs(inputs: Iterable[str | Path], outputs: Mapping[str, Path]) -> None:
    """Refuse an output that is an input, lies inside one or holds one, with ``--overwrite`` too.

    Files are compared by what they are, not by their names: hard links and symbolic links to an
    input are the input. Every command that writes calls this before it opens anything.

    Args:
        inputs: what the command reads: recordings, folders, files. Those that are no files (a
            camera, a network URL) are left out.
        outputs: kind (``bag``, ``masks``, ``overlay`` ...) -> path, which need not exist.

    Raises:
        StreamError: an output would touch an input, or two outputs are the same.
    """
    sources = [InputFiles(path) for path in map(local_path, inputs) if path is not None]
    for output in outputs.values():
        for source in sources:
            if problem := source.conflict(output):
                raise StreamError(
                    f"{output}: {problem} {source.path}, which is never written to; give another "
                    "name, outside of it"
                )
    places: dict[str, tuple[str, Path]] = {}
    for kind, output in outputs.items():
        place = os.path.realpath(output)
        if place in places:
            raise StreamError(f"{output}: named for two outputs ({places[place][0]} and {kind})")
        places[place] = (kind, output)
    for place, (kind, output) in places.items():
        # A bag's directory holds the bag and nothing else.
        if kind != "bag" and (bag := _bag_around(place, places)) is not None:
            raise StreamError(f"{output}: lies inside the output {bag}; give another name")


def _bag_around(place: str, places: Mapping[str, tuple[str, Path]]) -> Path | None:
    for parent in map(str, Path(place).parents):
        kind, output = places.get(parent, ("", None))
        if kind == "bag":
            return output
    return None


class Claim:
    """That this process writes an output: no other one on this machine may begin to.

    Held until :meth:`release` or the end of the process, however it ends.
    """

    def __init__(self, path: Path) -> None:
        """Claim an output.

        Args:
            path: need not exist; the same output by other names is the same.

        Raises:
            StreamError: another command is writing it.
        """
        place = Path(os.path.realpath(path.absolute().parent)) / path.name
        name = hashlib.sha256(os.fsencode(place)).hexdigest()[:32]
        self._handle: int | None = None
        try:
            folder = private_dir(Path(tempfile.gettempdir()) / f"deeplab_rt-{os.geteuid()}")
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._handle = os.open(folder / f"{name}.lock", flags, 0o600)
        except OSError as error:
            raise StreamError(f"{path}: its lock cannot be made: {error}") from None
        try:
            # Not removed afterwards: another process could wait for a file that is gone.
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.release()
            raise StreamError(
                f"{path}: another command is writing it; give another name, or wait for its end"
            ) from None

    def release(self) -> None:
        """Let others write the output. Safe to call twice."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def __del__(self) -> None:
        self.release()


def keep_partial(path: Path) -> Path:
    """Give what was written before a failure a name that says so: ``STEM.partial.SUFFIX``.

    Args:
        path: a file, or a directory.

    Returns:
        The new name, numbered where it is taken; the old one where it cannot be renamed.
    """
    for number in range(1000):
        name = f"{path.stem}.partial{number or ''}{path.suffix}"
        partial = path.with_name(name)
        if os.path.lexists(partial):
            continue
        try:
            path.rename(partial)
        except OSError:
            return path
        return partial
    return path


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, unless it is there.

    Raises:
        StreamError: it cannot be made.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


def check_new(path: Path, overwrite: bool) -> None:
    """Refuse an output that exists, unless it may be replaced.

    Raises:
        StreamError: it exists and ``overwrite`` is not set, or its folder does not exist.
    """
    with writing(path):
        exists = os.path.lexists(path)
        if not path.absolute().parent.is_dir():
            raise StreamError(f"{path}: there is no folder {path.parent}; make it first")
    if exists and not overwrite:
        raise StreamError(
            f"{path}: exists already; give another name, or --overwrite to replace it"
        )


def check_new_file(path: Path, overwrite: bool) -> None:
    """As :func:`check_new`, for an output that is a single file.

    Raises:
        StreamError: also when it is a directory, a device, a socket or a pipe, which no file may
            take the place of.
    """
    check_new(path, overwrite)
    with writing(path):
        if os.path.lexists(path) and not _is_regular(path) and not path.is_symlink():
            raise StreamError(f"{path}: not replaced: it is no regular file; give another name")


def check_new_bag(path: Path, overwrite: bool) -> None:
    """As :func:`check_new`, for a bag, which is a file (.mcap, .db3) or a directory.

    Raises:
        StreamError: also when what is there is neither such a file nor the directory of a bag.
    """
    check_new(path, overwrite)
    with writing(path):
        if path.is_symlink() or not path.is_dir():
            check_new_file(path, overwrite)
            if path.suffix not in BAG_SUFFIXES and _is_regular(path):
                raise StreamError(f"{path}: not replaced: it is a file, and no bag")
        else:
            _bag_files(path)


def remove_bag(path: Path) -> None:
    """Remove a bag that is to be replaced, and nothing that is not a bag.

    A directory is a bag when its metadata.yaml names exactly the regular files that lie there.

    Raises:
        StreamError: it is no bag, or cannot be removed.
    """
    if not os.path.lexists(path):
        return
    check_new_bag(path, overwrite=True)
    with writing(path):
        if path.is_symlink() or not path.is_dir():
            path.unlink()
            return
        for file in _bag_files(path):
            file.unlink()
        path.rmdir()


def _bag_files(directory: Path) -> list[Path]:
    """The files of a bag's directory, metadata.yaml last.

    Raises:
        StreamError: something else lies there, or something that is named is missing.
    """
    metadata = directory / "metadata.yaml"
    found = {entry.name: entry for entry in directory.iterdir()}
    named = set(named_files(metadata)) if _is_regular(metadata) else set()
    if not named:
        raise StreamError(
            f"{directory}: not replaced: its metadata.yaml, which would say that it is a bag, is "
            "missing or unreadable; give another name"
        )
    for name in sorted(found.keys() ^ {*named, "metadata.yaml"}):
        held = "the folder holds more than a bag" if name in found else "the bag is not whole"
        raise StreamError(f"{directory}: not replaced: {held} ({name})")
    for name, entry in found.items():
        if not _is_regular(entry):
            raise StreamError(f"{directory}: not replaced: {name} is no regular file")
    return [*(found[name] for name in sorted(named)), metadata]


_METADATA_BYTES = 16 << 20  # of a metadata.yaml; one of a thousand files has 0.3 MB


def named_files(metadata: Path) -> list[str]:
    """The files that a bag's metadata.yaml names, in their order; none where it is damaged.

    Raises:
        OSError: it cannot be read.
    """
    if metadata.stat().st_size > _METADATA_BYTES:
        return []
    try:
        content: Any = yaml.safe_load(metadata.read_bytes())
        names = content["rosbag2_bagfile_information"]["relative_file_paths"]
    except (yaml.YAMLError, ValueError, TypeError, KeyError, RecursionError):
        return []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return []
    return names


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False
