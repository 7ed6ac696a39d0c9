"""Manifests, recipes and label sets: values that nobody writes, in places where others are expected."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

import deeplab_rt
from deeplab_rt.errors import DeeplabError
from deeplab_rt.labels import label_set_names, load_label_set
from deeplab_rt.models import MANIFEST, load_model
from tests.fuzz import corpus
from tests.fuzz.outcome import Outcome, failed, run_program
from tests.fuzz.pool import Case

PACKAGE = Path(deeplab_rt.__file__).parent

VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 3, 255, 256, 10**9, 2**31, 2**63, -(2**70), 0.5, -0.0, 1e308,
    float("inf"), float("-inf"), float("nan"), "", "x", "0", "12", "x" * 5000, "a\0b", "\n", "../..",
    "/etc/passwd", "~nouser12345", "\u202e", "%s{}", [], [0], [[]], [None] * 300, ["a", "a"], {},
    {"a": 1}, {1: 2}, [{"id": 1}], [[[[[[1]]]]]],
]  # fmt: skip


def manifest(case: Case, folder: Path) -> Outcome:
    """A model directory whose manifest is damaged."""
    directory = Path(shutil.copytree(corpus.model(folder), "model"))
    path = directory / MANIFEST
    path.write_bytes(damaged(path.read_text(encoding="utf-8"), case.rng()))

    def load() -> None:
        model = load_model(directory.absolute())
        for precision in model.files:
            model.file(precision)
        assert model.cpu_precision

    return _called(load)


def label_set(case: Case, folder: Path) -> Outcome:
    """A label set whose file is damaged."""
    name = sorted(label_set_names())[case.index % len(label_set_names())]
    text = (PACKAGE / "label_sets" / f"{name}.yaml").read_text(encoding="utf-8")
    path = Path("labels.yaml")
    path.write_bytes(damaged(text, case.rng()))

    def load() -> None:
        labels = load_label_set(path)
        assert labels.palette.shape == (256, 3)
        assert len(labels.to_list()) == len(labels)
        assert labels.drivable_lut.size == labels.objects_lut.size == 256

    return _called(load)


def recipe(case: Case, folder: Path) -> Outcome:
    """A recipe that is damaged, up to where its data would be read (there are none)."""
    recipes = sorted((PACKAGE / "training" / "recipes").glob("*.yaml"))
    path = Path("recipe.yaml")
    text = recipes[case.index % len(recipes)].read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    content |= {"init": "random", "teacher": ""}  # what does without another run's files
    path.write_bytes(damaged(yaml.safe_dump(content), case.rng()))
    run = run_program(["train", path, "-o", "run", "--data", "nowhere", "--steps", "1"])
    if outcome := run.failure():
        return outcome
    return Outcome("told", run.err) if run.code else Outcome("unclear", "it was trained on nothing")


def damaged(text: str, rng: random.Random) -> bytes:
    """A YAML text of which the structure or the bytes are damaged."""
    kind = rng.random()
    if kind < 0.7:
        content = yaml.safe_load(text)
        for _ in range(rng.choice([1, 1, 1, 2, 4])):
            content = _mutated(content, rng)
        return yaml.safe_dump(content, allow_unicode=True).encode("utf-8", "surrogatepass")
    raw = bytearray(text.encode())
    if kind < 0.8:
        return bytes(raw[: rng.randrange(len(raw))])
    for _ in range(rng.choice([1, 2, 8, 64])):
        raw[rng.randrange(len(raw))] = rng.choice(b"\0\xff[]{}:-&*!|>'\"%@`\n\t #")
    return bytes(raw)


def _mutated(value: Any, rng: random.Random) -> Any:
    """The value with one part of it replaced, removed, doubled or renamed."""
    if not isinstance(value, (dict, list)) or not value or rng.random() < 0.15:
        return rng.choice(VALUES)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = rng.choice(keys)
    action = rng.random()
    if action < 0.12:
        del value[key]
    elif action < 0.2 and isinstance(value, dict):
        value[rng.choice(["extra", "", 5, "a\0b", "x" * 500])] = value.pop(key)
    elif action < 0.2:
        value.append(value[key])
    else:
        value[key] = _mutated(value[key], rng)
    return value


def _called(function: Callable[[], None]) -> Outcome:
    """Call what may raise a DeeplabError of one sentence, and nothing else."""
    try:
        function()
    except DeeplabError as error:
        text = str(error)
        if len(text) > 2000:
            return Outcome("unclear", f"a message of {len(text)} characters: {text[:300]}")
        return Outcome("told", text)
    except BaseException as error:
        return failed(error)
    return Outcome("whole")
