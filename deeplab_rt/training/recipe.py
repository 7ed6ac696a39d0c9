"""A recipe: one YAML file that says what to train, on what and for how long."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml

from deeplab_rt.errors import DataError
from deeplab_rt.labels import LabelSet, load_label_set
from deeplab_rt.network.model import Architecture
from deeplab_rt.training.augment import AugmentOptions
from deeplab_rt.training.cache import CachedDataset
from deeplab_rt.training.data import Dataset, load_data_set
from deeplab_rt.training.schedule import LoopOptions

Options = TypeVar("Options", AugmentOptions, LoopOptions)
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


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _options(kind: type[Options], values: Mapping[str, Any], where: str) -> Options:
    names = [field.name for field in dataclasses.fields(kind)]
    for key in values:
        if key not in names:
            raise DataError(f"recipe: {where} has no option {key!r}; it has {', '.join(names)}")
    return kind(**{key: _frozen(value) for key, value in values.items()})


def _read(name: str | Path) -> dict[str, Any]:
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
        text = (folder / f"{name}.yaml").read_text()
    elif not path.is_file():
        raise DataError(f"recipe {path} does not exist")
    else:
        text = path.read_text()
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DataError(f"recipe {name}: not a YAML file: {error}") from error
    if not isinstance(data, dict):
        raise DataError(f"recipe {name}: expected a mapping with some of {', '.join(KEYS)}")
    base = data.pop("extends", None)
    if base is None:
        return data
    base = str(base)
    if base.endswith((".yaml", ".yml")):
        base = str(path.parent / base)
    if base in (str(name), str(path)):
        raise DataError(f"recipe {name}: extends itself")
    merged = _read(base)
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
    """
    data = _read(name)
    if "data" not in data:
        raise DataError(
            f"recipe {name}: expected a mapping with some of {', '.join(KEYS)}; data is a must"
        )
    for key in data:
        if key not in KEYS:
            raise DataError(
                f"recipe {name}: unknown key {key!r}; expected some of {', '.join(KEYS)}"
            )
    size = data.get("input", {"height": 480, "width": 640})
    frame = (int(size["height"]), int(size["width"]))
    return Recipe(
        labels=load_label_set(data.get("labels", "camvid11")),
        architecture=Architecture.from_dict(data.get("architecture", {})),
        size=frame,
        init=str(data.get("init", "imagenet")),
        teacher=str(data.get("teacher", "")),
        augment=_options(AugmentOptions, {"frame": frame} | data.get("augment", {}), "augment"),
        loop=_options(LoopOptions, data.get("loop", {}) | dict(overrides or {}), "loop"),
        data=tuple(data["data"]),
        validation=tuple(data.get("validation", [])),
    )
