"""One recording of a job: skipped if done, resumed if interrupted, its outputs published at once."""

from __future__ import annotations

import fcntl
import os
import shutil
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deeplab_rt.errors import DeeplabError, StreamError, one_line
from deeplab_rt.files import leftovers
from deeplab_rt.models import load_model
from deeplab_rt.segmenter import Segmenter
from deeplab_rt.streams.batch.inputs import Job
from deeplab_rt.streams.batch.record import Fingerprint, Record, model_sha256, size_of
from deeplab_rt.streams.batch.resume import BagMasks, MadeMasks, PngMasks, ResumedSegmenter
from deeplab_rt.streams.outputs import check_new, check_new_file, check_outputs, writing
from deeplab_rt.streams.png import PngSink
from deeplab_rt.streams.recordings import open_selected
from deeplab_rt.streams.replay import replay, summary
from deeplab_rt.streams.settings import ReplaySettings
from deeplab_rt.streams.sinks import open_sinks, warnings_of
from deeplab_rt.streams.stats import RunStats

# In the folder of an unfinished job: what it is being made of, and what it was made of once it is
# complete and its outputs are about to take their names.
_BEGUN, _COMPLETE, _LOCK = "begun.json", "complete.json", "lock"
_RECOVERED = "recovered.mcap"  # the bag of an earlier run, while its successor is written
_FILES = {"bag": "masks.mcap", "masks": "masks", "overlay": "overlay.mp4", "report": "report.html"}

Segmenters = Callable[[ReplaySettings], Segmenter]
OnFrame = Callable[[RunStats], None]


@dataclass(frozen=True)
class Mode:
    """What to do about outputs that are there.

    Attributes:
        resume: continue what was interrupted, rather than begin it anew.
        overwrite: replace outputs made of something else.
    """

    resume: bool = False
    overwrite: bool = False


@dataclass
class JobResult:
    """How a job ended.

    Attributes:
        name: of the job.
        source: its recording.
        status: ``done``, ``skipped`` (was done before), ``failed`` or ``interrupted``.
        error: why it failed, in one line.
        summary: of the run; of an earlier one where it was skipped.
        resumed: frames whose masks came from an interrupted run.
    """

    name: str
    source: str
    status: str
    error: str = ""
    summary: dict[str, Any] = field(default_factory=dict)
    resumed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        head = {"input": self.source, "status": self.status}
        if self.error:
            return {**head, "error": self.error}
        return {**self.summary, **head, "resumed": self.resumed}


def run_job(
    job: Job,
    settings: ReplaySettings,
    mode: Mode,
    segmenters: Segmenters,
    on_source: Callable[[Any], OnFrame] | None = None,
) -> JobResult:
    """Make the outputs of one recording, unless they are there.

    May be called again at any time, by any process, after any interruption: what is done is
    skipped, and two processes never work on the same recording.

    Args:
        job: the recording and the names of its outputs.
        settings: what is made.
        mode: what to do about outputs that are there.
        segmenters: gives a segmenter for the settings; called only when one is needed.
        on_source: gives what is called after every frame, from the source of the frames.

    Returns:
        How it ended. No exception is raised but for what ends the program.
    """
    try:
        with _locked(job.work):
            return _run(job, settings, mode, segmenters, on_source)
    except DeeplabError as error:
        return _failed(job, one_line(error))
    except MemoryError:
        return _failed(job, f"{job.source}: out of memory")
    except OSError as error:
        return _failed(job, f"{error.filename or job.source}: {error.strerror or error}")
    except Exception as error:  # a defect of ours: it keeps its traceback, and the other jobs
        traceback.print_exc()
        return _failed(job, f"{job.source}: {type(error).__name__}: {error}")


def _failed(job: Job, error: str) -> JobResult:
    return JobResult(job.name, str(job.source), "failed", error)


def _run(
    job: Job,
    settings: ReplaySettings,
    mode: Mode,
    segmenters: Segmenters,
    on_source: Callable[[Any], OnFrame] | None,
) -> JobResult:
    if (complete := Record.read(job.work / _COMPLETE)) is not None:
        _publish(job, complete)  # killed between the last frame and now
    model = load_model(settings.model)
    if (done := _earlier(job, settings, model_sha256(model), mode)) is not None:
        return done
    targets = {kind: job.target(kind) for kind in settings.kinds}
    check_outputs([job.source], targets)
    for kind, target in targets.items():
        if kind == "masks":
            check_new(target, overwrite=True)
        else:
            check_new_file(target, overwrite=True)
    begun = Record(
        str(job.source), Fingerprint.of(job.source), model_sha256(model), settings.to_dict()
    )
    with open_selected(job.source, settings) as source:
        segmenter = segmenters(settings)
        discarded = _prepare(job, begun, mode.resume)
        if mode.resume and (made := _made_masks(job.work, segmenter, settings)) is not None:
            segmenter = ResumedSegmenter(segmenter, made)
        begun.write(job.work / _BEGUN)
        paths = {kind: job.work / _FILES[kind] for kind in settings.kinds}
        sinks = open_sinks(paths, segmenter, settings, source, overwrite=True)
        on_frame = on_source(source) if on_source is not None else None
        stats, interrupted = replay(source, segmenter, sinks, on_frame=on_frame)
        result = summary(stats, segmenter, targets)
    result["output"] = {kind: str(path) for kind, path in targets.items()}
    result["warnings"] = [*discarded, *source.warnings, *warnings_of(sinks)]
    resumed = segmenter.resumed if isinstance(segmenter, ResumedSegmenter) else 0
    if not interrupted:
        sizes = {kind: size_of(path) or 0 for kind, path in paths.items()}
        record = replace(begun, outputs=sizes, summary=result)
        _remove_replaced(job, targets)
        record.write(job.work / _COMPLETE)
        _publish(job, record)
    status = "interrupted" if interrupted else "done"
    return JobResult(job.name, str(job.source), status, summary=result, resumed=resumed)


