"""Frames from video files."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from deeplab_rt.errors import StreamError
from deeplab_rt.streams.base import Selection
from deeplab_rt.streams.video import VideoFile
from tests.unit.streams.media import number_of, numbered, write_video


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


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_avi_cut_off_tells_how_many_frames_are_missing(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for index in range(30):
            frame = av.VideoFrame.from_ndarray(numbered(index), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with VideoFile(path) as source:
        assert len(list(source)) == 30 and not source.warnings
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with VideoFile(path) as source:
        count = len(list(source)) + source.dropped
    assert count < 30 and f"ends after {count} of the 30 frames" in source.warnings[-1]


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


def test_a_span_and_every_second_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 40)
    with VideoFile(path, Selection(start_s=0.5, stop_s=0.9, every=3)) as source:
        frames = list(source)
    assert [(frame.index, number_of(frame.image)) for frame in frames] == [
        (0, 13),
        (3, 16),
        (6, 19),
        (9, 22),
    ]
    assert [frame.stamp_ns // 1_000_000 for frame in frames] == [520, 640, 760, 880]
    assert not source.warnings


def test_frames_that_cannot_be_decoded_are_counted_and_told_with_their_time(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_video(tmp_path / "a.mp4", 40, size=(120, 160))
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    place, size = packets[20]  # a key frame, to which four others refer
    content[place + 4 : place + size] = bytes(size - 4)
    path.write_bytes(content)
    with VideoFile(path) as source:
        frames = list(source)
    given = {frame.index: number_of(frame.image) for frame in frames}
    assert all(index == number for index, number in given.items())
    assert {*range(20), *range(25, 40)} <= set(given) and 20 not in given
    assert source.dropped == 40 - len(given)
    assert "frame 20 skipped" in source.warnings[0] and "(at 0.800 s)" in source.warnings[0]
    assert capfd.readouterr().err == ""


def test_interlaced_video_is_decoded(tmp_path: Path) -> None:
    """OpenCV 5 gives memory that nobody wrote for these."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        stream.options = {"x264-params": "tff=1", "flags": "+ildct+ilme", "crf": "4"}
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(numbered(index, (64, 64)), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    with VideoFile(path) as source:
        assert [number_of(frame.image) for frame in source] == list(range(10))


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_turned_phone_s_video_is_upright_as_opencv_shows_it(tmp_path: Path, turns: int) -> None:
    path = tmp_path / "a.mp4"
    picture = np.full((48, 64, 3), 40, np.uint8)
    picture[:24, :32] = 220
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.options = {"crf": "4"}
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode())
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 40  # ISO 14496-12: the matrix of the track
    a, b, c, d = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)][turns]
    one = 1 << 16
    content[place : place + 36] = struct.pack(
        ">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30
    )
    path.write_bytes(content)
    (frame,) = VideoFile(path)
    _, expected = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).read()
    assert frame.image.shape == expected.shape
    assert np.abs(frame.image.astype(int) - expected).max() <= 2


def test_a_name_that_looks_like_a_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "b.mp4", 2).rename("concat:a|b.mp4")
    with VideoFile(Path("concat:a|b.mp4")) as source:
        assert len(list(source)) == 2


def test_a_playlist_opens_nothing_in_the_network(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text(
        "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(StreamError, match="cannot be decoded as a video"):
        VideoFile(tmp_path / "a.mp4")


def test_real_drive(highway_clip: Path) -> None:
    with VideoFile(highway_clip) as source:
        stamps = [frame.stamp_ns for frame in source]
    assert len(stamps) == source.total == 221
    assert stamps == [index * 40_000_000 for index in range(221)]
