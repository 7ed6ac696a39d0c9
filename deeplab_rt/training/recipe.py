"""A recipe: one YAML file that says what to train, on what and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from deeplab_rt.errors import DataError
from deeplab_rt.field_checks import dataclass_from, shown
from deeplab_rt.labels import LabelSet, load_label_set
from deeplab_rt.models import check_input_size
from deeplab_rt.network.model import Architecture
from deeplab_rt.training.augment import AugmentOptions
from deeplab_rt.training.cache import CachedDataset
from deeplab_rt.training.data import Dataset, load_data_set
from deeplab_rt.training.schedule import LoopOptions
from deeplab_rt.yaml_files import load_yaml, parse_yaml

KEYS = (
    "extends",
    "labels",
    "architecture",
    "input",
    "init",
    "teacher",
    "data",
    "validation",
    "augment",
    "loop",
)

# Least and greatest values of options, as far as anything sensible lies between them.
_AUGMENT = {
    "crops": (32, 4096),
    "frame": (32, 4096),
    "scale": (0.01, 100),
    "rotation": (0, 180),
    "cover": (0, 1),
    "stretch": (0, 0.9),
    "squeeze": (0, 1),
    "photometric": (0, 1),
    "night": (0, 1),
}
_LOOP = {
    "steps": (1, 1e9),
    "minutes": (1e-3, 1e6),
    "epoch_steps": (1, 1e9),
    "learning_rate": (0, 10),
    "encoder_rate": (0, 100),
    "weight_decay": (0, 10),
    "warmup": (0, 1),
    "ema": (0, 1),
    "balance": (0, 10),
    "jaccard": (0, 1000),
    "distil": (0, 1000),
    "rare_share": (0, 1),
    "seed": (0, 2**31 - 1),
    "keep": (1, 1e6),
}


@dataclass(frozen=True)
class Recipe:
    """A recipe whose file has been read and checked.

    Attributes:
        labels: The taxonomy.
        architecture: The network.
        size: Height and width of the network's input.
        init: "imagenet", "random", a model's name, or the path of a checkpoint to start from.
        teacher: Name or directory of a model to learn soft labels from; empty for none.
        augment: See :class:`AugmentOptions`.
        loop: See :class:`LoopOptions`.
        data: Entries {set, root, per_batch, split}.
        validation: Entries {set, root, split}.
    """

    labels: LabelSet
    architecture: Architecture
    size: tuple[int, int]
    init: str
    teacher: str
    augment: AugmentOptions
    loop: LoopOptions
    data: tuple[Mapping[str, Any], ...]
    validation: tuple[Mapping[str, Any], ...]

    def datasets(self, root: Path) -> list[CachedDataset]:
        """The training data in memory; ``root`` is what the entries' roots are relative to.

        Raises:
            DataError: See :func:`load_data_set` and :meth:`Dataset.read`.
        """
        sets = self.training_sets(root)
        return [
            CachedDataset(data, int(entry.get("per_batch", 8)))
            for entry, data in zip(self.data, sets, strict=True)
        ]

    def training_sets(self, root: Path) -> list[Dataset]:
        """The training data's files."""
        return [_load(entry, root, "train", self.labels) for entry in self.data]

    def validation_sets(self, root: Path) -> list[Dataset]:
        """The validation data."""
        return [_load(entry, root, "val", self.labels) for entry in self.validation]


def _load(entry: Mapping[str, Any], root: Path, split: str, labels: LabelSet) -> Dataset:
    try:
        name, folder = entry["set"], entry["root"]
    except (KeyError, TypeError) as error:
        raise DataError(f"recipe: data entry {entry!r}; expected the keys set and root") from error
    data = load_data_set(name, root / folder, str(entry.get("split", split)), labels.names)
    return data.every(int(entry.get("limit", len(data))))


def _entries(values: Any, where: str) -> tuple[Mapping[str, Any], ...]:
    """Entries of ``data`` or ``validation``, their keys and types checked."""
    if not isinstance(values, list):
        raise DataError(f"{where}: expected a list of {{set, root}}, not {shown(values)}")
    return tuple(
        {k: v for k, v in vars(_as_entry(entry, where)).items() if v is not None}
        for entry in values
    )


