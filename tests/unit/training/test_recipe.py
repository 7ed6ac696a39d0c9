"""Recipes: what ships reads, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from deeplab_rt.errors import DataError
from deeplab_rt.network.model import Architecture, ArchitectureError
from deeplab_rt.training.recipe import load_recipe


def test_the_default_recipe() -> None:
    recipe = load_recipe("deeplab_lite0", {"steps": 5})
    assert recipe.architecture == Architecture(encoder="efficientnet_lite0_slim")
    assert recipe.size == recipe.augment.frame == (384, 512)
    assert len(recipe.labels) == 11
    assert recipe.loop.steps == 5
    assert [entry["set"] for entry in recipe.data] == ["camvid", "idd_lite"]


def test_the_wide_recipe_trains_what_the_default_is_narrowed_from() -> None:
    wide, default = load_recipe("deeplab_lite0_wide"), load_recipe("deeplab_lite0")
    assert wide.architecture == Architecture()
    assert (wide.init, wide.teacher) == ("imagenet", "")
    assert (wide.size, wide.augment, wide.data) == (default.size, default.augment, default.data)
    assert default.init.startswith("runs/wide/")
    assert default.teacher == "deeplab_lite0_wide"


def test_the_fast_recipe_tunes_the_same_network_for_less_than_half_the_pixels() -> None:
    default, fast = load_recipe("deeplab_lite0"), load_recipe("deeplab_lite0_fast")
    assert fast.architecture == default.architecture
    assert 2 * fast.size[0] * fast.size[1] < default.size[0] * default.size[1]
    assert fast.augment.frame == fast.size
    assert fast.init.endswith("model.safetensors")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not a YAML file"),
        ("labels: camvid11", "data is a must"),
        ("data: []\nepochs: 3", "unknown key 'epochs'; expected some of labels"),
        ("data: []\nloop: {rate: 1}", "loop has no option 'rate'; it has steps"),
        ("data: []\naugment: {zoom: 1}", "augment has no option 'zoom'"),
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
    with pytest.raises(DataError, match="does not exist"):
        load_recipe(tmp_path / "none.yaml")
    path = tmp_path / "recipe.yaml"
    path.write_text("data: [{set: camvid}]")
    with pytest.raises(DataError, match="expected the keys set and root"):
        load_recipe(path).sources(tmp_path)
    path.write_text("data: []\narchitecture: {depth: 3}")
    with pytest.raises(ArchitectureError, match="unknown field 'depth'"):
        load_recipe(path)
