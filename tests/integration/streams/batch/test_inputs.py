"""Which recordings a job is of, and what their outputs are called."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_rt.errors import StreamError
from deeplab_rt.streams.batch.inputs import Job, expand_inputs, plan_jobs, shard_of


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(*inputs: str, lists: tuple[str, ...] = ()) -> list[str]:
    return [str(path) for path in expand_inputs(inputs, [Path(name) for name in lists])]


def test_a_folder_of_recordings_is_each_of_them(place: Path) -> None:
    touch("in/f10.mp4", "in/f2.mp4", "in/notes.txt", "in/.hidden.mp4", "in/mon.mcap", "in/old.bag")
    touch("in/bag/metadata.yaml", "in/bag/bag_0.db3", "in/images/a.png", "in/empty/notes.txt")
    expected = ["bag", "f2.mp4", "f10.mp4", "images", "mon.mcap", "old.bag"]
    assert names("in") == [f"in/{name}" for name in expected]


@pytest.mark.parametrize(
    "files",
    [["metadata.yaml", "x.mcap"], ["one_0.mcap", "one_1.mcap"], ["in_0.db3"], ["a.png", "b.mp4"]],
)
def test_a_folder_that_is_one_recording_stays_one(place: Path, files: list[str]) -> None:
    touch(*(f"in/{name}" for name in files))
    assert names("in") == ["in"]


def test_a_folder_of_bags_without_metadata_is_each_of_them(place: Path) -> None:
    touch("in/mon.mcap", "in/tue.mcap")
    assert names("in") == ["in/mon.mcap", "in/tue.mcap"]


def test_globs_lists_and_names_each_once(place: Path) -> None:
    touch("a1.mp4", "a10.mp4", "a2.mp4", "b/x.mkv", "we[i]rd.mp4")
    Path("list.txt").write_text("# of today\n\nb/x.mkv\na2.mp4\n b/*.mkv\n")
    assert names("a*.mp4") == ["a1.mp4", "a2.mp4", "a10.mp4"]
    assert names("**/*.mkv") == ["b/x.mkv"]
    assert names("a2.mp4", "a2.mp4", lists=("list.txt",)) == ["a2.mp4", "b/x.mkv"]
    assert names("we[i]rd.mp4") == ["we[i]rd.mp4"]  # a file of that very name
    # What is not there is told when its turn comes, so that the others are done.
    assert names("nope.mp4") == ["nope.mp4"]


def test_what_cannot_be_meant_is_refused(place: Path) -> None:
    touch("empty.txt")
    for inputs, lists, line in (
        (["*.mp4"], [], r"\*.mp4: the pattern matches no file"),
        ([], ["nope.txt"], "nope.txt: cannot read the list of inputs: No such file"),
        ([], ["empty.txt"], "no input: the lists"),
    ):
        with pytest.raises(StreamError, match=line):
            names(*inputs, lists=tuple(lists))
    Path("binary.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(StreamError, match="not UTF-8"):
        names(lists=("binary.txt",))


def test_outputs_are_named_after_inputs(place: Path) -> None:
    Path("drive.front").mkdir()
    jobs = plan_jobs([Path("a/b.tar.mp4"), Path("drive.front")], Path("out"), Path("rep"))
    assert [job.name for job in jobs] == ["b.tar", "drive.front"]
    assert [str(jobs[0].target(kind)) for kind in ("bag", "masks", "overlay", "report")] == [
        "out/b.tar.mcap",
        "out/b.tar",
        "out/b.tar.mp4",
        "rep/b.tar.html",
    ]


@pytest.mark.parametrize("other", ["y/drive.mp4", "y/drive.mcap", "y/Drive.mkv"])
def test_two_inputs_of_one_name_are_refused_before_any_work(place: Path, other: str) -> None:
    with pytest.raises(StreamError, match="would both be written as out/"):
        plan_jobs([Path("x/drive.mp4"), Path(other)], Path("out"))


@given(st.integers(0, 40), st.integers(1, 12))
def test_shards_are_disjoint_and_cover_the_list(count: int, shards: int) -> None:
    jobs = [Job(Path(f"{i}.mp4"), str(i), Path("out")) for i in range(count)]
    parts = [shard_of(jobs[::-1], index, shards) for index in range(1, shards + 1)]
    assert sorted(job.name for part in parts for job in part) == sorted(job.name for job in jobs)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