def _as_entry(entry: Any, where: str) -> _Entry:
    checked = dataclass_from(
        _Entry, entry, where, DataError, {"per_batch": (1, 1024), "limit": (1, 1e9)}
    )
    if checked.set is None or checked.root is None:
        raise DataError(f"{where}: entry {shown(entry)}; expected the keys set and root")
    return checked


@dataclass(frozen=True)
class _Entry:
    """One entry of ``data`` or ``validation``."""

    set: str | None = None
    root: str | None = None
    per_batch: int | None = None
    split: str | None = None
    limit: int | None = None


def _mapping(data: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    values = data.get(key, {})
    if not isinstance(values, Mapping):
        raise DataError(f"{where}: {key}: expected a mapping, not {shown(values)}")
    return values


def _text(data: Mapping[str, Any], key: str, default: str, where: str) -> str:
    value = data.get(key, default)
    if not isinstance(value, str) or not value.isprintable():
        raise DataError(f"{where}: {key}: expected text, not {shown(value)}")
    return value


def _read(name: str | Path, deep: int = 0) -> dict[str, Any]:
    """A recipe's mapping, filled from the one that it extends; its own values win."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        folder = resources.files("deeplab_rt.training") / "recipes"
        shipped = sorted(Path(e.name).stem for e in folder.iterdir() if e.name.endswith(".yaml"))
        if str(name) not in shipped:
            raise DataError(
                f"recipe {str(name)!r} is unknown; expected one of {', '.join(shipped)} "
                "or the path of a YAML file"
            )
        data = parse_yaml((folder / f"{name}.yaml").read_text(encoding="utf-8"))
    else:
        data = load_yaml(path, DataError)
    if not isinstance(data, dict):
        raise DataError(f"recipe {name}: expected a mapping with some of {', '.join(KEYS)}")
    if "extends" not in data:
        return data
    base = _text(data, "extends", "", f"recipe {name}")
    del data["extends"]
    if base.endswith((".yaml", ".yml")):
        base = str(path.parent / base)
    if deep > 8 or base in (str(name), str(path)):
        raise DataError(f"recipe {name}: extends itself")
    merged = _read(base, deep + 1)
    for key, value in data.items():
        inherited = merged.get(key)
        both = isinstance(value, dict) and isinstance(inherited, dict)
        merged[key] = inherited | value if both else value  # type: ignore[operator]
    return merged


def load_recipe(name: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a shipped recipe by name, or a YAML file by path.

    Args:
        overrides: Loop options that replace the file's.

    Raises:
        DataError: The file is missing or malformed; the message names the key.
        DeeplabError: Of its labels, architecture or input size.
    """
    data, where = _read(name), f"recipe {name}"
    if "data" not in data:
        raise DataError(
            f"{where}: expected a mapping with some of {', '.join(KEYS)}; data is a must"
        )
    for key in data:
        if key not in KEYS:
            raise DataError(
                f"{where}: unknown key {shown(key)}; expected some of {', '.join(KEYS)}"
            )
    size = dataclass_from(_InputSize, data.get("input", {}), f"{where}: input", DataError)
    frame = check_input_size((size.height, size.width))
    augment = {"frame": tuple(frame), **_mapping(data, "augment", where)}
    loop = {**_mapping(data, "loop", where), **(overrides or {})}
    return Recipe(
        labels=load_label_set(_text(data, "labels", "camvid11", where)),
        architecture=Architecture.from_dict(_mapping(data, "architecture", where)),
        size=frame,
        init=_text(data, "init", "imagenet", where),
        teacher=_text(data, "teacher", "", where),
        augment=dataclass_from(AugmentOptions, augment, f"{where}: augment", DataError, _AUGMENT),
        loop=dataclass_from(LoopOptions, loop, f"{where}: loop", DataError, _LOOP),
        data=_entries(data["data"], f"{where}: data"),
        validation=_entries(data.get("validation", []), f"{where}: validation"),
    )


@dataclass(frozen=True)
class _InputSize:
    """The network's input, in pixels."""

    height: int = 480
    width: int = 640
