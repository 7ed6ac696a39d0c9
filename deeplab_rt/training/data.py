"""Data sets of images and label images, described by a small YAML file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from deeplab_rt.errors import DataError

IGNORE = 255
"""Group index of pixels that teach nothing."""

PREPARED = "prepared.json"
"""What :mod:`deeplab_rt.training.prepare` leaves beside the files it wrote."""


def shipped_data_sets() -> list[str]:
    """Names of the data sets described in ``deeplab_rt/training/datasets``."""
    folder = resources.files("deeplab_rt.training") / "datasets"
    return sorted(
        Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".yaml")
    )


@dataclass(frozen=True)
class Dataset:
    """Paired image and label files of one split.

    Attributes:
        name: The data set's name.
        names: Name of each group, in order.
        class_ids: For each group the class indices it may be; a group of one class is that class.
        images: Image files, sorted by path as strings.
        labels: Label files (one byte a pixel), in the same order.
        values: Label file value to group index; IGNORE where the value is not listed.
        licence: What the data's terms allow, in words.
    """

    name: str
    names: tuple[str, ...]
    class_ids: tuple[tuple[int, ...], ...]
    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    values: NDArray[np.uint8] = field(repr=False)
    licence: str = ""

    def __len__(self) -> int:
        return len(self.images)

    def every(self, count: int) -> Dataset:
        """The set itself, or ``count`` of its images, evenly spaced."""
        if not 0 < count < len(self):
            return self
        chosen = np.linspace(0, len(self) - 1, count).round().astype(int).tolist()
        return replace(
            self,
            images=tuple(self.images[i] for i in chosen),
            labels=tuple(self.labels[i] for i in chosen),
        )

    @property
    def is_one_to_one(self) -> bool:
        """Whether every group is one class, so that class IoUs can be measured."""
        return all(len(class_ids) == 1 for class_ids in self.class_ids)

    @cached_property
    def measured(self) -> NDArray[np.uint8]:
        """Group index to itself where it is measured, else to IGNORE: uint8 [256].

        A union that contains another group (a wall is "building or fence", and there are buildings)
        teaches but cannot be measured beside it.
        """
        table = np.full(256, IGNORE, np.uint8)
        for group, class_ids in enumerate(self.class_ids):
            if not any(set(other) < set(class_ids) for other in self.class_ids):
                table[group] = group
        return table

    @cached_property
    def group_of_class(self) -> NDArray[np.uint8]:
        """Class index to measured group, IGNORE for classes of no such group: uint8 [256].

        Raises:
            DataError: A class is in two of them.
        """
        table = np.full(256, IGNORE, np.uint8)
        for group, class_ids in enumerate(self.class_ids):
            if self.measured[group] == IGNORE:
                continue
            for class_id in class_ids:
                if table[class_id] != IGNORE:
                    raise DataError(
                        f"data set {self.name}: a class is in both "
                        f"{self.names[table[class_id]]!r} and {self.names[group]!r}; to be measured "
                        "the groups must be disjoint or contain one another"
                    )
                table[class_id] = group
        return table

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Image uint8 [H, W, 3] RGB and groups uint8 [H, W].

        Raises:
            DataError: A file does not decode, the sizes differ, or a label file is not of one
                byte a pixel.
        """
        image = cv2.imread(str(self.images[index]), cv2.IMREAD_COLOR)
        label = cv2.imread(str(self.labels[index]), cv2.IMREAD_UNCHANGED)
        for path, array in ((self.images[index], image), (self.labels[index], label)):
            if array is None:
                raise DataError(f"{path} does not decode as an image; expected PNG or JPEG")
        assert image is not None and label is not None
        if label.ndim != 2 or label.dtype != np.uint8:
            raise DataError(
                f"{self.labels[index]}: labels are {label.dtype} of shape {label.shape}; expected "
                "one byte a pixel (a grey PNG of class ids, not an image of colours)"
            )
        if label.shape != image.shape[:2]:
            raise DataError(
                f"{self.labels[index]} is {label.shape[1]}x{label.shape[0]} and its image "
                f"{image.shape[1]}x{image.shape[0]}; expected equal sizes"
            )
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8), self.values[label]


def _files(root: Path, suffix: str, what: str) -> dict[str, Path]:
    if not root.is_dir():
        raise DataError(f"{what} folder {root} does not exist; expected files *{suffix} in it")
    found = {
        str(path.relative_to(root))[: -len(suffix)]: path
        for path in root.rglob(f"*{suffix}")
        if path.is_file()
    }
    if not found:
        raise DataError(f"{what} folder {root} has no file *{suffix}")
    return found


