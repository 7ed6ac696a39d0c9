"""Runs the backends of a model over data sets and holds them against each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplab_rt.errors import CheckpointError, ModelError
from deeplab_rt.labels import LabelSet
from deeplab_rt.models import check_input_size, load_model, write_manifest
from deeplab_rt.segmenter import Segmenter
from deeplab_rt.training.card import write_card
from deeplab_rt.training.data import load_data_set
from deeplab_rt.training.evaluation import Evaluation, Predictor, evaluate


@dataclass
class Measured:
    """Evaluations by (data set, runner); a runner is a backend with its precision, or torch."""

    subject: str
    split: str
    size: tuple[int, int]
    evaluations: dict[tuple[str, str], Evaluation] = field(default_factory=dict)

    def full(self) -> dict[str, Any]:
        """Everything, the confusion matrices included, as plain values."""
        results = []
        for (name, runner), evaluation in self.evaluations.items():
            results.append(
                {
                    "data": name,
                    "split": self.split,
                    "runner": runner,
                    **evaluation.summary(),
                    "agreement": self._agreement(name, evaluation),
                    "worst": [evaluation.data.images[i].name for i in evaluation.worst(3)],
                    "confusion": {
                        "names": evaluation.confusion.names,
                        "counts": evaluation.confusion.counts.tolist(),
                    },
                }
            )
        return {"model": self.subject, "input": list(self.size), "results": results}

    def _agreement(self, name: str, evaluation: Evaluation) -> float:
        first = next(e for (other, _), e in self.evaluations.items() if other == name)
        return round(evaluation.agreement(first), 5)

    def text(self) -> str:
        """A few lines per evaluation, for people."""
        lines = [f"{self.subject}, network input {self.size[1]}x{self.size[0]}"]
        for (name, runner), evaluation in self.evaluations.items():
            s = evaluation.summary()
            lines.append(
                f"\n{name} {self.split} ({s['pictures']} pictures), {runner}: mIoU {s['miou']:.4f}, "
                f"pixel accuracy {s['pixel_accuracy']:.4f}"
            )
            for group in ("drivable", "objects"):
                if group in s:
                    figures = ", ".join(f"{k} {v:.4f}" for k, v in s[group].items())
                    lines.append(f"  {group}: {figures}")
            iou = ", ".join(
                f"{k} {'-' if v is None else format(v, '.3f')}" for k, v in s["iou"].items()
            )
            lines.append(f"  IoU: {iou}")
            agreement = self._agreement(name, evaluation)
            if agreement < 1:
                lines.append(f"  same label as the first runner in {agreement:.3%} of pixels")
        return "\n".join(lines)


@contextmanager
def _torch_predictor(
    path: Path, size: tuple[int, int] | None
) -> Iterator[tuple[Predictor, LabelSet, tuple[int, int]]]:
    from deeplab_rt.network.checkpoints import load_checkpoint
    from deeplab_rt.training.loop import predict

    checkpoint = load_checkpoint(path)
    if checkpoint.labels is None:
        raise CheckpointError(
            f"{path} has no names for its {checkpoint.model.classes} classes; export it with "
            "--labels and evaluate the model directory"
        )
    size = check_input_size(size or checkpoint.size or (480, 640))
    yield lambda image: predict(checkpoint.model, image, size), checkpoint.labels, size


def measure(
    *,
    model: str,
    checkpoint: Path | None,
    backend: str,
    precisions: Sequence[str],
    size: tuple[int, int] | None,
    data: Sequence[tuple[str, Path]],
    split: str,
) -> Measured:
    """Evaluate a checkpoint by torch, or a model's precisions on a backend, on data sets.

    Args:
        model: Name or directory, where no checkpoint is given.
        checkpoint: Torch weights.
        backend: See :class:`Segmenter`.
        precisions: The first is what the others are compared with.
        size: Height and width of the network's input; None takes the model's own.
        data: Pairs of a data set (:func:`load_data_set`) and its folder.
        split: Which split of each.
    """
    if checkpoint is not None:
        with _torch_predictor(checkpoint, size) as (predictor, labels, own_size):
            measured = Measured(str(checkpoint), split, own_size)
            for name, folder in data:
                data_set = load_data_set(name, folder, split, labels.names)
                evaluation = evaluate(predictor, data_set, labels)
                measured.evaluations[data_set.name, "torch fp32"] = evaluation
        return measured
    measured = Measured(model, split, size or load_model(model).input_size)
    for precision in dict.fromkeys(precisions):
        with Segmenter(model, backend=backend, precision=precision, input_size=size) as segmenter:

            def by_segmenter(
                image: NDArray[np.uint8], s: Segmenter = segmenter
            ) -> NDArray[np.uint8]:
                return (s.segment(image, channels="rgb").labels - 1).astype(np.uint8)

            runner = f"{segmenter.info.name} {segmenter.info.precision}"
            for name, folder in data:
                data_set = load_data_set(name, folder, split, segmenter.labels.names)
                evaluation = evaluate(by_segmenter, data_set, segmenter.labels)
                measured.evaluations[data_set.name, runner] = evaluation
    return measured


def record(model: str, measured: Measured) -> None:
    """Write the figures (without confusion matrices) to the manifest's ``accuracy``, and the model
    card from it.

    Raises:
        ModelError: What was measured is not the model at its own input size.
    """
    stored = load_model(model)
    if measured.subject != model or measured.size != stored.input_size:
        raise ModelError(
            "--record writes figures of the model at its own input size; leave out --checkpoint and "
            "--size"
        )
    results = []
    for result in measured.full()["results"]:
        del result["confusion"]
        results.append(result)
    files = {k: {"path": path.name} for k, (path, _) in stored.files.items()}
    how = "masks at each picture's own size, single scale, no test-time augmentation"
    accuracy = {"how": how, "results": results}
    manifest = {**stored.manifest, "files": files, "accuracy": accuracy}
    write_card(write_manifest(stored.directory, manifest))
