"""train, export, quantize and eval from the command line, one after the other."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from deeplab_rt.commands import main
from deeplab_rt.files import sha256_of
from deeplab_rt.models import load_model
from deeplab_rt.network.checkpoints import load_checkpoint


@pytest.fixture(scope="module")
def model(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    run, model = folder / "run", folder / "model"
    train = ["train", str(pictures / "recipe.yaml"), "-o", str(run), "--data", str(pictures)]
    assert main([*train, "--steps", "40"]) == 0
    frames = str(pictures / "train" / "images")
    weights = str(run / "model.safetensors")
    assert main(["export", weights, "-o", str(model), "--frames", frames]) == 0
    assert (
        main(["quantize", str(model), "--frames", frames, "--count", "3", "--target", "cpu"]) == 0
    )
    return model


def evaluation(pictures: Path) -> list[str]:
    return ["eval", "--data", f"{pictures / 'pictures.yaml'}={pictures}"]


def test_the_manifest_carries_the_data(model: Path) -> None:
    manifest = load_model(model).manifest
    assert set(manifest["files"]) == {"fp32", "int8"}
    assert manifest["weights"]["sha256"] == sha256_of(model / "model.safetensors")
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
    assert len(list(tmp_path.glob("*-reliability.png"))) == 2
    accuracy = load_model(model).manifest["accuracy"]
    assert [entry["miou"] for entry in accuracy] == [exact["miou"], quantised["miou"]]
    metrics = json.loads((model / "metrics.json").read_text())
    assert metrics["results"] == printed["results"]
    card = (model / "MODEL_CARD.md").read_text()
    for result in (exact, quantised):
        assert f"| {result['runner']} | {result['miou']:.4f} |" in card
    assert "pictures, 3 images: made by the tests" in card
    assert len((model / "model.yaml").read_text().splitlines()) < 30
    # Figures of other data are added to these, the same ones replaced.
    frames = str(pictures / "val" / "images")
    assert main([*command, "--sequence", frames, "--record"]) == 0
    metrics = json.loads((model / "metrics.json").read_text())
    assert len(metrics["results"]) == 2
    assert metrics["sequences"][0]["sequence"] == "val/images"


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
            "with its own input",
        ),
        ("quantize {model} --frames {tmp}", "has no images"),
        ("train nothing -o {tmp}/run", "recipe 'nothing' is unknown"),
        ("train deeplab_lite0 -o {tmp}/run --data {tmp}", "image folder"),
        ("train {tmp}/warm.yaml -o {tmp}/run", "neither a checkpoint nor a model"),
        ("train {tmp}/bare.yaml -o {tmp}/run", "has no model.safetensors to train from"),
        ("eval --model {model}", "give --data SET=FOLDER or --sequence INPUT"),
        ("export {weights} -o {tmp}/m --reference x.npy", "belong together"),
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
    recipe = yaml.safe_load((pictures / "recipe.yaml").read_text())
    (tmp_path / "bare").mkdir()
    shutil.copy(model / "model.yaml", tmp_path / "bare")
    for name, init in (("warm", "nowhere"), ("bare", str(tmp_path / "bare"))):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(recipe | {"init": init}))
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


def test_a_run_starts_from_a_model_and_learns_from_another(
    model: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DEEPLAB_RT_MODELS", str(model.parent))
    recipe = yaml.safe_load((pictures / "recipe.yaml").read_text())
    recipe |= {"init": "model", "teacher": "model"}
    path = tmp_path / "tuned.yaml"
    path.write_text(yaml.safe_dump(recipe))
    command = ["train", str(path), "--data", str(pictures), "--steps", "2"]
    assert main([*command, "-o", str(tmp_path / "run")]) == 0
    weights = model / "model.safetensors"
    assert f"{weights}: " in capsys.readouterr().out
    start = load_checkpoint(weights).model.classifier.weight
    assert isinstance(start, torch.Tensor)
    trained = load_checkpoint(model.parent / "run" / "model.safetensors").model.classifier.weight
    assert isinstance(trained, torch.Tensor)
    # float16 carries 11 bits.
    assert torch.allclose(start, trained, atol=2**-11 * float(trained.detach().abs().max()))

    recipe["teacher"] = "deeplab_lite0"
    path.write_text(yaml.safe_dump(recipe))
    monkeypatch.delenv("DEEPLAB_RT_MODELS")
    recipe["init"] = str(model)
    path.write_text(yaml.safe_dump(recipe))
    assert main([*command, "-o", str(tmp_path / "other")]) == 1
    assert "expected the recipe's labels: sky, road, sign" in capsys.readouterr().err


def test_calibration_changes_confidence_and_no_label(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = str(model.parent / "run" / "model.safetensors")
    data = f"{pictures / 'pictures.yaml'}={pictures}"
    assert main(["export", weights, "-o", str(tmp_path / "m"), "--calibrate", data]) == 0
    said = capsys.readouterr().out
    assert "folded into the last convolution" in said
    assert load_model(tmp_path / "m").manifest["temperature"] > 0
    found = []
    for directory in (model, tmp_path / "m"):
        command = ["eval", "--data", data, "--json", "--precision", "fp32", "--model"]
        assert main([*command, str(directory)]) == 0
        found.append(json.loads(capsys.readouterr().out)["results"][0])
    assert found[0]["miou"] == pytest.approx(found[1]["miou"], abs=1e-3)
    assert found[1]["calibration_error"] < found[0]["calibration_error"] + 0.01


@pytest.mark.parametrize("command", ["train", "eval", "export", "quantize"])
def test_help_has_a_description_and_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    said = capsys.readouterr().out
    assert "example" in said
    assert f"deeplab_rt {command}" in said.split("example")[1]
