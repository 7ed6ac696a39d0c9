"""Dataclasses from the plain values of a YAML or JSON file, every type and range checked."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from deeplab_rt.errors import DeeplabError

T = TypeVar("T")
Ranges = Mapping[str, tuple[float, float]]
_SHORT = 120  # characters of a value that a message shows


def dataclass_from(
    kind: type[T],
    values: Any,
    where: str,
    error_class: type[DeeplabError],
    ranges: Ranges | None = None,
) -> T:
    """Make a dataclass from a mapping; lists become tuples.

    Args:
        kind: a dataclass with fields of bool, int, float, str, tuples of these, and None.
        values: of some of its fields.
        where: what they are of, for messages.
        error_class: what to raise.
        ranges: field -> (least, greatest) of its number, or of each number in its tuples.

    Raises:
        DeeplabError: of ``error_class``; the message names the field and what it takes.
    """
    if not isinstance(values, Mapping):
        raise error_class(f"{where}: expected a mapping, not {shown(values)}")
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    chosen = {}
    for key, value in values.items():
        if key not in names:
            raise error_class(f"{where}: unknown key {shown(key)}; it has {', '.join(names)}")
        try:
            chosen[key] = _converted(value, hints[key])
        except TypeError:
            raise error_class(
                f"{where}: {key} is {shown(value)}; expected {_described(hints[key])}"
            ) from None
        least, greatest = (ranges or {}).get(key, (-math.inf, math.inf))
        for number in _numbers(chosen[key]):
            if not least <= number <= greatest:
                raise error_class(
                    f"{where}: {key} is {shown(value)}; expected {least:g} to {greatest:g}"
                )
    return kind(**chosen)


def shown(value: Any) -> str:
    """A value as a message shows it: in one line, and not all of a long one."""
    text = ascii(value)
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}..."


def _converted(value: Any, hint: Any) -> Any:
    """The value as the type that is meant.

    Raises:
        TypeError: it is of another one.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        (hint,) = (argument for argument in arguments if argument is not type(None))
        return _converted(value, hint)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise TypeError
        if arguments[-1] is Ellipsis:
            return tuple(_converted(item, arguments[0]) for item in value)
        if len(value) != len(arguments):
            raise TypeError
        return tuple(_converted(item, part) for item, part in zip(value, arguments, strict=True))
    if hint is float and type(value) is int and abs(value) < 1 << 53:
        return value
    if type(value) is not hint or (hint is float and not math.isfinite(value)):
        raise TypeError
    return value


def _numbers(value: Any) -> list[float]:
    """The numbers of a value, however deep in tuples."""
    if isinstance(value, tuple):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, (int, float)) else []


def _described(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return " or ".join(
            "null" if part is type(None) else _described(part) for part in typing.get_args(hint)
        )
    return names.get(hint) or str(hint).replace("tuple", "a list of ")
