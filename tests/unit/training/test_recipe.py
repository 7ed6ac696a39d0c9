"""Recipes: what ships reads, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from deeplab_rt.errors import DataError
from deeplab_rt.network.model import Architecture, ArchitectureError
from deeplab_rt.training.data import shipped_data_sets
from deeplab_rt.training.recipe import load_recipe


def test_the_default_recipe() -> None:
    recipe = load_recipe("deeplab_lite0", {"steps": 5})
    assert recipe.architecture == Architecture()
    assert recipe.size == recipe.augment.frame == (384, 512)
    assert recipe.labels.names[11:] == ("terrain", "ego")
    assert recipe.loop.steps == 5
    assert recipe.init == "imagenet"
    assert {entry["set"] for entry in recipe.data} <= set(shipped_data_sets())
    aspects = [width / height for height, width in recipe.augment.crops]
    assert min(aspects) < 1.5 and max(aspects) > 2.8


def test_the_fast_recipe_tunes_the_same_network_for_less_than_half_the_pixels() -> None:
    default, fast = load_recipe("deeplab_lite0"), load_recipe("deeplab_lite0_fast")
    assert fast.architecture == default.architecture
    assert 2 * fast.size[0] * fast.size[1] < default.size[0] * default.size[1]
    assert fast.augment.frame == fast.size
    assert fast.init == "deeplab_lite0"
    assert (fast.data, fast.validation) == (default.data, default.validation)
    assert fast.augment.squeeze == default.augment.squeeze


def test_a_recipe_extends_another(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("extends: deeplab_lite0\nloop: {steps: 7}\n")
    path = tmp_path / "mine.yaml"
    path.write_text("extends: base.yaml\nloop: {seed: 3}\ndata: [{set: camvid, root: x}]\n")
    recipe = load_recipe(path)
    assert (recipe.loop.steps, recipe.loop.seed, recipe.loop.epoch_steps) == (7, 3, 300)
    assert len(recipe.data) == 1
    path.write_text("extends: mine.yaml\n")
    with pytest.raises(DataError, match="extends itself"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not a YAML file"),
        ("labels: camvid11", "data is a must"),
        ("data: []\nepochs: 3", "unknown key 'epochs'; expected some of extends"),
        ("data: []\nloop: {rate: 1}", "loop: unknown key 'rate'; it has steps"),
        ("data: []\naugment: {zoom: 1}", "augment: unknown key 'zoom'"),
        ("data: []\nloop: {steps: many}", "loop: steps is 'many'; expected a whole number"),
        ("data: []\nloop: {learning_rate: .nan}", "learning_rate is nan; expected a number"),
        ("data: []\ninput: {height: x}", "input: height is 'x'"),
        ("data: []\nlabels: [camvid11]", "labels: expected"),
        ("data: 5", "data: expected a list"),
        ("data: [{set: camvid}]", "expected the keys set and root"),
        ("data: [{set: [camvid], root: x}]", r"set is \['camvid'\]; expected"),
    ],
)
def test_malformed_recipes(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        load_recipe(path)


def test_missing_recipes_and_keys(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'none' is unknown; expected one of deeplab_lite0"):
        load_recipe("none")
    with pytest.raises(DataError, match="No such file"):
        load_recipe(tmp_path / "none.yaml")
    path = tmp_path / "recipe.yaml"
    path.write_text("data: [{set: camvid}]")
    with pytest.raises(DataError, match="expected the keys set and root"):
        load_recipe(path).datasets(tmp_path)
    path.write_text("data: []\narchitecture: {depth: 3}")
    with pytest.raises(ArchitectureError, match="unknown key 'depth'"):
        load_recipe(path)
