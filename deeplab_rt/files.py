"""Files on disk: read with a bound, written whole or not at all, never through somebody's symlink.

A file that is being written has a temporary name of its own (``.NAME.TOKEN.partial.SUFFIX``) beside
the name that it will take, and a lock that ends with its process: what a killed process left is told
from what another one is writing.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_LONGEST_NAME = 255  # bytes, of all common file systems
_TEXT_LIMIT = 4 << 20  # bytes of a manifest, recipe or label set


def sha256_of(path: Path) -> str:
    """SHA-256 of a regular file in hex.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with _open_regular(path) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def expand_user(path: str | Path) -> Path:
    """``~`` and ``~user`` replaced as a shell does: a user that there is not is left as written."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def read_text(path: Path, limit: int = _TEXT_LIMIT) -> str:
    """The text of a regular file of at most ``limit`` bytes, without waiting for a FIFO's writer.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger.
        UnicodeDecodeError: it is not UTF-8.
    """
    with _open_regular(path) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit >> 10} KiB", str(path))
    return content.decode("utf-8")


def _open_regular(path: Path) -> BinaryIO:
    """Open a file to read it, unless it is a FIFO or a device, which could keep us waiting for ever."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError:  # a NUL in the name
        raise OSError(errno.EINVAL, "not a file name", str(path)) from None
    stream = os.fdopen(handle, "rb") if stat.S_ISREG(os.fstat(handle).st_mode) else None
    if stream is None:
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return stream


def write_atomically(path: Path, content: bytes, overwrite: bool = True) -> None:
    """Write a file so that a crash or a full disk never leaves half of it under its name.

    Raises:
        FileExistsError: it exists and may not be replaced.
        OSError: it cannot be written.
    """
    with PartialFile(path, overwrite) as partial:
        partial.stream.write(content)
        partial.commit()


class PartialFile:
    """A file under a temporary name beside the one that it takes by :meth:`commit`.

    A context manager: without :meth:`commit` or :meth:`keep` the file is removed at the end.

    Attributes:
        path: the temporary name, which ends in the target's suffix; for a library that opens files
            by name.
        stream: the file, empty, open for writing and reading.
    """

    def __init__(self, target: Path, overwrite: bool = False) -> None:
        """Create the file exclusively.

        Args:
            target: the name to be taken; its folder exists.
            overwrite: whether a file of that name may be replaced.

        Raises:
            OSError: the folder is missing or cannot be written.
        """
        self.target = target
        self._overwrite = overwrite
        self.path = target.with_name(_temporary_name(target))
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(self.path, flags, 0o666)
        with suppress(OSError):  # a file system without locks: then nobody asks for one either
            fcntl.flock(handle, fcntl.LOCK_EX)
        self.stream: BinaryIO = os.fdopen(handle, "w+b")

    def commit(self) -> None:
        """Take the target's name, after everything has reached the disk.

        Raises:
            FileExistsError: the name was taken meanwhile and may not be replaced; the temporary file
                is still there, for :meth:`keep`.
            OSError: the rest could not be written.
        """
        self.stream.flush()
        # By name: a library may have written it by a handle of its own, or anew.
        with self.path.open("rb") as written:
            os.fsync(written.fileno())
        take_name(self.path, self.target, self._overwrite)
        self.stream.close()

    def keep(self) -> Path:
        """Give an unfinished file a name that says so, ``STEM.partial.SUFFIX``, numbered if taken.

        Raises:
            OSError: it cannot be renamed.
        """
        for number in range(1000):
            mark = ".partial" if number == 0 else f".partial{number}"
            stem, suffix = _split(self.target.name, len(mark))
            path = self.target.with_name(f"{stem}{mark}{suffix}")
            try:
                take_name(self.path, path, overwrite=False)
            except FileExistsError:
                continue
            self.stream.close()
            return path
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))

    def discard(self) -> None:
        """Remove the file, unless it has taken a name. Safe to call twice."""
        if not self.stream.closed:
            self.path.unlink(missing_ok=True)
            self.stream.close()

    def __enter__(self) -> PartialFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.discard()


def take_name(temporary: Path, target: Path, overwrite: bool) -> None:
    """Rename a file, exclusively unless ``overwrite``. A symlink of that name is replaced, not followed.

    Raises:
        FileExistsError: the name is taken and ``overwrite`` is not set.
        OSError: it cannot be renamed.
    """
    if overwrite:
        temporary.replace(target)
        return
    try:
        os.link(temporary, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: claim the name, then replace the claim
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666))
        temporary.replace(target)
        return
    temporary.unlink()


def leftovers(target: Path) -> list[Path]:
    """Temporary files of ``target`` that a process left behind when it was killed."""
    pattern = re.compile(_temporary_pattern(target))
    try:
        names = [name for name in os.listdir(target.absolute().parent) if pattern.fullmatch(name)]
    except OSError:
        return []
    found = [target.with_name(name) for name in sorted(names)]
    return [path for path in found if not _is_locked(path)]


def _is_locked(path: Path) -> bool:
    """Whether some process is writing a temporary file; True as well where that cannot be told."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _temporary_name(target: Path) -> str:
    mark = f".{secrets.token_hex(4)}.partial"
    stem, suffix = _split(target.name, len(mark) + 1)
    return f".{stem}{mark}{suffix}"


def _temporary_pattern(target: Path) -> str:
    stem, suffix = _split(target.name, len(".01234567.partial") + 1)
    return rf"\.{re.escape(stem)}\.[0-9a-f]{{8}}\.partial{re.escape(suffix)}"


def _split(name: str, room: int) -> tuple[str, str]:
    """Stem and suffix, the stem cut so that ``room`` more bytes still make a valid file name."""
    suffix = Path(name).suffix
    stem = os.fsencode(name.removesuffix(suffix))
    stem = stem[: max(0, _LONGEST_NAME - room - len(os.fsencode(suffix)))]
    return stem.decode("utf-8", "ignore"), suffix


def cache_dir() -> Path:
    """Where compiled engines and caches go: ``$DEEPLAB_RT_CACHE``, default the user's cache folder."""
    if env := os.environ.get("DEEPLAB_RT_CACHE"):
        return expand_user(env)
    return expand_user(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "deeplab_rt"


def private_dir(path: Path) -> Path:
    """Make a directory that its owner alone may enter, or check one that is there.

    Compiled engines and kernels are code: whoever can write them can run what they like here.

    Returns:
        ``path``.

    Raises:
        PermissionError: another user owns it or can write to it.
        OSError: it cannot be made.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.stat()
    if status.st_uid not in (os.geteuid(), 0):
        raise PermissionError(
            errno.EPERM, "belongs to another user; set DEEPLAB_RT_CACHE to a directory of your own"
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(
            errno.EPERM, f"other users can write to it; `chmod go-w {path}` fixes that"
        )
    return path
