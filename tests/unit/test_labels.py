"""Label sets: ids from 1, groups, look-up tables, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from deeplab_rt.errors import LabelError
from deeplab_rt.labels import LabelSet, label_set_names, load_label_set


def entry(label_id: int = 1, name: str = "road", **changes: object) -> dict[str, object]:
    return {"id": label_id, "name": name, "color": [1, 2, 3], "groups": ["drivable"], **changes}


def test_camvid11(camvid11: LabelSet) -> None:
    assert len(camvid11) == 11
    assert camvid11.names[3] == "road"
    assert [label.id for label in camvid11.labels] == list(range(1, 12))
    assert camvid11.group("drivable") == ("road",)
    assert "vehicle" in camvid11.group("objects")


@pytest.mark.parametrize("name", label_set_names())
def test_every_shipped_set_has_something_to_drive_on(name: str) -> None:
    labels = load_label_set(name)
    assert labels.names == tuple(entry["name"] for entry in labels.to_list())
    if name != "voc21":  # Pascal VOC knows no road
        assert labels.group("drivable")


def test_luts_follow_the_groups(camvid11: LabelSet) -> None:
    chosen = camvid11.regrouped(drivable=["road", "sidewalk"], objects=["pole"])
    road, sidewalk, pole = (chosen.index(name) + 1 for name in ("road", "sidewalk", "pole"))
    assert np.flatnonzero(chosen.drivable_lut).tolist() == [road, sidewalk]
    assert set(chosen.drivable_lut[[road, sidewalk]]) == {255}
    assert np.flatnonzero(chosen.objects_lut).tolist() == [pole]
    assert chosen.objects_lut[pole] == pole


def test_regrouping_keeps_what_is_not_named(camvid11: LabelSet) -> None:
    assert camvid11.regrouped() == camvid11
    assert camvid11.regrouped(objects=[]).group("drivable") == ("road",)
    assert camvid11.regrouped(objects=[]).group("objects") == ()


def test_palette_gives_each_id_its_colour(camvid11: LabelSet) -> None:
    assert tuple(camvid11.palette[4]) == (128, 64, 128)
    assert not camvid11.palette[0].any()
    assert not camvid11.palette[12:].any()


def test_round_trip_through_a_file(tmp_path: Path, camvid11: LabelSet) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"labels": camvid11.to_list()}))
    assert load_label_set(path) == camvid11


def test_unknown_name_lists_the_known_ones(camvid11: LabelSet) -> None:
    with pytest.raises(LabelError, match="unknown label 'lane'; this model knows: sky, building"):
        camvid11.index("lane")


def test_unknown_set_lists_the_shipped_ones() -> None:
    with pytest.raises(LabelError, match="no label set 'nope'; shipped: .*camvid11"):
        load_label_set("nope")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "1 to 255 labels, not 0"),
        ([entry(2)], "has id 2, expected 1"),
        ([entry(0)], "has id 0, expected 1"),
        ([entry(), entry(2)], "'road' appears twice"),
        ([entry(color=[1, 2])], "malformed label"),
        ([entry(color=[1, 2, 300])], "malformed label"),
        ([entry(groups=["flyable"])], "malformed label"),
        ([entry(name="")], "malformed label"),
        ([entry("1")], "malformed label"),
        (["road"], "malformed label 'road'"),
    ],
)
def test_malformed_sets_are_refused(entries: list[object], message: str) -> None:
    with pytest.raises(LabelError, match=message):
        LabelSet.from_list(entries)


@pytest.mark.parametrize("text", ["[1, 2]", "labels: 3", ": : :", "{}"])
def test_malformed_files_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(LabelError, match="bad.yaml"):
        load_label_set(path)


# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


def cielab(rgb: np.ndarray, vision: np.ndarray) -> np.ndarray:
    """What an eye sees of sRGB bytes [N, 3], in CIELAB."""
    x = rgb / 255
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ vision.T, 0, 1)
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    xyz = seen @ to_xyz.T / np.array([0.95047, 1, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1
    )


def least_difference(colors: np.ndarray, vision: np.ndarray) -> float:
    lab = cielab(colors, vision)
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=2)
    return float(distances[np.triu_indices(len(colors), 1)].min())


@pytest.mark.parametrize("vision", VISION)
def test_colours_of_road13_can_be_told_apart(vision: str) -> None:
    """Differences in CIELAB: 2 is just visible, camvid11's pole and fence have 3 to a red-blind eye."""
    labels = load_label_set("road13")
    colors = np.array([label.color for label in labels.labels], float)
    assert least_difference(colors, VISION[vision]) > 18
    movers = colors[[labels.index(n) for n in ("vehicle", "pedestrian", "bicyclist")]]
    assert least_difference(movers, VISION[vision]) > 45
    # Half transparent over a car of any grey, and over a red or a blue one.
    for car in (*([g] * 3 for g in range(0, 256, 51)), [180, 20, 20], [20, 40, 160]):
        assert least_difference((movers + np.array(car)) / 2, VISION[vision]) > 18


def test_road13_keeps_the_ids_of_camvid11() -> None:
    old, new = load_label_set("camvid11"), load_label_set("road13")
    assert new.names == (*old.names, "terrain", "ego")
    for group in ("drivable", "objects"):
        assert new.group(group) == old.group(group)
