"""Files: written whole or not at all, exclusively, never through a symlink; read with a bound."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_rt.files import (
    PartialFile,
    cache_dir,
    expand_user,
    private_dir,
    read_text,
    sha256_of,
    take_name,
    write_atomically,
)


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"good")

    def full_disk(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"half")
    assert path.read_bytes() == b"good"
    assert list(tmp_path.iterdir()) == [path]


def test_the_final_step_is_exclusive(tmp_path: Path) -> None:
    path = tmp_path / "out.mcap"
    with PartialFile(path) as first, PartialFile(path) as second:
        assert first.path != second.path
        first.stream.write(b"first")
        second.stream.write(b"second")
        first.commit()
        with pytest.raises(FileExistsError):
            second.commit()
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]
    write_atomically(path, b"third")
    assert path.read_bytes() == b"third"
    with pytest.raises(FileExistsError):
        write_atomically(path, b"fourth", overwrite=False)


def test_a_name_is_taken_exclusively_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*args: object, **kwargs: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refused)
    temporary, target = tmp_path / "temporary", tmp_path / "target"
    temporary.write_bytes(b"new")
    take_name(temporary, target, overwrite=False)
    assert target.read_bytes() == b"new"
    temporary.write_bytes(b"newer")
    with pytest.raises(FileExistsError):
        take_name(temporary, target, overwrite=False)
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_symlink_in_the_way_is_never_written_through(tmp_path: Path, overwrite: bool) -> None:
    precious, link = tmp_path / "precious", tmp_path / "out"
    precious.write_bytes(b"mine")
    link.symlink_to(precious)
    if overwrite:
        write_atomically(link, b"new", overwrite)
        assert link.read_bytes() == b"new" and not link.is_symlink()
    else:
        with pytest.raises(FileExistsError):
            write_atomically(link, b"new", overwrite)
    assert precious.read_bytes() == b"mine"


def test_unfinished_files_keep_a_name_that_says_so(tmp_path: Path) -> None:
    for expected in ("drive.partial.mp4", "drive.partial1.mp4"):
        with PartialFile(tmp_path / "drive.mp4") as partial:
            partial.stream.write(b"frames")
            assert partial.keep() == tmp_path / expected
    assert {path.name for path in tmp_path.iterdir()} == {"drive.partial.mp4", "drive.partial1.mp4"}


@given(st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=255))
def test_any_name_that_a_file_system_takes_has_a_temporary_one(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    folder = tmp_path_factory.mktemp("names")
    path = folder / name
    try:
        if len(os.fsencode(name)) > 255 or name in (".", ".."):
            return
    except UnicodeEncodeError:
        return
    write_atomically(path, b"content", overwrite=False)
    assert [entry.name for entry in folder.iterdir()] == [name]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def too_large(path: Path) -> None:
    path.write_bytes(b"x" * 101)


def loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize("make", [fifo, folder, too_large, loop])
def test_only_regular_files_of_a_bounded_size_are_read(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "model.yaml"
    make(path)
    with pytest.raises(OSError):  # noqa: PT011  # the point is that it ends, and with an OSError
        read_text(path, limit=100)


def test_text_is_read(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("Straße", encoding="utf-8")
    assert read_text(path, limit=100) == "Straße"
    path.write_bytes(b"abc")
    assert sha256_of(path).startswith("ba7816bf8f01cfea")  # FIPS 180-4, example B.1


def test_unknown_users_are_left_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert expand_user("~/drive") == Path("/home/me/drive")
    assert expand_user("~nouser12345/drive") == Path("~nouser12345/drive")


def test_cache_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPLAB_RT_CACHE", "/somewhere")
    assert cache_dir() == Path("/somewhere")
    monkeypatch.delenv("DEEPLAB_RT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_dir() == Path("/xdg/deeplab_rt")


def test_private_directories_are_ours_alone(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "engines"
    assert private_dir(path) == path
    assert path.stat().st_mode & 0o777 == 0o700
    path.chmod(0o777)
    with pytest.raises(PermissionError, match="other users can write"):
        private_dir(path)
