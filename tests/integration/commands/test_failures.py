"""What the program prints when a file or the machine fails it, and that a defect keeps its traceback."""

from __future__ import annotations

import argparse
import json
import lzma
import pickle
import signal
import sqlite3
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import apsw
import cv2
import pytest
import yaml
import zstandard
from mcap.exceptions import EndOfFile
from rosbags.rosbag2 import ReaderError

from deeplab_rt.commands import main, positive_number, replay, whole_number

DAMAGE = [
    EOFError("Ran out of input"),
    EndOfFile(),
    ReaderError("no such connection"),
    RecursionError("maximum recursion depth exceeded"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    apsw.CorruptError("database disk image is malformed"),
    cv2.error("(-215:Assertion failed)"),
    json.JSONDecodeError("Expecting value", "", 0),
    lzma.LZMAError("corrupt input data"),
    pickle.UnpicklingError("invalid load key"),
    sqlite3.DatabaseError("file is not a database"),
    struct.error("unpack requires a buffer of 8 bytes"),
    yaml.YAMLError("not\nYAML"),
    zlib.error("Error -3 while decompressing data"),
    zstandard.ZstdError("unknown frame descriptor"),
]


def failing(error: BaseException) -> Any:
    def run(args: argparse.Namespace) -> int:
        raise error

    return run


def message_of(
    error: BaseException, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> str:
    """What ``replay FILE`` prints when it raises an error."""
    monkeypatch.setattr(replay, "run", failing(error))
    assert main(["replay", str(file)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("deeplab_rt replay: ") and printed.err.count("\n") == 1
    return str(printed.err)


@pytest.mark.parametrize("error", DAMAGE, ids=lambda error: type(error).__name__)
def test_parsers_errors_are_one_line_with_the_files_name(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    file = tmp_path / "drive.mcap"
    file.touch()
    text = message_of(error, file, monkeypatch, capsys)
    assert f"{file}: damaged, or not of the kind" in text and type(error).__name__ in text


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PermissionError(13, "Permission denied", "/somewhere/out"), "/somewhere/out: Permission"),
        (OSError(18, "Invalid cross-device link", "a", None, "b"), "a -> b: Invalid"),
        (OSError(28, "No space left on device"), "drive.mcap: No space left on device"),
        (OSError("cannot load the library"), "drive.mcap: cannot load the library"),
        (OSError(2, "No such file", b"/\xff\n"), r"/\udcff\n: No such file"),
        (MemoryError("Unable to allocate 16 GiB"), "not enough memory: Unable to allocate 16 GiB"),
        (MemoryError(), "not enough memory; a smaller"),
    ],
)
def test_the_machines_refusals_are_one_line(
    error: Exception,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    file = tmp_path / "drive.mcap"
    file.touch()
    assert expected in message_of(error, file, monkeypatch, capsys)


@pytest.mark.parametrize("error", [TypeError("x"), KeyError("x"), AssertionError(), IndexError()])
def test_a_defect_keeps_its_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "run", failing(error))
    with pytest.raises(type(error)):
        main(["replay", "drive.mcap"])


def test_any_traceback_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "run", failing(struct.error("x")))
    monkeypatch.setenv("DEEPLAB_RT_TRACEBACK", "1")
    with pytest.raises(struct.error):
        main(["replay", "drive.mcap"])


@pytest.mark.parametrize("name", ["x" * 300, "d/" * 3000, "\udcff.mcap"])
def test_names_that_no_file_can_have(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", name]) == 1
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1


@pytest.mark.parametrize("name", ["~nouser12345/model", "x" * 300, "model\x00", "\udcff", "."])
def test_models_that_no_directory_can_be(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["build", "--model", name, "--target", "SM86"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["webcam", "--frames", "-3"],
        ["webcam", "--frames", "0"],
        ["webcam", "--seconds", "nan"],
        ["webcam", "--seconds", "-1"],
        ["train", "road", "-o", "out", "--steps", "0"],
        ["train", "road", "-o", "out", "--minutes", "inf"],
        ["train", "road", "-o", "out", "--seed", "-1"],
        ["quantize", "--frames", ".", "--count", "0"],
    ],
)
def test_counts_and_times_are_checked(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_code:
        main(arguments)
    assert exit_code.value.code == 2
    assert "is not" in capsys.readouterr().err


def test_numbers_of_arguments() -> None:
    parse = whole_number(0, "a seed")
    assert parse("0") == 0 and parse(str(2**31 - 1)) == 2**31 - 1
    for text in ("-1", "1.5", "x", "", str(2**31)):
        with pytest.raises(argparse.ArgumentTypeError, match="is not a seed from 0 on"):
            parse(text)
    assert positive_number("1e-3") == 0.001
    for text in ("0", "-1", "nan", "inf", "x"):
        with pytest.raises(argparse.ArgumentTypeError, match="not a number above 0"):
            positive_number(text)


def test_sigint_while_importing_ends_in_silence() -> None:
    code = (
        "import sys, importlib, time, types\n"
        "from deeplab_rt import entry_points\n"
        "def slow(name):\n"
        "    print('importing', flush=True)\n"
        "    time.sleep(30)\n"
        "entry_points.import_module = slow\n"
        "sys.exit(entry_points.program())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode in (-signal.SIGINT, 130)
    assert errors == ""
    assert time.monotonic() - started < 10
