"""Label sets: names, published ids, colours and groups.

Published label ids start at 1 and 0 means "none", so that an object mask can say "nothing here"
as Nav2's semantic layers expect. The class index of the network is ``id - 1``.

A label set is one YAML file in ``label_sets/``; adding a set is adding a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_rt.errors import LabelError
from deeplab_rt.files import expand_user
from deeplab_rt.yaml_files import load_yaml

GROUPS = ("drivable", "objects")
MAX_LABELS = 255
LONGEST_NAME = 100  # characters of a label's name
_LABEL_SETS = Path(__file__).parent / "label_sets"


@dataclass(frozen=True)
class Label:
    """One class.

    Attributes:
        id: published id, 1 to 255; class index + 1.
        name: lower-case name, unique in its set.
        color: (red, green, blue), 0 to 255 each.
        groups: which of ``GROUPS`` the class belongs to; may be empty.
    """

    id: int
    name: str
    color: tuple[int, int, int]
    groups: frozenset[str] = field(default_factory=frozenset)

    def to_dict(self) -> dict[str, Any]:
        """As one entry of a manifest's ``labels:`` list."""
        groups = [g for g in GROUPS if g in self.groups]
        return {"id": self.id, "name": self.name, "color": list(self.color), "groups": groups}


@dataclass(frozen=True)
class LabelSet:
    """An ordered set of labels: ``labels[i]`` has id ``i + 1`` and is class ``i`` of the network.

    Raises:
        LabelError: ids are not 1, 2, 3 ... in order, a name repeats, or there are more than 255.
    """

    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.labels) <= MAX_LABELS:
            raise LabelError(f"a label set holds 1 to {MAX_LABELS} labels, not {len(self.labels)}")
        for index, label in enumerate(self.labels):
            if label.id != index + 1:
                raise LabelError(
                    f"label {label.name!r} has id {label.id}, expected {index + 1}: "
                    "ids are class index + 1, in order (0 means none)"
                )
        seen: set[str] = set()
        for label in self.labels:
            if label.name in seen:
                raise LabelError(f"label name {label.name!r} appears twice")
            seen.add(label.name)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    def index(self, name: str) -> int:
        """Class index of a name.

        Raises:
            LabelError: the set has no such name; the message lists those it has.
        """
        try:
            return self.names.index(name)
        except ValueError:
            known = ", ".join(self.names)
            raise LabelError(f"unknown label {name!r}; this model knows: {known}") from None

    def group(self, group: str) -> tuple[str, ...]:
        """Names of the labels in a group, in order."""
        return tuple(label.name for label in self.labels if group in label.groups)

    def regrouped(
        self, drivable: Sequence[str] | None = None, objects: Sequence[str] | None = None
    ) -> LabelSet:
        """The same labels with other groups; ``None`` keeps a group as it is.

        Raises:
            LabelError: a name is unknown.
        """
        wanted = {"drivable": drivable, "objects": objects}
        for names in wanted.values():
            for name in names or ():
                self.index(name)

        def groups_of(label: Label) -> frozenset[str]:
            return frozenset(
                group
                for group, names in wanted.items()
                if (group in label.groups if names is None else label.name in names)
            )

        return LabelSet(tuple(replace(label, groups=groups_of(label)) for label in self.labels))

    @cached_property
    def drivable_lut(self) -> np.ndarray:
        """uint8 [256]: label id -> 255 drivable, 0 not."""
        return self._lut({label.id: 255 for label in self.labels if "drivable" in label.groups})

    @cached_property
    def objects_lut(self) -> np.ndarray:
        """uint8 [256]: label id -> the same id for an object class, 0 for the rest."""
        return self._lut({label.id: label.id for label in self.labels if "objects" in label.groups})

    @cached_property
    def palette(self) -> np.ndarray:
        """uint8 [256, 3]: label id -> RGB colour; ids of no label are black."""
        palette = np.zeros((256, 3), np.uint8)
        for label in self.labels:
            palette[label.id] = label.color
        palette.setflags(write=False)
        return palette

    @staticmethod
    def _lut(values: dict[int, int]) -> np.ndarray:
        lut = np.zeros(256, np.uint8)
        for key, value in values.items():
            lut[key] = value
        lut.setflags(write=False)
        return lut

    def to_list(self) -> list[dict[str, Any]]:
        """As the ``labels:`` list of a manifest."""
        return [label.to_dict() for label in self.labels]

    @classmethod
    def from_list(cls, entries: Iterable[Any], source: str = "label set") -> LabelSet:
        """Build from the ``labels:`` list of a manifest or label-set file.

        Args:
            entries: mappings with ``id``, ``name``, ``color`` and ``groups``.
            source: where they come from, for error messages.

        Raises:
            LabelError: an entry is malformed; the message names it.
        """
        return cls(tuple(_parse_label(entry, source) for entry in entries))


def _parse_label(entry: Any, source: str) -> Label:
    expected = "expected {id: 1..255, name: TEXT, color: [R, G, B], groups: [drivable|objects]}"
    try:
        label_id, name = entry["id"], entry["name"]
        red, green, blue = entry["color"]
        groups = frozenset(entry.get("groups") or ())
    except (TypeError, KeyError, ValueError, AttributeError):
        raise LabelError(f"{source}: malformed label {_short(entry)}; {expected}") from None
    numbers = (label_id, red, green, blue)
    in_range = all(type(n) is int and 0 <= n <= 255 for n in numbers)
    if not in_range or not isinstance(name, str) or not name or not groups <= set(GROUPS):
        raise LabelError(f"{source}: malformed label {_short(entry)}; {expected}")
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise LabelError(
            f"{source}: label name {_short(name)}: expected 1 to {LONGEST_NAME} printable characters"
        )
    return Label(label_id, name, (red, green, blue), groups)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def label_set_names() -> tuple[str, ...]:
    """Names of the label sets that ship with the package."""
    return tuple(sorted(path.stem for path in _LABEL_SETS.glob("*.yaml")))


def load_label_set(name_or_path: str | Path) -> LabelSet:
    """A shipped label set by name (``camvid11``), or one from a YAML file.

    Raises:
        LabelError: no such set, or the file is malformed.
    """
    path = expand_user(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        if str(name_or_path) not in label_set_names():
            known = ", ".join(label_set_names())
            raise LabelError(
                f"no label set {str(name_or_path)!r}; shipped: {known}; or give a .yaml file"
            )
        path = _LABEL_SETS / f"{name_or_path}.yaml"
    content = load_yaml(path, LabelError)
    entries = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise LabelError(f"{path}: expected a mapping with a list `labels:`")
    return LabelSet.from_list(entries, source=str(path))
