"""Model directories: found, checked, and never half-written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from deeplab_rt.errors import ModelError
from deeplab_rt.models import (
    DEFAULT_MODEL,
    MANIFEST,
    Model,
    check_input_size,
    load_model,
    model_names,
    write_manifest,
)


@pytest.fixture
def copy(palette_model: Model, tmp_path: Path) -> Path:
    """A model directory to break."""
    return Path(shutil.copytree(palette_model.directory, tmp_path / "mine"))


def change(directory: Path, **changes: Any) -> None:
    path = directory / MANIFEST
    manifest = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**manifest, **changes}))


def test_a_written_manifest_reads_back(palette_model: Model) -> None:
    assert load_model(palette_model.directory) == palette_model
    assert palette_model.input_size == (96, 128)
    assert palette_model.file("fp32").name == "model.onnx"
    assert palette_model.cpu_precision == "fp32"


def test_models_are_found_by_name(
    copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEEPLAB_RT_MODELS", str(tmp_path))
    assert load_model("mine").directory == copy
    assert "mine" in model_names()


@pytest.mark.parametrize("name", model_names())
def test_every_shipped_model_is_whole(name: str) -> None:
    model = load_model(name)
    for precision in model.files:
        assert model.file(precision).stat().st_size > 0


def test_the_default_model_ships() -> None:
    assert model_names()[0] == DEFAULT_MODEL


def test_unknown_model_lists_the_known_ones(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPLAB_RT_MODELS", str(copy.parent))
    with pytest.raises(ModelError, match="no model 'nope'; known: .*mine.*deeplab_rt export"):
        load_model("nope")


def test_directory_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="model.yaml: cannot be read: No such file"):
        load_model(tmp_path)


def test_changed_file_is_named(copy: Path) -> None:
    (copy / "model.onnx").write_bytes(b"not what it was")
    with pytest.raises(ModelError, match="model.onnx: SHA-256 is .* corrupt or was changed"):
        load_model(copy).file("fp32")


def test_missing_file_is_named(copy: Path) -> None:
    (copy / "model.onnx").unlink()
    with pytest.raises(ModelError, match="model.onnx: cannot read the model file"):
        load_model(copy).file("fp32")


def test_absent_precision_lists_what_is_there(palette_model: Model) -> None:
    with pytest.raises(ModelError, match="has no int8 file; it has: fp32"):
        palette_model.file("int8")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format: 1"),
        ({"labels": [{"id": 3}]}, "malformed label"),
        ({"labels": None}, "malformed"),
        ({"input": {"height": 100, "width": 128}}, "multiple of 32"),
        ({"input": {"height": 8192, "width": 128}}, "up to 4096"),
        ({"input": {}}, "malformed"),
        ({"input": {"height": float("inf"), "width": 128}}, "inf is not a whole number"),
        ({"input": {"height": float("nan"), "width": 128}}, "nan is not a whole number"),
        ({"input": {"height": True, "width": 128}}, "True is not a whole number"),
        ({"input": {"height": 10**40, "width": 128}}, "up to 4096"),
        ({"name": ["a"]}, "name: expected"),
        ({"name": "a\nb"}, "name: expected"),
        ({"name": "a" * 101}, "name: expected"),
        ({"labels": [{"id": 1, "name": "a\0", "color": [0, 0, 0], "groups": []}]}, "printable"),
        ({"labels": [{"id": 1, "name": "a" * 10_000}]}, "malformed label"),
        ({"files": {}}, "files must be of"),
        ({"files": {"fp8": {"path": "a", "sha256": ""}}}, "files must be of"),
        ({"files": {"fp32": {"path": "../a", "sha256": ""}}}, "own directory"),
        ({"files": {"fp32": {"path": "a"}}}, "malformed"),
        ({"files": {"fp32": {"path": "..", "sha256": ""}}}, "own directory"),
        ({"files": {"fp32": {"path": "a\0b", "sha256": ""}}}, "own directory"),
    ],
)
def test_malformed_manifests_are_refused(copy: Path, changes: dict[str, Any], message: str) -> None:
    change(copy, **changes)
    with pytest.raises(ModelError, match=message):
        load_model(copy)


@pytest.mark.parametrize("text", ["", "just text", "a: b: c", "\x00"])
def test_manifest_that_is_no_mapping(copy: Path, text: str) -> None:
    (copy / MANIFEST).write_text(text)
    with pytest.raises(ModelError, match=MANIFEST):
        load_model(copy)


@pytest.mark.parametrize("name", [MANIFEST, "model.onnx"])
def test_fifos_are_not_waited_for(copy: Path, name: str) -> None:
    (copy / name).unlink()
    os.mkfifo(copy / name)
    with pytest.raises(ModelError, match=f"{name}: .*not a regular file"):
        load_model(copy).file("fp32")


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "~nouser12345/model", "a\0b", "\udcff"])
def test_names_that_no_directory_can_have(name: str) -> None:
    with pytest.raises(ModelError, match="no model"):
        load_model(name)


def test_nothing_is_written_when_a_named_file_is_missing(copy: Path) -> None:
    before = (copy / MANIFEST).read_bytes()
    manifest = yaml.safe_load(before)
    manifest["files"]["fp16"] = {"path": "absent.onnx"}
    with pytest.raises(ModelError, match="absent.onnx"):
        write_manifest(copy, manifest)
    assert (copy / MANIFEST).read_bytes() == before


def test_input_size_is_a_multiple_of_32() -> None:
    assert check_input_size((480, 640)) == (480, 640)
    for size in [(0, 32), (-32, 32), (48, 64), (4128, 32)]:
        with pytest.raises(ModelError, match="multiple of 32"):
            check_input_size(size)
