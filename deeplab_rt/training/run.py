"""One training run from its recipe to its weights and its plot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from deeplab_rt.errors import DataError
from deeplab_rt.network.checkpoints import (
    describe,
    load_checkpoint,
    load_matching,
    read_state,
    save_checkpoint,
)
from deeplab_rt.network.encoders import load_imagenet_lite0
from deeplab_rt.network.model import ArchitectureError, DeepLab
from deeplab_rt.network.pruning import narrow
from deeplab_rt.training.distillation import Teacher
from deeplab_rt.training.loop import Trainer
from deeplab_rt.training.recipe import Recipe, load_recipe

TEACHER_SCALE = 1.3
"""How much larger the teacher sees a sample: the default's weights gain 1.4 points of mIoU by it."""

LICENCE = (
    "The weights follow the terms of the pictures they learned from (training_data), apart from the "
    "licence of the code."
)


def train(
    recipe_name: str | Path,
    output: Path,
    data_root: Path,
    *,
    resume: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Path:
    """Train by a recipe and write ``model.safetensors`` (the averaged weights) to the run folder.

    Args:
        recipe_name: See :func:`load_recipe`.
        output: The run folder: log, epochs, plot and weights.
        data_root: What the recipe's data roots are relative to.
        resume: None starts anew; "newest" or the path of an epoch's file continues.
        overrides: Loop options that replace the recipe's.

    Returns:
        The path of the weights.

    Raises:
        DataError: The recipe or the data are malformed, the run folder already holds a run, there
            is nothing to resume from, or the loss became infinite or NaN.
    """
    recipe = load_recipe(recipe_name, overrides)
    epochs = sorted(output.glob("epoch_*.pt"))
    if resume is None and epochs:
        raise DataError(
            f"{output} already holds a run; add --resume to continue it, or choose another folder"
        )
    if resume == "newest" and not epochs:
        raise DataError(
            f"{output} has no epoch_NNNN.pt to resume from; leave --resume out to start"
        )

    torch.manual_seed(recipe.loop.seed)
    # The network's own threads fill the cores.
    cv2.setNumThreads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = DeepLab(recipe.architecture, len(recipe.labels))
    if resume is None:
        if recipe.init == "imagenet":
            if recipe.architecture.encoder != "efficientnet_lite0":
                raise DataError(
                    f"recipe: there are no ImageNet weights for {recipe.architecture.encoder} here; "
                    "expected init: random or the path of a checkpoint"
                )
            load_imagenet_lite0(model.encoder)
        elif recipe.init != "random":
            print(_start_from(Path(recipe.init), model, recipe, data_root))
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    datasets = recipe.datasets(data_root)
    for dataset in datasets:
        print(
            f"{dataset.data.name}: {len(dataset.data)} training images, {dataset.per_batch} a batch"
        )
    training_data = [
        {"name": s.data.name, "pictures": len(s.data), "terms": s.data.licence} for s in datasets
    ]
    extra = {"training_data": training_data, "licence": LICENCE}
    metadata = describe(model, recipe.labels, recipe.size, extra)
    trainer = Trainer(
        model,
        datasets,
        recipe.validation_sets(data_root),
        recipe.size,
        output,
        recipe.augment,
        recipe.loop,
        teacher=(
            Teacher(recipe.teacher, recipe.labels, recipe.augment.crops[0], TEACHER_SCALE)
            if recipe.teacher
            else None
        ),
        metadata=metadata,
        log=lambda line: print(line, flush=True),
    )
    if resume is not None:
        trainer.resume(epochs[-1] if resume == "newest" else Path(resume))
    trainer.run()
    path = output / "model.safetensors"
    save_checkpoint(path, trainer.averaged, metadata)
    plot_run(output)
    return path


def _start_from(path: Path, model: DeepLab, recipe: Recipe, data_root: Path) -> str:
    """Fill a network from a checkpoint; one of a wider encoder is narrowed. What was done, in words."""
    if not path.is_file():
        raise DataError(
            f"recipe: init {path} does not exist; expected the weights of an earlier run (a shipped "
            "recipe says of which), imagenet or random"
        )
    _, metadata = read_state(path)
    theirs = json.loads(metadata.get("architecture", "{}")).get("encoder")
    if theirs not in (None, recipe.architecture.encoder):
        try:
            lost = narrow(load_checkpoint(path).model, model, _some_frames(recipe, data_root))
            return f"{path}: narrowed, {max(lost):.0%} of a block's variance lost at most"
        except ArchitectureError as error:
            print(f"{path}: not narrowed: {error}")
    return load_matching(model, path, recipe.labels)


def _some_frames(recipe: Recipe, data_root: Path, count: int = 24) -> Tensor:
    """Training pictures at the network's size, evenly spaced over each set: uint8 [N, H, W, 3]."""
    height, width = recipe.size
    frames = []
    for data in recipe.training_sets(data_root):
        for index in np.linspace(0, len(data) - 1, count // len(recipe.data)).astype(int):
            image, _ = data.read(int(index))
            frames.append(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR))
    return torch.from_numpy(np.stack(frames))


def plot_run(folder: Path) -> Path | None:
    """Draw ``run.png`` from a run's ``log.jsonl``: the loss, and the mIoU of every validation set.

    Returns:
        The picture's path; None without Matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = [record["step"] for record in records]
    left.plot(steps, [record["loss"] for record in records])
    left.set(xlabel="step", ylabel="loss")
    for name in records[0]["validation"]:
        right.plot(steps, [record["validation"][name]["miou"] for record in records], label=name)
    right.set(xlabel="step", ylabel="validation mIoU, averaged weights")
    right.legend()
    path = folder / "run.png"
    figure.savefig(path)
    return path
