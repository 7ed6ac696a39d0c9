"""The manifest of a job: beside each input's outputs a record of what they were made of.

One record for each input, so that processes and machines that share a job never write to the same
file.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deeplab_rt.errors import StreamError
from deeplab_rt.files import read_text, sha256_of, write_atomically
from deeplab_rt.models import MANIFEST, Model

FORMAT = 1
_IN_WORDS = {
    "kinds": "set of outputs",
    "read": "choice of topics and frames",
    "style": "style of the overlay",
}


@dataclass(frozen=True)
class Fingerprint:
    """What an input was.

    Attributes:
        sha256: over the names and contents of its files.
        bytes: of all its files.
        modified_ns: when the newest of them was written.
    """

    sha256: str
    bytes: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> Fingerprint:
        """Read an input whole.

        Raises:
            StreamError: it cannot be read.
        """
        try:
            files, size, modified_ns = _files(path)
            digest = hashlib.sha256()
            for file in files:
                # A lone file may be renamed; the files of a folder have their order by name.
                digest.update(b"" if file == path else os.fsencode(file.name) + b"\0")
                digest.update(bytes.fromhex(sha256_of(file)))
        except OSError as error:
            raise StreamError(f"{path}: cannot be read: {error.strerror}") from None
        return cls(digest.hexdigest(), size, modified_ns)

    def is_of(self, path: Path) -> bool:
        """Whether an input is still the same: by size and time, and by content where those differ.

        Raises:
            StreamError: it cannot be read.
        """
        try:
            _, size, modified_ns = _files(path)
        except OSError as error:
            raise StreamError(f"{path}: cannot be read: {error.strerror}") from None
        if size != self.bytes:
            return False
        return modified_ns == self.modified_ns or Fingerprint.of(path).sha256 == self.sha256


def _files(path: Path) -> tuple[list[Path], int, int]:
    """Files of an input in order of their names, their bytes, and the newest time of writing."""
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    status = [file.stat() for file in files]
    return files, sum(s.st_size for s in status), max((s.st_mtime_ns for s in status), default=0)


def model_sha256(model: Model) -> str:
    """SHA-256 of a model's manifest, which holds those of its files."""
    return sha256_of(model.directory / MANIFEST)


@dataclass(frozen=True)
class Record:
    """What the outputs of an input were made of; written when they are complete.

    Attributes:
        source: the input, as it was named.
        fingerprint: of the input.
        model: SHA-256 of the model's manifest.
        settings: as :meth:`~deeplab_rt.streams.settings.ReplaySettings.to_dict` gives them.
        outputs: kind -> bytes of the output; a folder's are those of its files.
        summary: what ``--json`` prints of a run.
    """

    source: str
    fingerprint: Fingerprint
    model: str
    settings: dict[str, Any]
    outputs: dict[str, int] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)

    def differences(self, other: Record) -> list[str]:
        """In words, what two records were not made of alike; empty if of the same."""
        found = [] if self.fingerprint.sha256 == other.fingerprint.sha256 else ["another input"]
        if self.model != other.model:
            found.append("another model")
        names = sorted({*self.settings, *other.settings})
        return found + [
            f"another {_IN_WORDS.get(name, name)}"
            for name in names
            if name != "model" and self.settings.get(name) != other.settings.get(name)
        ]

    def write(self, path: Path) -> None:
        """Write it whole or not at all."""
        content = {"format": FORMAT, **asdict(self)}
        write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """The record of that name; None where there is none that can be understood."""
        try:
            content = json.loads(read_text(path))
            if content.pop("format") != FORMAT:
                return None
            content["fingerprint"] = Fingerprint(**content["fingerprint"])
            return cls(**content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


def size_of(path: Path) -> int | None:
    """Bytes of a file, or of the files in a folder; None where there is neither."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    return path.stat().st_size if path.is_file() else None
