"""Runs the backends of a model over data sets and sequences, and holds them against each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplab_rt.errors import CheckpointError, ModelError
from deeplab_rt.files import write_atomically
from deeplab_rt.frame import Frame, Size
from deeplab_rt.input_shape import shape_for
from deeplab_rt.labels import LabelSet
from deeplab_rt.models import Model, check_input_size, load_model, write_manifest
from deeplab_rt.segmenter import Segmenter
from deeplab_rt.training.card import METRICS, read_metrics, write_card
from deeplab_rt.training.data import load_data_set
from deeplab_rt.training.evaluation import Evaluation, Predictor, evaluate
from deeplab_rt.training.sequence import measure_flicker
from deeplab_rt.training.validation import predict_with_confidence

FrameSequence = tuple[str, Callable[[], AbstractContextManager[Iterable[Frame]]]]
"""A sequence's name, and what opens its frames."""

HOW = (
    "labels at each image's own size, network input of the image's aspect, single scale, no "
    "test-time augmentation"
)


@dataclass
class Measured:
    """Evaluations by (data set, runner); a runner is a backend with its precision, or torch.

    Attributes:
        subject: The model or checkpoint.
        split: Of the data sets.
        size: Height and width of the network's own input.
        fixed: Whether the input had that size whatever the image's aspect.
        evaluations: See above.
        sequences: What was counted of each sequence: name, runner and :meth:`Flicker.summary`.
    """

    subject: str
    split: str
    size: tuple[int, int]
    fixed: bool = False
    evaluations: dict[tuple[str, str], Evaluation] = field(default_factory=dict)
    sequences: list[dict[str, Any]] = field(default_factory=list)

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
                    "void": evaluation.void_shares(),
                    "confusion": {
                        "names": [*evaluation.confusion.names, "other"],
                        "counts": evaluation.confusion.counts.tolist(),
                    },
                }
            )
        return {
            "model": self.subject,
            "input": list(self.size),
            "results": results,
            "sequences": self.sequences,
        }

    def _agreement(self, name: str, evaluation: Evaluation) -> float:
        first = next(e for (other, _), e in self.evaluations.items() if other == name)
        return round(evaluation.agreement(first), 5)

    def text(self, void: bool = False) -> str:
        """A few lines per evaluation, for people.

        Args:
            void: Whether to say what the pixels without a label were predicted as.
        """
        shape = "" if self.fixed else " or as many pixels at the image's aspect"
        lines = [f"{self.subject}, network input {self.size[1]}x{self.size[0]}{shape}"]
        for (name, runner), evaluation in self.evaluations.items():
            s = evaluation.summary()
            miou = "-" if s["miou"] is None else f"{s['miou']:.4f}"
            lines.append(
                f"\n{name} {self.split} ({s['images']} images), {runner}: mIoU {miou}, "
                f"pixel accuracy {s['pixel_accuracy']:.4f}, expected calibration error "
                f"{s['calibration_error']:.4f}"
            )
            for group in ("drivable", "objects"):
                if group in s:
                    figures = ", ".join(f"{k} {v:.4f}" for k, v in s[group].items())
                    lines.append(f"  {group}: {figures}")
            iou = ", ".join(f"{k} {v:.3f}" for k, v in s["iou"].items() if v is not None)
            lines.append(f"  IoU: {iou}")
            if s["without_truth"]:
                lines.append(f"  not measured, no pixel of it: {', '.join(s['without_truth'])}")
            agreement = self._agreement(name, evaluation)
            if agreement < 1:
                lines.append(f"  same label as the first runner in {agreement:.3%} of pixels")
            if void:
                shares = sorted(evaluation.void_shares().items(), key=lambda pair: -pair[1])
                said = ", ".join(f"{n} {share:.1%}" for n, share in shares if share)
                lines.append(f"  pixels without a label, predicted as: {said or 'there are none'}")
        for entry in self.sequences:
            lines.append(
                f"\n{entry['sequence']} ({entry['frames']} frames), {entry['runner']}: "
                f"{entry['flicker']:.2%} of the pixels that optical flow follows "
                f"({entry['followed']:.1%} of all) change their label from frame to frame, "
                f"{entry['drivable_flicker']:.2%} become or cease to be drivable"
            )
        return "\n".join(lines)


