"""YAML that a user hands in: what is malformed, too deep or too large is refused, and quickly."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_rt.errors import ModelError
from deeplab_rt.yaml_files import load_yaml, parse_yaml

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 10)
)


def test_plain_yaml_is_as_pyyaml_reads_it() -> None:
    text = "a: [1, 2.5, null, true]\nb: &b {c: text}\nd: *b\ne: 2024-01-02\n"
    assert parse_yaml(text) == yaml.safe_load(text)
    assert parse_yaml("") is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 10_000, "levels deep"),
        ("{a: " * 10_000, "levels deep"),
        ("- " * 10_000, "levels deep"),
        (BOMB, "aliases that stand for more than"),
        (MERGES, "aliases that stand for more than"),
        ("&a [*a]", "alias stands for what it is in"),
        ("&a {b: *a}", "alias stands for what it is in"),
        ("- a\n" * 200_000, "more than 50000"),
        (f"a: {'9' * 100_000}", "a number of 100000 digits"),
        (f"a: {'1:' * 100_000}1", "a number of 200001 digits"),
        ("a: 2024-99-99", "month must be"),
        ("\x00", "unacceptable character"),
        ("a: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("? [a]\n: b", "unhashable key"),
        ("a: b: c", "mapping values are not allowed"),
        ("--- a\n--- b", "expected a single document"),
        ("a: !!binary é", "ascii"),
        ("a: !!int x", "invalid literal"),
        ("a: !!float x", "could not convert"),
        ("a: !!bool x", "KeyError"),
        ("a: !!timestamp x", "AttributeError"),
    ],
)
def test_hostile_yaml_is_refused_quickly(text: str, reason: str) -> None:
    started = time.monotonic()
    with pytest.raises(yaml.YAMLError, match=reason):
        parse_yaml(text)
    assert time.monotonic() - started < 5


PIECES = st.sampled_from(
    ["&a ", "*a", "[", "]", "{", "}", ": ", "- ", "\n", "  ", "? ", "<<: ", "!!int ", "!!float ",
     "!!set ", "!!omap ", "!!binary ", "!!timestamp ", "!!bool ", "x", "1", "1e9", ".inf", "0x", "'",
     '"', "\\", "\\0", "|", ">", "%", "---", "...", "2024-13-41", "é", "\x00", "\ud800", "\t", "#"]
)  # fmt: skip


@given(st.one_of(st.lists(PIECES, max_size=40).map("".join), st.text(max_size=200)))
@settings(max_examples=500, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(yaml.YAMLError):
        parse_yaml(text)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def huge(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(1 << 40)


def undecodable(path: Path) -> None:
    path.write_bytes(b"a: \xff")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize("make", [fifo, huge, undecodable, link_to_itself, Path.mkdir, Path.unlink])
def test_what_is_no_yaml_file_is_named(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "model.yaml"
    if make is Path.unlink:
        path.touch()
    make(path)
    with pytest.raises(ModelError, match=r"model\.yaml: "):
        load_yaml(path, ModelError)
