"""Bounded reading of the YAML files that a user can hand in: manifests, recipes, label sets.

The safe loader runs no code, but a kilobyte of aliases can stand for gigabytes, and deep nesting ends
in a RecursionError. What is read here is at most as large as ``MOST_NODES`` says, aliases expanded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from deeplab_rt.errors import DeeplabError, one_line
from deeplab_rt.files import read_text

MOST_NODES = 50_000  # keys, values and items; a long manifest has a thousand
DEEPEST = 40
_LONGEST_NUMBER = 64  # characters; Python reads more in quadratic time, or refuses


def load_yaml(path: Path, error_class: type[DeeplabError]) -> Any:
    """The content of a YAML file.

    Args:
        path: a regular file in UTF-8, of at most 4 MiB.
        error_class: what to raise.

    Raises:
        DeeplabError: of ``error_class``: it cannot be read, or is not YAML within the bounds.
    """
    try:
        return parse_yaml(read_text(path))
    except OSError as error:
        raise error_class(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise error_class(f"{path}: not a YAML file: {one_line(error)}") from None


def parse_yaml(text: str) -> Any:
    """The content of a YAML text.

    Raises:
        yaml.YAMLError: it is malformed, too deep, or too large.
    """
    loader = _BoundedLoader(text)
    try:
        return loader.get_single_data()
    except yaml.YAMLError:
        raise
    except Exception as error:  # a tag on the wrong text makes PyYAML raise nearly anything
        raise yaml.YAMLError(f"{type(error).__name__}: {one_line(error)}") from None
    finally:
        loader.dispose()


class _BoundedLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which gives up on what would be too large or too deep."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        self._nodes += 1
        if self._depth > DEEPEST:
            raise yaml.YAMLError(f"nested more than {DEEPEST} levels deep")
        if self._nodes > MOST_NODES:
            raise yaml.YAMLError(f"more than {MOST_NODES} keys and values")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def get_single_node(self) -> Any:
        node = super().get_single_node()  # type: ignore[no-untyped-call]
        if node is not None:
            _expanded_size(node, {})
        return node

    def construct_scalar(self, node: Any) -> Any:
        number = node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
        if number and len(node.value) > _LONGEST_NUMBER:
            raise yaml.YAMLError(f"a number of {len(node.value)} digits")
        return super().construct_scalar(node)


def _expanded_size(node: yaml.Node, sizes: dict[int, int | None]) -> int:
    """Nodes below one, aliases expanded.

    Raises:
        yaml.YAMLError: there are too many, or it contains itself.
    """
    if id(node) in sizes:
        known = sizes[id(node)]
        if known is None:
            raise yaml.YAMLError("an alias stands for what it is in")
        return known
    sizes[id(node)] = None
    size = 1
    if isinstance(node, yaml.MappingNode):
        size += sum(_expanded_size(part, sizes) for pair in node.value for part in pair)
    elif isinstance(node, yaml.SequenceNode):
        size += sum(_expanded_size(part, sizes) for part in node.value)
    if size > MOST_NODES:
        raise yaml.YAMLError(f"aliases that stand for more than {MOST_NODES} keys and values")
    sizes[id(node)] = size
    return size
