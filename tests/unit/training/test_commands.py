"""train, export, quantize and eval from the command line, one after the other."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from deeplab_rt.commands import main
from deeplab_rt.labels import load_label_set
from deeplab_rt.models import load_model
from deeplab_rt.network.checkpoints import describe, save_checkpoint
from deeplab_rt.network.encoders import ENCODERS, EncoderEntry, InvertedResidualEncoder
from deeplab_rt.network.model import DeepLab
from tests.unit.network.tiny import STAGES, TINY


@pytest.fixture(scope="module")
def model(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    run, model = folder / "run", folder / "model"
    train = ["train", str(pictures / "recipe.yaml"), "-o", str(run), "--data", str(pictures)]
    assert main([*train, "--steps", "40"]) == 0
    frames = str(pictures / "train" / "images")
    weights = str(run / "model.safetensors")
    assert main(["export", weights, "-o", str(model), "--frames", frames, "--no-fp16"]) == 0
    assert (
        main(["quantize", str(model), "--frames", frames, "--count", "3", "--target", "cpu"]) == 0
    )
    return model


def evaluation(pictures: Path) -> list[str]:
    return ["eval", "--data", f"{pictures / 'pictures.yaml'}={pictures}"]


def test_the_manifest_carries_the_data(model: Path) -> None:
    manifest = load_model(model).manifest
    assert set(manifest["files"]) == {"fp32", "int8"}
    assert manifest["cpu_precision"] == "int8"
    assert manifest["training_data"][0]["name"] == "pictures"


def test_eval_compares_precisions_and_records(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*evaluation(pictures), "--model", str(model), "--precision", "fp32"]
    assert main([*command, "--compare", "int8", "--json", "--record", "-o", str(tmp_path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    exact, quantised = printed["results"]
    assert (exact["runner"], quantised["runner"]) == ("openvino fp32", "openvino int8")
    assert exact["agreement"] == 1
    assert 0.8 < quantised["agreement"] <= 1
    assert set(exact["drivable"]) == {"precision", "recall", "iou", "boundary_f"}
    assert exact["iou"]["road"] == exact["drivable"]["iou"]
    assert sum(map(sum, exact["confusion"]["counts"])) == 3 * 63 * 96  # a row of void each
    assert json.loads((tmp_path / "eval.json").read_text()) == printed
    assert (
        len(list(tmp_path.glob("*-confusion.png"))) == len(list(tmp_path.glob("*-worst.png"))) == 2
    )
    accuracy = load_model(model).manifest["accuracy"]
    assert [r["miou"] for r in accuracy["results"]] == [exact["miou"], quantised["miou"]]
    card = (model / "MODEL_CARD.md").read_text()
    for result in (exact, quantised):
        assert f"{result['runner']}\n" in card
        assert f"mIoU {result['miou']:.4f}" in card
    assert "pictures, 3 pictures: made by the tests" in card


def test_torch_and_openvino_agree(
    model: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*evaluation(pictures), "--json"]
    assert main([*command, "--checkpoint", str(model.parent / "run" / "model.safetensors")]) == 0
    torch = json.loads(capsys.readouterr().out)["results"][0]
    assert main([*command, "--model", str(model), "--precision", "fp32"]) == 0
    openvino = json.loads(capsys.readouterr().out)["results"][0]
    assert torch["runner"] == "torch fp32"
    assert torch["miou"] == pytest.approx(openvino["miou"], abs=2e-3)


def test_a_checkpoint_is_evaluated_at_the_asked_size(
    model: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = str(model.parent / "run" / "model.safetensors")
    command = [*evaluation(pictures), "--json", "--checkpoint", weights]
    assert main([*command, "--size", "96x32"]) == 0
    assert json.loads(capsys.readouterr().out)["input"] == [32, 96]


def test_eval_prints_for_people(
    model: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*evaluation(pictures), "--model", str(model)]) == 0
    said = capsys.readouterr().out
    assert "openvino int8: mIoU 0." in said
    assert "drivable: precision" in said


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("export nowhere.pt -o {tmp}/m", "nowhere.pt does not exist"),
        (
            "export {weights} -o {tmp}/m --labels camvid11",
            "has 3 classes and the label set camvid11 11",
        ),
        ("export {weights} -o {tmp}/m --size 100x100", "multiple"),
        ("eval --data {pictures}", "expected SET=FOLDER"),
        ("eval --model {model} --data camvid={pictures}", "names the class 'building'"),
        (
            "eval --model {model} --data {pictures}/pictures.yaml={pictures} --record --size 128x64",
            "own input size",
        ),
        ("quantize {model} --frames {tmp}", "has no pictures"),
        ("train nothing -o {tmp}/run", "recipe 'nothing' is unknown"),
        ("train deeplab_lite0_wide -o {tmp}/run --data {tmp}", "image folder"),
        ("train deeplab_lite0 -o {tmp}/run", "init runs/wide/model.safetensors does not exist"),
    ],
)
def test_one_clear_line(
    command: str,
    message: str,
    model: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = model.parent / "run" / "model.safetensors"
    filled = command.format(tmp=tmp_path, weights=weights, pictures=pictures, model=model)
    assert main(filled.split()) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "command", ["train deeplab_lite0 -o run", "export w.pt -o m", "quantize --frames f"]
)
def test_a_missing_package_is_named_with_what_brings_it(command: str) -> None:
    # A process of its own: in this one torch is loaded.
    program = (
        "import sys; sys.modules['torch'] = None; from deeplab_rt.commands import main; "
        "sys.exit(main(sys.argv[1:]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, *command.split()], capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert "torch is not installed; `pip install '.[train]'`" in ended.stderr


def test_a_narrower_network_starts_from_a_wider_one_and_learns_from_its_model(
    model: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stages = [replace(stage, expand=4) for stage in STAGES]
    entry = EncoderEntry(lambda options: InvertedResidualEncoder(stages, options, eps=1e-5))
    monkeypatch.setitem(ENCODERS, "tiny_wide", entry)
    wide = DeepLab(replace(TINY, encoder="tiny_wide"), 3)
    labels = load_label_set(str(pictures / "labels.yaml"))
    save_checkpoint(tmp_path / "wide.safetensors", wide, describe(wide, labels, (64, 96)))
    recipe = yaml.safe_load((pictures / "recipe.yaml").read_text())
    recipe["init"] = str(tmp_path / "wide.safetensors")
    recipe["teacher"] = str(model)
    path = tmp_path / "slim.yaml"
    path.write_text(yaml.safe_dump(recipe))
    command = ["train", str(path), "--data", str(pictures), "--steps", "40"]
    assert main([*command, "-o", str(tmp_path / "run")]) == 0
    assert "of a block's variance lost at most" in capsys.readouterr().out
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in log]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])

    recipe["teacher"] = "deeplab_lite0"
    path.write_text(yaml.safe_dump(recipe))
    assert main([*command, "-o", str(tmp_path / "other")]) == 1
    assert "expected the recipe's labels: sky, road, sign" in capsys.readouterr().err
