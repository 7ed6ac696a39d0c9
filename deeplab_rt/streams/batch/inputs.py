"""Which recordings a job is of, and what their outputs are called."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deeplab_rt.errors import StreamError
from deeplab_rt.files import expand_user, read_text
from deeplab_rt.streams import folder, street
from deeplab_rt.streams.base import natural_key
from deeplab_rt.streams.inputs import BAG_SUFFIXES

VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts")
_ROS1 = ".bag"


@dataclass(frozen=True)
class Job:
    """One recording with the names of its outputs.

    Attributes:
        source: the recording.
        name: of its outputs, unique in the job.
        out_dir: where the outputs go.
        report_dir: where its report goes; None where none is made.
    """

    source: Path
    name: str
    out_dir: Path
    report_dir: Path | None = None

    @property
    def record(self) -> Path:
        """Says that the outputs are complete, and of what they were made."""
        return self.out_dir / f"{self.name}.json"

    @property
    def work(self) -> Path:
        """Holds the outputs until they are complete."""
        return self.out_dir / f"{self.name}.unfinished"

    def target(self, kind: str) -> Path:
        """The path of an output once it is complete."""
        if kind == "report":
            assert self.report_dir is not None
            return self.report_dir / f"{self.name}.html"
        return self.out_dir / (self.name + {"bag": ".mcap", "masks": "", "overlay": ".mp4"}[kind])


def expand_inputs(inputs: Iterable[str], lists: Iterable[Path] = ()) -> list[Path]:
    """Every recording that inputs name, in order, each once.

    Args:
        inputs: recordings; folders of recordings (not of folders in them); glob patterns.
        lists: text files that name one such input a line; empty lines and lines that begin with
            ``#`` are left out.

    Raises:
        StreamError: a pattern matches nothing, a list cannot be read, or nothing is left.
    """
    named = [*inputs]
    for path in lists:
        try:
            lines = read_text(path).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise StreamError(f"{path}: cannot read the list of inputs: {reason}") from None
        named += [line.strip() for line in lines if line.strip() and line.lstrip()[0] != "#"]
    found: dict[Path, None] = {}  # a set that keeps its order
    for name in named:
        for path in _matches(name):
            found |= dict.fromkeys(_recordings(path))
    if not found:
        raise StreamError("no input: the lists and folders that were named hold no recording")
    return list(found)


def plan_jobs(
    recordings: Sequence[Path], out_dir: Path, report_dir: Path | None = None
) -> list[Job]:
    """A job for every recording, named after its file or folder.

    Raises:
        StreamError: two recordings would have outputs of the same name.
    """
    names: dict[str, Path] = {}
    jobs = []
    for path in recordings:
        # "drive.front" is a whole name where it is a folder's.
        name = path.resolve().name if path.is_dir() else path.stem
        if other := names.get(name.casefold()):
            raise StreamError(
                f"{path} and {other} would both be written as {out_dir / name}; rename one, or give "
                "each an --out-dir of its own"
            )
        names[name.casefold()] = path
        jobs.append(Job(path, name, out_dir, report_dir))
    return jobs


def shard_of(jobs: Sequence[Job], index: int, count: int) -> list[Job]:
    """Every ``count``-th job, beginning with the ``index``-th (1 to ``count``), by name.

    The shards of one list are disjoint and cover it, on every machine.
    """
    return sorted(jobs, key=lambda job: natural_key(job.name))[index - 1 :: count]


def _matches(name: str) -> list[Path]:
    if street.is_street(name):
        return [street.FOLDER / street.VIDEO]
    path = expand_user(name)
    if not glob.has_magic(name) or path.exists():
        return [path]
    found = sorted(glob.glob(str(path), recursive=True), key=natural_key)
    if not found:
        raise StreamError(f"{name}: the pattern matches no file")
    return [Path(match) for match in found]


def _recordings(path: Path) -> list[Path]:
    """The recording itself, or those in a folder of recordings."""
    if not path.is_dir() or (path / "metadata.yaml").is_file():
        return [path]
    entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    if any(entry.suffix.lower() in folder.SUFFIXES for entry in entries):
        return [path]  # images
    bags = [entry for entry in entries if entry.suffix in BAG_SUFFIXES and entry.is_file()]
    if bags and _is_split_bag(path, bags) and len(bags) == len(entries):
        return [path]
    recordings = [entry for entry in entries if _is_recording(entry)]
    return sorted(recordings, key=lambda entry: natural_key(entry.name)) or [path]


def _is_split_bag(path: Path, files: Sequence[Path]) -> bool:
    """Whether files are those of one bag that was never closed: ``NAME_0.mcap``, ``NAME_1.mcap``."""
    stems = {re.sub(r"_[0-9]+$", "", file.stem) for file in files}
    return stems == {path.name} or (len(files) > 1 and len(stems) == 1)


def _is_recording(path: Path) -> bool:
    if path.is_dir():
        names = [entry.name for entry in path.iterdir()]
        suffixes = {Path(name).suffix.lower() for name in names}
        return "metadata.yaml" in names or bool(suffixes & {*BAG_SUFFIXES, *folder.SUFFIXES})
    return path.suffix.lower() in (*BAG_SUFFIXES, _ROS1, *VIDEO_SUFFIXES)