@contextmanager
def _torch_runner(
    path: Path, size: tuple[int, int] | None
) -> Iterator[tuple[str, Predictor, LabelSet, tuple[int, int]]]:
    from deeplab_rt.network.checkpoints import load_checkpoint

    checkpoint = load_checkpoint(path)
    if checkpoint.labels is None:
        raise CheckpointError(
            f"{path} has no names for its {checkpoint.model.classes} classes; export it with "
            "--labels and evaluate the model directory"
        )
    own = check_input_size(size or checkpoint.size or (480, 640))

    def predict(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        shape = size or shape_for(Size.of(image), Size(*own))
        return predict_with_confidence(checkpoint.model, image, shape)

    yield "torch fp32", predict, checkpoint.labels, own


@contextmanager
def _model_runner(
    model: Model, backend: str, precision: str, size: tuple[int, int] | None
) -> Iterator[tuple[str, Predictor, LabelSet, tuple[int, int]]]:
    with Segmenter(
        model, backend=backend, precision=precision, input_size=size, confidence=True
    ) as segmenter:

        def predict(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
            masks = segmenter.segment(image, channels="rgb")
            assert masks.confidence is not None
            # Both belong to the backend until the next frame.
            return (masks.labels - 1).astype(np.uint8), masks.confidence.copy()

        runner = f"{segmenter.info.name} {segmenter.info.precision}"
        yield runner, predict, model.labels, size or model.input_size


def measure(
    *,
    model: str,
    checkpoint: Path | None,
    backend: str,
    precisions: Sequence[str],
    size: tuple[int, int] | None,
    data: Sequence[tuple[str, Path]],
    split: str,
    sequences: Sequence[FrameSequence] = (),
    limit: int | None = None,
) -> Measured:
    """Evaluate a checkpoint by torch, or a model's precisions on a backend.

    Args:
        model: Name or directory, where no checkpoint is given.
        checkpoint: Torch weights.
        backend: See :class:`Segmenter`.
        precisions: The first is what the others are compared with.
        size: Height and width of the network's input; None takes as many pixels as the model's own
            at the aspect of each image.
        data: Pairs of a data set (:func:`load_data_set`) and its folder.
        split: Which split of each.
        sequences: Frames in order, whose flicker is counted: a name, and what opens them.
        limit: So many images of each data set, evenly spaced; None takes all.
    """
    runners: list[Callable[[], Any]]
    if checkpoint is not None:
        runners = [partial(_torch_runner, checkpoint, size)]
        measured = Measured(str(checkpoint), split, size or (0, 0), size is not None)
    else:
        loaded = load_model(model)
        runners = [
            partial(_model_runner, loaded, backend, precision, size)
            for precision in dict.fromkeys(precisions)
        ]
        measured = Measured(model, split, size or loaded.input_size, size is not None)
    for runner in runners:
        with runner() as (name, predictor, labels, own_size):
            measured.size = own_size
            for description, folder in data:
                data_set = load_data_set(description, folder, split, labels.names)
                data_set = data_set.every(limit or len(data_set))
                measured.evaluations[data_set.name, name] = evaluate(predictor, data_set, labels)
            for sequence, open_frames in sequences:
                flicker = _flicker(open_frames, predictor, labels)
                measured.sequences.append({"sequence": sequence, "runner": name, **flicker})
    return measured


def _flicker(
    open_frames: Callable[[], AbstractContextManager[Iterable[Frame]]],
    predictor: Predictor,
    labels: LabelSet,
) -> dict[str, Any]:
    with open_frames() as source:
        frames = (
            frame.image if frame.channels == "rgb" else np.ascontiguousarray(frame.image[..., ::-1])
            for frame in source
        )
        return measure_flicker(frames, lambda frame: predictor(frame)[0], labels).summary()


def record(model: str, measured: Measured) -> None:
    """Write the figures to ``metrics.json`` beside the manifest, in place of those of the same data,
    split and runner; a line for each to the manifest's ``accuracy``; and the model card.

    Raises:
        ModelError: What was measured is not the model with its own input.
    """
    stored = load_model(model)
    if measured.subject != model or measured.fixed:
        raise ModelError(
            "--record writes figures of the model with its own input; leave out --checkpoint and "
            "--size"
        )
    metrics = read_metrics(stored)
    new = measured.full()

    def merged(key: str, names: tuple[str, ...]) -> list[dict[str, Any]]:
        taken = {tuple(entry[n] for n in names) for entry in new[key]}
        old = [e for e in metrics.get(key, []) if tuple(e[n] for n in names) not in taken]
        return sorted([*old, *new[key]], key=lambda e: tuple(e[n] for n in names))

    metrics = {
        "how": HOW,
        "results": merged("results", ("data", "split", "runner")),
        "sequences": merged("sequences", ("sequence", "runner")),
    }
    text = json.dumps(metrics, separators=(",", ":")).replace('{"data"', '\n{"data"')
    write_atomically(stored.directory / METRICS, (text + "\n").encode())
    files = {k: {"path": path.name} for k, (path, _) in stored.files.items()}
    accuracy = [
        {
            "data": entry["data"],
            "split": entry["split"],
            "runner": entry["runner"],
            "miou": entry["miou"],
            **({"drivable": entry["drivable"]["iou"]} if "drivable" in entry else {}),
        }
        for entry in metrics["results"]
    ]
    manifest = {**stored.manifest, "files": files, "accuracy": accuracy}
    write_card(write_manifest(stored.directory, manifest))
