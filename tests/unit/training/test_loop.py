"""Training runs: they learn, they resume to the same curve, they stop at nonsense."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from deeplab_rt.errors import CheckpointError, DataError
from deeplab_rt.network.checkpoints import load_checkpoint
from deeplab_rt.network.model import DeepLab
from deeplab_rt.training import loop
from deeplab_rt.training.cache import make_batch
from deeplab_rt.training.precision import keep_slow_convs_float32
from deeplab_rt.training.recipe import load_recipe
from deeplab_rt.training.run import train
from deeplab_rt.training.schedule import LoopOptions, rate_at


def curve(folder: Path) -> list[dict[str, object]]:
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k != "minutes"} for record in records]


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(pictures / "recipe.yaml", folder, pictures)
    return folder


def test_a_run_leaves_log_epochs_weights_and_plot(whole: Path) -> None:
    records = curve(whole)
    assert [(r["epoch"], r["step"]) for r in records] == [(1, 2), (2, 4), (3, 6)]
    assert set(records[0]["validation"]) == {"pictures"}
    assert [path.name for path in sorted(whole.glob("epoch_*"))] == [
        f"epoch_000{i}.pt" for i in (1, 2, 3)
    ]
    checkpoint = load_checkpoint(whole / "model.safetensors")
    assert checkpoint.labels is not None
    assert checkpoint.labels.names == ("sky", "road", "sign")
    assert checkpoint.size == (64, 96)
    assert checkpoint.extra["training_data"] == [
        {"name": "pictures", "images": 3, "terms": "made by the tests"}
    ]
    assert (whole / "run.png").stat().st_size > 1000


def test_an_epochs_file_is_a_checkpoint_of_the_averaged_weights(whole: Path) -> None:
    last = load_checkpoint(whole / "epoch_0003.pt").model.state_dict()
    final = load_checkpoint(whole / "model.safetensors").model.state_dict()
    assert all(torch.equal(last[key], final[key]) for key in final)


def test_an_interrupted_run_resumes_to_the_same_curve(
    whole: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = loop.Trainer.hard_loss
    calls = []

    def interrupted(self: loop.Trainer, *args: torch.Tensor) -> torch.Tensor:
        calls.append(self.step)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return original(self, *args)

    monkeypatch.setattr(loop.Trainer, "hard_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(pictures / "recipe.yaml", tmp_path, pictures)
    assert len(curve(tmp_path)) == 2
    train(pictures / "recipe.yaml", tmp_path, pictures, resume="newest")
    assert calls == [0, 1, 2, 3, 4, 5, 4, 5]
    assert curve(tmp_path) == curve(whole)
    # From an earlier epoch as well: the log is cut back to it.
    train(pictures / "recipe.yaml", tmp_path, pictures, resume=str(tmp_path / "epoch_0001.pt"))
    assert curve(tmp_path) == curve(whole)


def test_it_learns(pictures: Path, tmp_path: Path) -> None:
    train(pictures / "recipe.yaml", tmp_path, pictures, overrides={"steps": 60, "epoch_steps": 30})
    last = curve(tmp_path)[-1]
    assert last["validation"]["pictures"]["iou"]["road"] > 0.9  # type: ignore[index]
    assert last["validation"]["pictures"]["miou"] > 0.6  # type: ignore[index]


def test_nan_stops_the_run_and_keeps_the_last_good_epoch(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = loop.Trainer.hard_loss

    def broken(self: loop.Trainer, *args: torch.Tensor) -> torch.Tensor:
        return original(self, *args) * (float("nan") if self.step == 3 else 1)

    monkeypatch.setattr(loop.Trainer, "hard_loss", broken)
    with pytest.raises(DataError, match=r"the loss is nan at step 3; the last good epoch is kept"):
        train(pictures / "recipe.yaml", tmp_path, pictures)
    state = torch.load(tmp_path / "epoch_0001.pt", weights_only=True)
    assert state["step"] == 2
    assert all(bool(v.isfinite().all()) for v in state["model"].values())


def test_a_schedule_by_the_clock_ends(pictures: Path, tmp_path: Path) -> None:
    train(pictures / "recipe.yaml", tmp_path, pictures, overrides={"minutes": 0.001})
    assert len(curve(tmp_path)) == 1
    assert (tmp_path / "model.safetensors").is_file()


def test_old_epochs_are_deleted(pictures: Path, tmp_path: Path) -> None:
    train(pictures / "recipe.yaml", tmp_path, pictures, overrides={"keep": 1})
    assert [path.name for path in tmp_path.glob("epoch_*")] == ["epoch_0003.pt"]


def test_a_finished_run_has_nothing_to_resume(
    whole: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.iterdir()}
    train(pictures / "recipe.yaml", whole, pictures, resume="newest")
    assert "nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in whole.iterdir()} == before


def test_the_epoch_is_written_before_it_is_validated(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*args: object) -> None:
        raise DataError("a label file is gone")

    monkeypatch.setattr(loop, "validate", failing)
    with pytest.raises(DataError, match="is gone"):
        train(pictures / "recipe.yaml", tmp_path, pictures)
    assert (tmp_path / "epoch_0001.pt").is_file()


def test_validation_on_fewer_classes_than_the_network_has(pictures: Path, tmp_path: Path) -> None:
    """As for 20 frames in which two classes are labelled."""
    description = yaml.safe_load((pictures / "pictures.yaml").read_text())
    description["values"] = {1: ["road"]}
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(description))
    recipe = yaml.safe_load((pictures / "recipe.yaml").read_text())
    recipe["labels"] = "road13"
    for entry in (*recipe["data"], *recipe["validation"]):
        entry["set"] = str(tmp_path / "one.yaml")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    train(tmp_path / "recipe.yaml", tmp_path / "run", pictures, overrides={"steps": 2})
    (record,) = curve(tmp_path / "run")
    assert list(record["validation"]["pictures"]["iou"]) == ["road"]  # type: ignore[index]


def test_what_cannot_be_resumed(whole: Path, pictures: Path, tmp_path: Path) -> None:
    recipe = pictures / "recipe.yaml"
    with pytest.raises(DataError, match="already holds a run; add --resume"):
        train(recipe, whole, pictures)
    with pytest.raises(DataError, match="no epoch_NNNN.pt to resume from"):
        train(recipe, tmp_path, pictures, resume="newest")
    (tmp_path / "epoch_0001.pt").write_bytes(b"half a file")
    with pytest.raises(DataError, match="cannot resume from"):
        train(recipe, tmp_path, pictures, resume="newest")


def test_warm_start(whole: Path, pictures: Path, tmp_path: Path) -> None:
    text = (pictures / "recipe.yaml").read_text()
    for init, error in (
        (whole / "model.safetensors", None),
        (pictures / "labels.yaml", "cannot be read"),
    ):
        recipe = tmp_path / "warm.yaml"
        recipe.write_text(text.replace("init: random", f"init: {init}"))
        if error is None:
            train(recipe, tmp_path / "warm", pictures, overrides={"steps": 1})
        else:
            with pytest.raises(CheckpointError, match=error):
                train(recipe, tmp_path / "cold", pictures, overrides={"steps": 1})


def test_a_batch_is_a_function_of_seed_and_step(pictures: Path) -> None:
    recipe = load_recipe(pictures / "recipe.yaml")
    datasets = recipe.datasets(pictures)
    batches = [
        make_batch(datasets, recipe.augment, LoopOptions(seed=s), t)
        for s, t in ((0, 5), (0, 5), (0, 6), (1, 5))
    ]
    assert batches[0][0].shape == (4, 32, 64, 3)
    assert batches[0][1].dtype == torch.int64
    assert torch.equal(batches[0][0], batches[1][0])
    assert torch.equal(batches[0][1], batches[1][1])
    assert not torch.equal(batches[0][0], batches[2][0])
    assert not torch.equal(batches[0][0], batches[3][0])


def test_rare_groups_draw_crops(pictures: Path) -> None:
    (dataset,) = load_recipe(pictures / "recipe.yaml").datasets(pictures)
    assert [group for group, _ in dataset.rare] == [2]
    options = load_recipe(pictures / "recipe.yaml").augment
    shares = [
        np.mean(
            [
                (dataset.draw(options, share, np.random.default_rng(i))[1] == 2).any()
                for i in range(40)
            ]
        )
        for share in (0.0, 1.0)
    ]
    assert shares[1] == 1.0
    assert shares[0] < 0.95


def test_the_rate_rises_and_falls() -> None:
    rates = [rate_at(p / 100, 0.1) for p in range(101)]
    assert rates[0] == 0
    assert max(rates) == rates[10] == 1
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.01)


def test_depthwise_layers_in_float32_compute_the_same(pictures: Path) -> None:
    recipe = load_recipe(pictures / "recipe.yaml")
    torch.manual_seed(0)
    model = DeepLab(recipe.architecture, 3).eval()
    image = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    with torch.no_grad():
        expected = model(image)
        keep_slow_convs_float32(model)
        assert torch.equal(model(image), expected)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(image).float()
    assert torch.allclose(mixed, expected, atol=0.1 * float(expected.abs().max()))