def _held_out_absent(root: Path) -> bool:
    """Whether the files under ``root`` are prepared ones, without those that are held out."""
    log = root / PREPARED
    return log.is_file() and bool(json.loads(log.read_text()).get("held_out_absent"))


def read_description(description: str | Path) -> Mapping[str, Any]:
    """The YAML that describes a data set.

    Args:
        description: A shipped name (:func:`shipped_data_sets`) or the path of a YAML file.

    Raises:
        DataError: There is no such description, or it is not YAML.
    """
    source = Path(description)
    if source.suffix not in (".yaml", ".yml"):
        shipped = resources.files("deeplab_rt.training") / "datasets" / f"{description}.yaml"
        if not shipped.is_file():
            raise DataError(
                f"data set {str(description)!r} is unknown; expected one of "
                f"{', '.join(shipped_data_sets())} or the path of a YAML file"
            )
        text = shipped.read_text()
    else:
        if not source.is_file():
            raise DataError(f"data set description {source} does not exist")
        text = source.read_text()
    try:
        data: Mapping[str, Any] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DataError(f"data set description {description}: {error}") from error
    return data


def load_data_set(
    description: str | Path, root: str | Path, split: str, class_names: Sequence[str]
) -> Dataset:
    """Pair the files of one split of a described data set.

    Args:
        description: A shipped name (:func:`shipped_data_sets`) or the path of a YAML file.
        root: The folder its paths are relative to.
        split: A name under ``splits``.
        class_names: The taxonomy: class names in index order.

    Raises:
        DataError: The description is missing or malformed, names a class outside the taxonomy,
            or images and labels do not pair; the message names the first file without a partner.
    """
    data = read_description(description)
    try:
        name = str(data["name"])
        splits = data["splits"]
        image_suffix, label_suffix = str(data["image_suffix"]), str(data["label_suffix"])
        raw_values: Mapping[int, Sequence[str]] = data["values"]
        wanted = splits.get(split)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"data set description {description}: {error}; expected the keys name, splits, "
            "image_suffix, label_suffix, values (docs/training.md shows one)"
        ) from error
    if wanted is None:
        raise DataError(f"data set {name} has no split {split!r}; it has {', '.join(splits)}")

    table = np.full(256, IGNORE, np.uint8)
    group_of: dict[tuple[int, ...], int] = {}
    names: list[str] = []
    optional = set(data.get("optional", []))
    for value, value_classes in sorted(raw_values.items()):
        if not isinstance(value, int) or not 0 <= value <= 255:
            raise DataError(f"data set {name}: pixel value {value!r}; expected 0 to 255")
        known = [label for label in value_classes if label in class_names]
        for label in value_classes:
            if label not in class_names and label not in optional:
                raise DataError(
                    f"data set {name}: value {value} names the class {label!r}; the label set has "
                    f"{', '.join(class_names)}"
                )
        if not known:
            continue
        class_ids = tuple(class_names.index(label) for label in known)
        if class_ids not in group_of:
            group_of[class_ids] = len(group_of)
            names.append(str(data.get("names", {}).get(value, "|".join(known))))
        table[value] = group_of[class_ids]

    root = Path(root)
    images = _files(root / wanted["images"], image_suffix, "image")
    labels = _files(root / wanted["labels"], label_suffix, "label")
    for ours, theirs, what, other in (
        (images, labels, "image", "label"),
        (labels, images, "label", "image"),
    ):
        alone = sorted(set(ours) - set(theirs))
        if alone:
            raise DataError(
                f"{len(alone)} {what} file(s) without a {other}, the first {ours[alone[0]]}; "
                f"expected {alone[0]}{label_suffix if other == 'label' else image_suffix} in "
                f"{root / wanted[other + 's']}"
            )
    keys = sorted(images, key=lambda key: str(images[key]))
    leave_out = wanted.get("leave_out")
    if leave_out and not _held_out_absent(root):
        keys = [k for i, k in enumerate(keys) if i % leave_out["every"] != leave_out["from"]]
    return Dataset(
        name=name,
        names=tuple(names),
        class_ids=tuple(group_of),
        images=tuple(images[key] for key in keys),
        labels=tuple(labels[key] for key in keys),
        values=table,
        licence=str(data.get("licence", "")),
    )
