"""What a copy that was cut off lacks, by what its container says of its length."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_rt.streams.containers import missing_bytes

NAMES = ["drive.avi", "drive.mkv", "drive.mp4", "drive.mov", "drive.db3"]


@pytest.fixture(scope="module", params=NAMES)
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / str(request.param)
    if path.suffix == ".db3":
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE messages (data BLOB)")
            database.execute("INSERT INTO messages VALUES (zeroblob(50000))")
        database.close()
        return path
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 48
        for shade in range(20):
            image = np.full((48, 64, 3), 10 * shade, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    return path


def test_a_whole_file_lacks_nothing(sound: Path) -> None:
    assert missing_bytes(sound) == 0


@pytest.mark.parametrize("lost", [1, 100, 1000])
def test_what_was_cut_off_is_counted(sound: Path, tmp_path: Path, lost: int) -> None:
    content = sound.read_bytes()
    path = tmp_path / sound.name
    path.write_bytes(content[:-lost])
    missing = missing_bytes(path)
    # Of an MP4 whose last box begins after the cut nothing tells how long that one was.
    assert missing == lost or (0 < missing <= lost and sound.suffix in (".mp4", ".mov"))


def test_live_recordings_promise_nothing(tmp_path: Path) -> None:
    path = tmp_path / "live.mkv"
    path.write_bytes(b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01" + b"\xff" * 7 + b"frames")
    assert missing_bytes(path) == 0
    path.write_bytes(b"RIFF\xff\xff\xff\xffAVI ")
    assert missing_bytes(path) == 0


STARTS = st.sampled_from(
    [b"RIFF", b"\x1a\x45\xdf\xa3", b"\0\0\0\x10ftyp", b"SQLite format 3\0", b""]
)


@given(STARTS, st.binary(max_size=200))
def test_any_bytes_end(tmp_path_factory: pytest.TempPathFactory, start: bytes, rest: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "file"
    path.write_bytes(start + rest)
    assert missing_bytes(path) >= 0
