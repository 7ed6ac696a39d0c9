"""One training run from its recipe to its weights and its plot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import torch

from deeplab_rt.errors import DataError, ModelError
from deeplab_rt.models import load_model
from deeplab_rt.network.checkpoints import describe, load_matching, save_checkpoint
from deeplab_rt.network.encoders import load_imagenet_lite0
from deeplab_rt.network.model import DeepLab
from deeplab_rt.training.distillation import Teacher
from deeplab_rt.training.loop import Trainer
from deeplab_rt.training.recipe import Recipe, load_recipe

TEACHER_SCALE = 1.3
"""How much larger the teacher sees a sample: the default's weights gain 1.4 points of mIoU by it."""

LICENCE = (
    "The weights follow the terms of the data they learned from (training_data), apart from the "
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

    path = output / "model.safetensors"
    start = None
    if resume is not None:
        start = epochs[-1] if resume == "newest" else Path(resume)
        if path.is_file() and resume == "newest" and _is_finished(start, recipe):
            print(f"{output}: the run is finished, nothing to do (its weights: {path})")
            return path

    torch.manual_seed(recipe.loop.seed)
    # The network's own threads fill the cores.
    cv2.setNumThreads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = DeepLab(recipe.architecture, len(recipe.labels))
    if start is None:
        if recipe.init == "imagenet":
            if recipe.architecture.encoder != "efficientnet_lite0":
                raise DataError(
                    f"recipe: there are no ImageNet weights for {recipe.architecture.encoder} here; "
                    "expected init: random or the path of a checkpoint"
                )
            load_imagenet_lite0(model.encoder)
        elif recipe.init != "random":
            print(load_matching(model, initial_weights(recipe.init), recipe.labels))
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    datasets = recipe.datasets(data_root)
    for dataset in datasets:
        print(
            f"{dataset.data.name}: {len(dataset.data)} training images, {dataset.per_batch} a batch"
        )
    training_data = [
        {"name": s.data.name, "images": len(s.data), "terms": s.data.licence} for s in datasets
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
        teacher=(Teacher(recipe.teacher, recipe.labels, TEACHER_SCALE) if recipe.teacher else None),
        metadata=metadata,
        log=lambda line: print(line, flush=True),
    )
    if start is not None:
        trainer.resume(start)
    trainer.run()
    save_checkpoint(path, trainer.averaged, metadata)
    plot_run(output)
    return path


def _is_finished(epoch: Path, recipe: Recipe) -> bool:
    state = torch.load(epoch, map_location="cpu", weights_only=True, mmap=True)
    return recipe.loop.progress(state["step"], state["elapsed"]) >= 1


def initial_weights(init: str) -> Path:
    """The file that a recipe's ``init`` names: a checkpoint's path, or a model's name or directory.

    Raises:
        DataError: There is none; the message says what was expected.
    """
    path = Path(init)
    if path.is_file():
        return path
    try:
        directory = load_model(init).directory
    except ModelError as error:
        raise DataError(
            f"recipe: init {init!r} is neither a checkpoint nor a model ({error}); expected the path "
            "of one, a model's name, imagenet or random"
        ) from error
    weights = directory / "model.safetensors"
    if not weights.is_file():
        raise DataError(
            f"recipe: init {init!r}: {directory} has no model.safetensors to train from; expected a "
            "model that ships it, or the weights of a run"
        )
    return weights


def plot_run(folder: Path) -> Path | None:
    """Draw ``run.png`` from a run's ``log.jsonl``: the loss, and the mIoU of every validation set.

    Returns:
        The plot's path; None without Matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = [record["step"] for record in records]
    # Markers: a run of one epoch is a point.
    left.plot(steps, [record["loss"] for record in records], marker=".")
    left.set(xlabel="step", ylabel="loss")
    for name in records[0]["validation"]:
        miou = [record["validation"][name]["miou"] for record in records]
        right.plot(steps, miou, marker=".", label=name)
    right.set(xlabel="step", ylabel="validation mIoU, averaged weights")
    if records[0]["validation"]:
        right.legend()
    path = folder / "run.png"
    figure.savefig(path)
    return path
