"""Which engine fits, and in words why none does."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deeplab_rt.backends.tensorrt import engine_store
from deeplab_rt.backends.tensorrt.engine_store import EngineSpec, Options, Target
from deeplab_rt.errors import EngineError, ModelError
from deeplab_rt.models import Model, write_manifest

ORIN = Target("tensorrt", "10.3.0", "NVIDIA Orin", "8.7")
RTX_4090 = Target("tensorrt", "10.13.3", "NVIDIA GeForce RTX 4090", "8.9")


@pytest.fixture(autouse=True)
def _own_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPLAB_RT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def wanted(palette_model: Model) -> EngineSpec:
    return engine_store.spec_of(palette_model, "fp32", None, 1, ORIN)


def test_what_is_saved_is_found_and_read(palette_model: Model, wanted: EngineSpec) -> None:
    saved = engine_store.save(wanted, b"engine")
    found = engine_store.find(palette_model, wanted)
    assert found == saved
    assert found.read() == b"engine"
    assert saved.path.parent == engine_store.engines_dir()
    assert saved.path.name.startswith("palette-fp32-128x96-b1-")


def test_none_built_names_the_command(palette_model: Model, wanted: EngineSpec) -> None:
    command = f"deeplab_rt build --model {palette_model.directory} --precision fp32"
    with pytest.raises(EngineError) as caught:
        engine_store.find(palette_model, wanted)
    assert str(caught.value) == (
        f"no engine of palette in fp32 at 128x96 is built: build it with `{command}`"
    )


@pytest.mark.parametrize(
    ("size", "batch", "flags"),
    [((96, 128), 1, ""), ((64, 96), 1, " --size 96x64"), ((96, 128), 3, " --batch 3")],
)
def test_command_has_what_differs_from_the_default(
    palette_model: Model, size: tuple[int, int], batch: int, flags: str
) -> None:
    spec = engine_store.spec_of(palette_model, "auto", size, batch, ORIN)
    assert engine_store.build_command(palette_model, spec) == (
        f"deeplab_rt build --model {palette_model.directory} --precision fp16{flags}"
    )


@pytest.mark.parametrize(
    ("built_for", "options", "reason"),
    [
        (RTX_4090, Options(), "was built for NVIDIA GeForce RTX 4090 (8.9) with TensorRT 10.13.3"),
        (replace(ORIN, version="10.4.0"), Options(), "with TensorRT 10.4.0; this is NVIDIA Orin"),
        (replace(ORIN, capability="8.6"), Options(), "NVIDIA Orin (8.6)"),
        (replace(ORIN, library="tensorrt_rtx"), Options(), "with TensorRT-RTX 10.3.0"),
        (
            replace(ORIN, version="10.4.0"),
            Options(version_compatible=True),
            "with TensorRT 10.4.0",  # a later one than here
        ),
        (
            replace(ORIN, version="9.3.0"),
            Options(version_compatible=True),
            "with TensorRT 9.3.0",
        ),
        (
            replace(ORIN, device="NVIDIA T4", capability="7.5", version="10.2.0"),
            Options(hardware_compatible=True),
            "NVIDIA T4 (7.5)",
        ),
    ],
)
def test_an_engine_of_another_machine_is_named(
    palette_model: Model, wanted: EngineSpec, built_for: Target, options: Options, reason: str
) -> None:
    engine_store.save(replace(wanted, target=built_for, options=options), b"engine")
    with pytest.raises(EngineError) as caught:
        engine_store.find(palette_model, wanted)
    text = str(caught.value)
    assert reason in text and "this is NVIDIA Orin (8.7) with TensorRT 10.3.0" in text
    assert "rebuild with `deeplab_rt build" in text


@pytest.mark.parametrize(
    ("built_for", "options"),
    [
        (replace(ORIN, device=""), Options()),  # ahead of time, for every GPU of the capability
        (replace(ORIN, version="10.0.1"), Options(version_compatible=True)),
        (RTX_4090, Options(version_compatible=True, hardware_compatible=True)),
    ],
)
def test_an_engine_made_for_more_machines_fits(
    palette_model: Model, wanted: EngineSpec, built_for: Target, options: Options
) -> None:
    if options.hardware_compatible:
        built_for = replace(built_for, version="10.1.0")
    engine_store.save(replace(wanted, target=built_for, options=options), b"engine")
    found = engine_store.find(palette_model, wanted, allow_host_code=True)
    assert found.read() == b"engine"


def test_an_engine_of_a_changed_model_is_stale(palette_model: Model, wanted: EngineSpec) -> None:
    engine_store.save(replace(wanted, onnx_sha256="ab" * 32), b"engine")
    with pytest.raises(
        EngineError, match=r"another version of the model file .SHA-256 abababababab"
    ):
        engine_store.find(palette_model, wanted)


def test_an_engine_for_more_frames_serves_fewer_and_not_the_reverse(
    palette_model: Model, wanted: EngineSpec
) -> None:
    three = replace(wanted, max_batch=3)
    engine_store.save(wanted, b"one")
    with pytest.raises(EngineError, match="takes 1 frames at once, asked for are 3.*--batch 3"):
        engine_store.find(palette_model, three)
    engine_store.save(three, b"three")
    assert engine_store.find(palette_model, replace(wanted, max_batch=2)).read() == b"three"
    assert engine_store.find(palette_model, wanted).read() == b"one"


def test_of_two_that_fit_the_one_built_last_is_taken(
    palette_model: Model, wanted: EngineSpec
) -> None:
    wide = Options(hardware_compatible=True)
    engine_store.save(replace(wanted, options=wide), b"first")
    time.sleep(0.01)
    engine_store.save(replace(wanted, options=wide, max_batch=1), b"second")
    assert engine_store.find(palette_model, wanted).read() == b"second"
    engine_store.save(wanted, b"plain")
    time.sleep(0.01)
    engine_store.save(replace(wanted, options=wide), b"third")
    assert engine_store.find(palette_model, wanted).read() == b"plain", "plain before all others"


@pytest.mark.parametrize(
    "change", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x")]
)
def test_a_lost_or_corrupt_engine_is_not_run(
    palette_model: Model, wanted: EngineSpec, change: Any
) -> None:
    engine = engine_store.save(wanted, b"engine")
    change(engine.path)
    with pytest.raises(EngineError, match="rebuild with `deeplab_rt build`"):
        engine_store.find(palette_model, wanted).read()


@pytest.mark.parametrize(
    "sidecar", ["", "{}", "[]", '{"spec": 3}', '{"spec": {"target": {"device": 3}}}', "\xff"]
)
def test_a_sidecar_that_cannot_be_read_is_no_engine(
    palette_model: Model, wanted: EngineSpec, sidecar: str
) -> None:
    engine = engine_store.save(wanted, b"engine")
    engine.path.with_suffix(".json").write_bytes(sidecar.encode("latin-1"))
    assert list(engine_store.stored()) == []
    with pytest.raises(EngineError, match="is built: build it"):
        engine_store.find(palette_model, wanted)
    engine_store.save(wanted, b"again")
    assert engine_store.find(palette_model, wanted).read() == b"again"


def test_a_sidecar_with_one_wrong_type_is_no_engine(wanted: EngineSpec) -> None:
    path = engine_store.save(wanted, b"engine").path.with_suffix(".json")
    content = json.loads(path.read_text())
    content["spec"]["target"]["device"] = 3
    path.write_text(json.dumps(content))
    assert list(engine_store.stored()) == []


def test_a_full_disk_leaves_no_engine(wanted: EngineSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    engine_store.save(wanted, b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EngineError, match="No space left on device; free space there"):
        engine_store.save(wanted, b"new")
    assert list(engine_store.stored()) == []
    assert [path.suffix for path in engine_store.engines_dir().iterdir()] == [".engine"]


def test_model_names_make_no_paths(wanted: EngineSpec) -> None:
    engine = engine_store.save(replace(wanted, model="../../x y"), b"engine")
    assert engine.path.parent == engine_store.engines_dir()
    assert next(engine_store.stored()).spec.model == "../../x y"


def test_precisions_of_the_model_files(palette_model: Model, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"m")
    files = {name: {"path": "m.onnx"} for name in ("fp32", "fp16", "int8", "int8-trt")}
    model = write_manifest(tmp_path, {**palette_model.manifest, "files": files})
    names = ("auto", "fp32", "fp16", "int8")
    assert [engine_store.file_precision(model, name) for name in names] == [
        "fp16",
        "fp32",
        "fp16",
        "int8-trt",
    ]
    chosen = write_manifest(tmp_path, {**model.manifest, "gpu_precision": "int8"})
    assert engine_store.file_precision(chosen, "auto") == "int8-trt"
    assert engine_store.file_precision(chosen, "auto", "tensorrt_rtx") == "fp16"
    assert engine_store.file_precision(chosen, "int8", "tensorrt_rtx") == "int8-trt"
    assert engine_store.file_precision(palette_model, "auto") == "fp16"  # derived
    assert engine_store.source_precision(palette_model, "fp16") == "fp32"
    with pytest.raises(ModelError, match="has no int8-trt file for TensorRT; it has: fp32"):
        engine_store.file_precision(palette_model, "int8")
    with pytest.raises(ModelError, match="'bf16' is not one of auto, fp32, fp16, int8"):
        engine_store.file_precision(palette_model, "bf16")


def test_prune_removes_what_a_build_has_replaced(wanted: EngineSpec) -> None:
    stale = [
        replace(wanted, onnx_sha256="0" * 64),
        replace(wanted, target=replace(ORIN, version="10.2.0")),
    ]
    kept = [
        wanted,
        replace(wanted, max_batch=2),
        replace(wanted, target=RTX_4090, onnx_sha256="0" * 64),
        replace(wanted, precision="fp16", onnx_sha256="0" * 64),
    ]
    for spec in (*stale, *kept):
        engine_store.save(spec, b"engine")
    killed = engine_store.engines_dir() / ".palette.engine.abc"
    running = engine_store.engines_dir() / ".palette.engine.def"
    for path in (killed, running):
        path.write_bytes(b"half")
    os.utime(killed, (0, 0))
    removed = engine_store.prune(wanted)
    assert {path.name for path in removed} == {spec.file_name for spec in stale}
    assert {engine.spec for engine in engine_store.stored()} == set(kept)
    assert not killed.exists() and running.exists()


def _hold(spec: EngineSpec, held: Any, release: Any) -> None:
    with engine_store.build_lock(spec, lambda: None):
        held.set()
        release.wait(30)


@pytest.mark.parametrize("end", ["released", "killed"])
def test_lock_is_of_one_process_and_ends_with_it(wanted: EngineSpec, end: str) -> None:
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(wanted, held, release))
    other.start()
    assert held.wait(30)
    waited: list[str] = []

    def waiting() -> None:
        waited.append("yes")
        if end == "killed":
            other.kill()
        else:
            release.set()

    with engine_store.build_lock(wanted, waiting):
        assert waited == ["yes"]
    other.join(30)
