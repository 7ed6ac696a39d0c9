"""The program `deeplab_rt bench`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deeplab_rt.commands import main
from deeplab_rt.models import Model


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deeplab_rt", "bench", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_prints_json_alone_and_writes_the_rest(
    palette_model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "out"
    model = ["--model", str(palette_model.directory), "--backend", "cpu", "--frame", "64x48"]
    short = ["--baselines", "onnxruntime", "--rounds", "1", "--no-roofline"]
    assert main(["bench", *model, *short, "--json", "-o", str(out)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["sizes"][0]["frame_size"] == [48, 64]
    assert "onnxruntime" in figures["sizes"][0]["candidates"]
    assert "roofline" not in figures
    assert json.loads((out / "bench.json").read_text()) == figures
    assert "64x48 frame" in (out / "bench.txt").read_text()
    assert (out / "bench.png").stat().st_size > 0


def test_output_that_cannot_be_made_is_told_before_any_work(
    palette_model: Model, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    result = run("--model", palette_model.directory, "-o", tmp_path / "file" / "below")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "file/below: cannot be made" in result.stderr


def test_missing_matplotlib_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["bench", "-o", str(tmp_path / "out")]) == 1
    assert "pip install matplotlib" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments", [("--baselines", "tensorflow"), ("--frame", "640"), ("--rounds", "0")]
)
def test_wrong_usage(arguments: tuple[str, str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["bench", *arguments])
    assert stopped.value.code == 2
