"""One recording of a job: skipped when done, resumed when interrupted, never over something else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deeplab_rt.models import Model
from deeplab_rt.streams.bag_reader import BagImages
from deeplab_rt.streams.base import ReadOptions, Selection
from deeplab_rt.streams.batch.inputs import Job
from deeplab_rt.streams.batch.job import JobResult, Mode, run_job
from deeplab_rt.streams.batch.run import SegmenterCache
from deeplab_rt.streams.settings import ReplaySettings
from deeplab_rt.streams.stats import RunStats
from tests.integration.streams.batch.drives import kill_when, outputs, run
from tests.unit.streams.media import numbered_messages, write_bag, write_video

Runner = Callable[..., JobResult]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "drive.mp4", 30)
    Path("out").mkdir()
    return Job(Path("drive.mp4"), "drive", Path("out"))


@pytest.fixture
def settings(palette_model: Model) -> ReplaySettings:
    kinds = ("bag", "masks", "overlay")
    return ReplaySettings(str(palette_model.directory), "cpu", kinds=kinds)


@pytest.fixture
def segmenters() -> Iterator[SegmenterCache]:
    cache = SegmenterCache()
    yield cache
    cache.close()


def interrupt_at(frames: int) -> Callable[[Any], Callable[[RunStats], None]]:
    """Ctrl-C, after so many frames."""

    def on_frame(stats: RunStats) -> None:
        if stats.frames == frames:
            raise KeyboardInterrupt

    return lambda source: on_frame


def left(out: Path = Path("out")) -> set[str]:
    return set(os.listdir(out))


def test_made_once_then_skipped(
    job: Job, settings: ReplaySettings, segmenters: SegmenterCache
) -> None:
    first = run_job(job, settings, Mode(), segmenters)
    assert (first.status, first.summary["frames"], first.resumed) == ("done", 30, 0)
    assert left() == {"drive.mcap", "drive", "drive.mp4", "drive.json"}
    before = outputs(Path("out"))

    def unneeded(settings: ReplaySettings) -> Any:
        raise AssertionError("nothing is to be segmented")

    second = run_job(job, settings, Mode(), unneeded)
    assert (second.status, second.summary["frames"]) == ("skipped", 30)
    assert outputs(Path("out")) == before and left() >= {"drive.json"}
    with BagImages(Path("out/drive.mcap"), "/deeplab/label_mask") as bag:
        assert len(list(bag)) == 30


@pytest.mark.parametrize("kinds", [("bag",), ("masks",), ("bag", "masks", "overlay"), ("overlay",)])
def test_interrupted_and_resumed_is_as_undisturbed(
    job: Job, settings: ReplaySettings, segmenters: SegmenterCache, kinds: tuple[str, ...]
) -> None:
    settings = ReplaySettings(settings.model, "cpu", kinds=kinds)
    assert run_job(job, settings, Mode(), segmenters).status == "done"
    undisturbed = outputs(Path("out"))
    shutil.rmtree("out")
    Path("out").mkdir()
    first = run_job(job, settings, Mode(), segmenters, interrupt_at(12))
    assert first.status == "interrupted" and left() == {"drive.unfinished"}
    second = run_job(job, settings, Mode(resume=True), segmenters)
    assert second.status == "done" and outputs(Path("out")) == undisturbed
    # Masks are found in a bag or in PNG files; from a video nothing can be resumed.
    assert second.resumed >= 12 if kinds != ("overlay",) else second.resumed == 0


def test_cameras_and_the_input_are_resumed_too(
    job: Job, settings: ReplaySettings, segmenters: SegmenterCache
) -> None:
    topics = {"/front/image": numbered_messages(12), "/rear/image": numbered_messages(12)[::-1]}
    write_bag(Path("cameras"), topics)
    settings = ReplaySettings(
        settings.model,
        "cpu",
        kinds=("bag",),
        read=ReadOptions(all_topics=True),
        confidence=True,
        with_input=True,
    )
    cameras = replace(job, source=Path("cameras"), name="cameras")
    assert run_job(cameras, settings, Mode(), segmenters).status == "done"
    undisturbed = outputs(Path("out"))
    shutil.rmtree("out")
    Path("out").mkdir()
    run_job(cameras, settings, Mode(), segmenters, interrupt_at(7))
    result = run_job(cameras, settings, Mode(resume=True), segmenters)
    assert result.status == "done" and result.resumed >= 7
    assert outputs(Path("out")) == undisturbed


def test_a_defect_is_counted_and_keeps_its_traceback(
    job: Job, settings: ReplaySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    def defect(settings: ReplaySettings) -> Any:
        raise ZeroDivisionError("of ours")

    result = run_job(job, settings, Mode(), defect)
    assert (result.status, result.error) == ("failed", "drive.mp4: ZeroDivisionError: of ours")
    assert "Traceback" in capsys.readouterr().err and left() == set()


def test_without_resume_it_is_begun_anew_and_told(
    job: Job, settings: ReplaySettings, segmenters: SegmenterCache
) -> None:
    run_job(job, settings, Mode(), segmenters, interrupt_at(12))
    result = run_job(job, settings, Mode(), segmenters)
    assert (result.status, result.resumed) == ("done", 0)
    assert "--resume would have continued it" in result.summary["warnings"][0]


def test_what_was_begun_otherwise_is_not_resumed(
    job: Job, settings: ReplaySettings, segmenters: SegmenterCache
) -> None:
    other = ReplaySettings(settings.model, "cpu", "fp32", kinds=settings.kinds)
    run_job(job, other, Mode(), segmenters, interrupt_at(12))
    result = run_job(job, settings, Mode(resume=True), segmenters)
    assert (result.status, result.resumed) == ("done", 0)
    assert "it had another precision" in result.summary["warnings"][0]


def test_a_killed_process_is_resumed_from_its_last_frames(
    palette_model: Model, tmp_path: Path
) -> None:
    """A bag without an index, as kill -9 leaves it."""
    write_video(tmp_path / "long.mp4", 600, size=(240, 320))
    arguments = ["long.mp4", "--out-dir", "out", "--resume", "--json", "--overlay"]
    bag = tmp_path / "out" / "long.unfinished" / "masks.mcap"
    assert kill_when(
        arguments,
        palette_model.directory,
        tmp_path,
        lambda: bag.is_file() and bag.stat().st_size > 20_000,
    )
    done = json.loads(run(arguments, palette_model.directory, tmp_path).stdout)
    assert 0 < done["files"]["long"]["resumed"] < 600 == done["frames"]
    assert done["files"]["long"]["warnings"] == []
    # The video that was being written had a temporary name.
    assert left(tmp_path / "out") == {"long.mcap", "long.mp4", "long.json"}


def test_a_changed_input_or_setting_is_told_and_replaces_nothing(
    job: Job, settings: ReplaySettings, segmenters: SegmenterCache
) -> None:
    run_job(job, settings, Mode(), segmenters)
    before = outputs(Path("out"))
    every = ReplaySettings(
        settings.model, "cpu", kinds=settings.kinds, read=ReadOptions(selection=Selection(every=2))
    )
    result = run_job(job, every, Mode(), segmenters)
    assert result.status == "failed" and "with another choice of topics and frames;" in result.error
    write_video(Path("drive.mp4"), 20)
    result = run_job(job, settings, Mode(), segmenters)
    assert result.status == "failed" and "with another input;" in result.error
    assert outputs(Path("out")) == before and "drive.unfinished" not in left()

    result = run_job(job, settings, Mode(overwrite=True), segmenters)
    assert (result.status, result.summary["frames"]) == ("done", 20)
    # The masks of frames that are no more are gone too.
    assert len(outputs(Path("out"))) == 1 + 1 + 3 * 20


def test_outputs_of_something_else_are_refused(
    job: Job, settings: ReplaySettings, segmenters: SegmenterCache
) -> None:
    Path("out/drive.mcap").write_text("mine")
    result = run_job(job, settings, Mode(), segmenters)
    assert result.status == "failed" and "out/drive.mcap: exists already" in result.error
    assert Path("out/drive.mcap").read_text() == "mine" and left() == {"drive.mcap"}


def test_the_input_is_never_the_output(
    job: Job, settings: ReplaySettings, segmenters: SegmenterCache
) -> None:
    here = Job(Path("drive.mp4"), "drive", Path("."))
    before = Path("drive.mp4").read_bytes()
    result = run_job(here, settings, Mode(overwrite=True), segmenters)
    assert result.status == "failed" and "drive.mp4" in result.error
    assert Path("drive.mp4").read_bytes() == before


def test_a_lost_output_is_made_again(
    job: Job, settings: ReplaySettings, segmenters: SegmenterCache
) -> None:
    run_job(job, settings, Mode(), segmenters)
    before = outputs(Path("out"))
    Path("out/drive.mp4").unlink()
    result = run_job(job, settings, Mode(), segmenters)
    assert result.status == "failed" and "outputs that were changed since" in result.error
    assert run_job(job, settings, Mode(overwrite=True), segmenters).status == "done"
    assert outputs(Path("out")) == before


def test_killed_while_the_outputs_take_their_names(
    job: Job, settings: ReplaySettings, segmenters: SegmenterCache
) -> None:
    """The folder of the job as it is after each step of the last ones."""
    run_job(job, settings, Mode(), segmenters)
    before = outputs(Path("out"))
    work = Path("out/drive.unfinished")
    work.mkdir()
    Path("out/drive.json").rename(work / "complete.json")
    Path("out/drive.mcap").rename(work / "masks.mcap")
    (work / "masks").mkdir()
    for file in list(Path("out/drive").iterdir())[:40]:
        file.rename(work / "masks" / file.name)
    result = run_job(job, settings, Mode(), segmenters)
    assert result.status == "skipped" and outputs(Path("out")) == before and not work.exists()


def test_two_processes_never_work_on_one_recording(
    job: Job, settings: ReplaySettings, segmenters: SegmenterCache
) -> None:
    inner: list[JobResult] = []

    def on_source(source: Any) -> Callable[[RunStats], None]:
        inner.append(run_job(job, settings, Mode(resume=True), segmenters))
        return lambda stats: None

    assert run_job(job, settings, Mode(), segmenters, on_source).status == "done"
    assert inner[0].status == "failed" and "another process is working" in inner[0].error


def test_somebody_elses_files_are_left_alone(
    job: Job, settings: ReplaySettings, segmenters: SegmenterCache
) -> None:
    Path("out/drive.unfinished").mkdir()
    Path("out/drive.unfinished/notes.txt").write_text("mine")
    Path("out/drive").mkdir()
    Path("out/drive/notes.txt").write_text("mine")
    assert run_job(job, settings, Mode(overwrite=True), segmenters).status == "done"
    assert Path("out/drive.unfinished/notes.txt").read_text() == "mine"
    assert Path("out/drive/notes.txt").read_text() == "mine"
