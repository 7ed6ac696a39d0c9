"""Records of what outputs were made of."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from deeplab_rt.errors import StreamError
from deeplab_rt.streams.base import ReadOptions
from deeplab_rt.streams.batch.record import Fingerprint, Record, size_of
from deeplab_rt.streams.settings import ReplaySettings


def test_an_input_is_known_by_its_content(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.write_bytes(b"one")
    was = Fingerprint.of(file)
    assert was.is_of(file) and was.bytes == 3
    os.utime(file, (1, 1))
    assert was.is_of(file)  # touched: another time, the same content
    moved = file.rename(tmp_path / "b.mp4")
    assert was.is_of(moved)
    moved.write_bytes(b"two")
    assert not was.is_of(moved)
    moved.write_bytes(b"three")
    assert not was.is_of(moved)


def test_a_folder_is_its_files_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"1")
    (folder / "b.png").write_bytes(b"2")
    was = Fingerprint.of(folder)
    (folder / "a.png").write_bytes(b"2")
    (folder / "b.png").write_bytes(b"1")
    assert Fingerprint.of(folder).sha256 != was.sha256 and not was.is_of(folder)


def test_an_input_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StreamError, match="nope: cannot be read: No such file"):
        Fingerprint.of(tmp_path / "nope")


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    settings = ReplaySettings(size=(96, 128), read=ReadOptions(("/image",))).to_dict()
    record = Record("in/a", Fingerprint("ab", 3, 4), "cd", settings, {"bag": 9}, {"frames": 2})
    record.write(tmp_path / "a.json")
    assert Record.read(tmp_path / "a.json") == record


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"format": 1}', b'{"format": 2}', b"\xff", b'"text"']
)
def test_what_is_no_record_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    assert Record.read(tmp_path / "a.json") is None
    assert Record.read(tmp_path / "nope.json") is None


def test_differences_in_words() -> None:
    record = Record("a", Fingerprint("ab", 3, 4), "cd", ReplaySettings().to_dict())
    assert record.differences(record) == []
    other = replace(
        record,
        fingerprint=Fingerprint("xy", 3, 4),
        model="ef",
        settings=ReplaySettings(precision="fp32", confidence=True).to_dict(),
    )
    expected = ["another input", "another model", "another confidence", "another precision"]
    assert record.differences(other) == expected


def test_sizes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "b").write_bytes(b"4")
    assert (size_of(tmp_path / "a"), size_of(tmp_path), size_of(tmp_path / "c")) == (3, 4, None)