def _earlier(job: Job, settings: ReplaySettings, model: str, mode: Mode) -> JobResult | None:
    """The result of an earlier run that made the same; None where there is none.

    Raises:
        StreamError: there are outputs made of something else, which may not be replaced.
    """
    targets = {kind: job.target(kind) for kind in settings.kinds}
    record = Record.read(job.record)
    if record is not None:
        same = record.model == model and record.settings == settings.to_dict()
        whole = all(size_of(targets[kind]) == record.outputs.get(kind) for kind in targets)
        if same and whole and record.fingerprint.is_of(job.source):
            return JobResult(job.name, str(job.source), "skipped", summary=record.summary)
    there = [path for path in targets.values() if os.path.lexists(path)]
    if not there or mode.overwrite:
        return None
    if record is None:
        raise StreamError(f"{there[0]}: exists already, made by something else; --overwrite")
    now = Record(str(job.source), Fingerprint.of(job.source), model, settings.to_dict())
    what = ", ".join(now.differences(record)) or "outputs that were changed since"
    raise StreamError(
        f"{there[0]}: is there already, with {what}; give another --out-dir, or --overwrite"
    )


@contextmanager
def _locked(work: Path) -> Iterator[None]:
    """Keep other processes from a job while the body runs; its folder is there meanwhile."""
    with writing(work):
        work.mkdir(exist_ok=True)
        lock = work / _LOCK
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            same = lock.exists() and lock.stat().st_ino == os.fstat(handle).st_ino
        except BlockingIOError:
            same = False
        except OSError:  # a file system without locks: whoever shares it has to share out the jobs
            same = True
        if not same:
            os.close(handle)
            raise StreamError(f"{work}: another process is working on this recording")
    try:
        yield
    finally:
        with writing(work):
            if not _outputs_begun(work):
                for name in (_BEGUN, _LOCK):
                    _remove(work / name)
                with suppress(OSError):  # somebody else's files are in it
                    work.rmdir()
        os.close(handle)


def _outputs_begun(work: Path) -> bool:
    return any((work / name).exists() for name in (*_FILES.values(), _COMPLETE, _RECOVERED))


def _prepare(job: Job, begun: Record, resume: bool) -> list[str]:
    """Leave of an earlier run what can be resumed, in files that are not written to.

    Returns:
        What the user should be told.
    """
    earlier = Record.read(job.work / _BEGUN)
    differences = begun.differences(earlier) if earlier is not None else []
    if resume and earlier is not None and not differences:
        _keep_longest_bag(job.work)
        _remove_leftovers(job.work)
        return []
    discarded = []
    if _outputs_begun(job.work):
        why = (
            f"it had {', '.join(differences)}"
            if differences
            else "--resume would have continued it"
        )
        discarded = [f"{job.work}: an interrupted run was begun anew: {why}"]
    for name in (*_FILES.values(), _RECOVERED):
        _remove(job.work / name)
    _remove_leftovers(job.work)
    return discarded


def _keep_longest_bag(work: Path) -> None:
    """Of the bags of the last two runs, keep the one with more frames, out of the next one's way.

    A resumed run that is killed early has copied less than it was given.
    """
    written, recovered = work / _FILES["bag"], work / _RECOVERED
    if not written.is_file():
        return
    # Both hold the same frames from the front, in chunks of the same bytes.
    if not recovered.is_file() or written.stat().st_size >= recovered.stat().st_size:
        written.replace(recovered)


def _made_masks(work: Path, segmenter: Segmenter, settings: ReplaySettings) -> MadeMasks | None:
    bag, folder = work / _RECOVERED, work / _FILES["masks"]
    if bag.is_file():
        return BagMasks(bag, segmenter.labels, settings.confidence)
    if folder.is_dir():
        return PngMasks(folder, segmenter.labels, settings.confidence)
    return None


def _publish(job: Job, record: Record) -> None:
    """Give complete outputs their names, then say so; may be repeated after any interruption."""
    for kind in record.outputs:
        made, target = job.work / _FILES[kind], job.target(kind)
        with writing(target):
            if not made.exists():
                continue  # published before the interruption
            if made.is_dir():
                target.mkdir(exist_ok=True)
                for file in sorted(made.iterdir()):
                    file.replace(target / file.name)
                made.rmdir()
            else:
                made.replace(target)
    with writing(job.record):
        (job.work / _COMPLETE).replace(job.record)
    for name in (_BEGUN, _RECOVERED):
        _remove(job.work / name)
    _remove_leftovers(job.work)


def _remove_leftovers(work: Path) -> None:
    """Remove what a killed run had under temporary names; a resumed one writes it anew."""
    for name in (*_FILES.values(), _BEGUN, _COMPLETE):
        for file in leftovers(work / name):
            _remove(file)


def _remove_replaced(job: Job, targets: Mapping[str, Path]) -> None:
    """Take away the outputs that complete ones are about to replace; other files are left alone."""
    _remove(job.record)
    for kind, target in targets.items():
        with writing(target):
            if kind == "masks" and target.is_dir():
                for file in PngSink.files(target):
                    file.unlink()


def _remove(path: Path) -> None:
    with writing(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
