"""Several recordings as one source: order of stamps, indices, counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import pytest

from deeplab_rt.errors import StreamError
from deeplab_rt.streams.recordings import open_recordings
from deeplab_rt.streams.settings import ReplaySettings
from tests.unit.streams.media import (
    HttpCamera,
    image_message,
    number_of,
    numbered,
    numbered_messages,
    stamp_of,
    write_bag,
    write_video,
)

BAG, MASKS = ReplaySettings(), ReplaySettings(kinds=("masks",))


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """Two bags of one drive, and a video."""
    later = [image_message(numbered(i), stamp_of(10 + i)) for i in range(4)]
    first = write_bag(tmp_path / "first", {"/image": numbered_messages(5)})
    second = write_bag(tmp_path / "second", {"/image": later}, storage="sqlite3")
    return [first, second, write_video(tmp_path / "clip.mp4", 3)]


def stamps(
    paths: Sequence[Path], settings: ReplaySettings = BAG, offset: bool = False
) -> tuple[list[int], list[int]]:
    with open_recordings(paths, settings, offset) as source:
        frames = list(source)
    return [frame.index for frame in frames], [frame.stamp_ns for frame in frames]


def test_parts_of_one_drive_follow_each_other(parts: list[Path]) -> None:
    found = [*range(5), *range(10, 14)]
    assert stamps(parts[:2]) == (list(range(9)), [stamp_of(index) for index in found])


def test_stamps_that_would_run_backwards_are_refused_before_the_first_frame(
    parts: list[Path],
) -> None:
    for order in ([1, 0], [0, 2], [2, 2]):
        with pytest.raises(StreamError, match=r"begins before .* ends: .*--offset-stamps"):
            open_recordings([parts[index] for index in order], BAG)


def test_overlapping_parts_are_refused_where_they_meet(tmp_path: Path, parts: list[Path]) -> None:
    overlap = [image_message(numbered(i), stamp_of(3 + i)) for i in range(4)]
    write_bag(tmp_path / "overlap", {"/image": overlap})
    with (
        open_recordings([parts[0], tmp_path / "overlap"], BAG) as source,
        pytest.raises(StreamError, match="overlap begins before"),
    ):
        list(source)


def test_an_explicit_option_offsets_them(parts: list[Path]) -> None:
    indices, found = stamps([parts[2], parts[2], parts[0]], offset=True)
    assert indices == list(range(11)) and found == sorted(found) and len(set(found)) == 11
    assert found[:6] == [index * 40_000_000 for index in range(6)]


def test_outputs_without_stamps_take_any_order(parts: list[Path]) -> None:
    assert stamps([parts[2], parts[0]], MASKS)[0] == list(range(8))


def test_indices_and_counts_go_on(tmp_path: Path, parts: list[Path]) -> None:
    images = tmp_path / "images"
    images.mkdir()
    cv2.imwrite(str(images / "0.png"), numbered(0))
    (images / "1.png").write_bytes(b"broken")
    (images / "2.png").write_bytes(b"broken")
    with open_recordings([images, parts[2], images], MASKS) as source:
        frames = list(source)
        named = [(frame.index, frame.name) for frame in frames]
        assert named == [(0, "0"), (3, ""), (4, ""), (5, ""), (6, "0")]
        assert [number_of(frame.image) for frame in frames] == [0, 0, 1, 2, 0]
        assert source.total == 9 and source.dropped == 4 and len(source.warnings) == 4


def test_a_wrong_name_or_a_camera_shows_before_any_work(tmp_path: Path, parts: list[Path]) -> None:
    with pytest.raises(StreamError, match="no such input"):
        open_recordings([parts[0], tmp_path / "nope"], BAG)
    with HttpCamera() as camera, pytest.raises(StreamError, match="deeplab_rt webcam --device"):
        open_recordings([camera.url], BAG)
