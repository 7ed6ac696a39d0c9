"""deeplab_rt build: the program, by TensorRT-RTX without a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deeplab_rt.backends.tensorrt import engine_store
from deeplab_rt.commands import main
from deeplab_rt.models import Model

needs_rtx = pytest.mark.usefixtures("_rtx")


@pytest.fixture
def _rtx() -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")


@pytest.fixture(autouse=True)
def _own_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPLAB_RT_CACHE", str(tmp_path / "cache"))


@needs_rtx
def test_builds_ahead_of_time_and_says_where(
    palette_model: Model, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["build", "--model", str(palette_model.directory), "--target", "sm89"]
    command += ["--size", "64x96", "--batch", "2"]
    assert main([*command, "--json"]) == 0
    out, err = capfd.readouterr()
    result = json.loads(out)
    (engine,) = engine_store.stored()
    assert Path(result["engine"]) == engine.path and engine.path.is_file()
    assert (result["input_size"], result["max_batch"]) == ([96, 64], 2)
    assert (result["precision"], result["built"]) == ("fp16", True)
    assert result["target"].startswith("any GPU (8.9) with TensorRT-RTX")
    assert result["bytes"] == engine.path.stat().st_size
    assert (
        "%" not in err
    )  # it took less than the ten seconds after which a line tells how far it is
    assert main(command) == 0
    assert "was there already" in capfd.readouterr().out


@needs_rtx
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "SM42"], "cannot build for 'SM42'"),
        (["--target", "SM86", "--precision", "int8"], "has no int8-trt file"),
        (["--target", "SM86", "--workspace", "0"], "a workspace of 0 MB: expected at least 1"),
        (["--target", "SM86", "--size", "100x100"], "multiple of 32"),
    ],
)
def test_refusals_are_one_line(
    palette_model: Model, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["build", "--model", str(palette_model.directory), *arguments]) == 1
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and len(lines) == 1
    assert lines[0].startswith("deeplab_rt build: ") and message in lines[0]


@needs_rtx
def test_a_cameras_size_gives_the_input_its_shape_and_inspect_the_layers(
    palette_model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["build", "--model", str(palette_model.directory), "--target", "SM86"]
    command += ["--precision", "fp32", "--camera", "1920x640", "--inspect"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert " fp32 192x64, any GPU" in out
    assert "layers move" in out and "Float -> Float" in out and "UInt8" in out
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["inspection"]
    assert found["layers"] > 0 and found["bytes_moved"] > 64 * 128 * 3
    with pytest.raises(SystemExit):
        main([*command, "--size", "64x64"])


def test_without_a_gpu_it_says_so(
    palette_model: Model, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main(["build", "--model", str(palette_model.directory)]) == 1
    assert "NVIDIA driver" in capsys.readouterr().err
