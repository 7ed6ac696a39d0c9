"""Frames from video files."""

from __future__ import annotations

from pathlib import Path

import pytest

from deeplab_rt.errors import StreamError
from deeplab_rt.streams.video import VideoFile
from tests.unit.streams.media import number_of, write_video


@pytest.mark.parametrize("name", ["drive.mp4", "drive.mkv"])
def test_every_frame_with_the_containers_timestamp(tmp_path: Path, name: str) -> None:
    stamps_ms = [0, 33, 67, 200, 233, 500, 501]
    with VideoFile(write_video(tmp_path / name, len(stamps_ms), stamps_ms)) as source:
        frames = list(source)
    assert [number_of(frame.image) for frame in frames] == list(range(7))
    assert [frame.index for frame in frames] == list(range(7))
    assert [frame.stamp_ns // 1_000_000 for frame in frames] == stamps_ms
    assert not source.warnings


def test_count_and_rate_are_known_beforehand(tmp_path: Path) -> None:
    with VideoFile(write_video(tmp_path / "a.mp4", 10)) as source:
        assert source.total == 10 and source.fps == pytest.approx(25)


def test_mkv_cut_off_gives_what_is_there_and_says_so(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", 100)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with VideoFile(path) as source:
        frames = list(source)
    assert 30 < len(frames) < 90
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert "cut off" in source.warnings[0] and f"after {len(frames)} frames" in source.warnings[0]


@pytest.mark.parametrize("content", ["cut", "garbage", "empty"])
def test_what_cannot_be_decoded_is_one_clear_line(
    tmp_path: Path, content: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.mp4"
    whole = write_video(path, 10).read_bytes()
    path.write_bytes(
        {"cut": whole[: len(whole) // 2], "garbage": b"x" * 5000, "empty": b""}[content]
    )
    expected = "empty" if content == "empty" else "cannot be decoded as a video.*libx264"
    with pytest.raises(StreamError, match=expected):
        VideoFile(path)
    assert capfd.readouterr().err == ""


def test_real_drive(highway_clip: Path) -> None:
    with VideoFile(highway_clip) as source:
        stamps = [frame.stamp_ns for frame in source]
    assert len(stamps) == source.total == 221
    assert stamps == [index * 40_000_000 for index in range(221)]
