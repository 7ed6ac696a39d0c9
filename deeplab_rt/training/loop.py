"""The training loop: EMA weights, resumable epochs, a log line for each."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from deeplab_rt.errors import DataError
from deeplab_rt.files import PartialFile
from deeplab_rt.network.model import DeepLab
from deeplab_rt.training.augment import AugmentOptions
from deeplab_rt.training.cache import Batch, CachedDataset, make_batch, prefetch
from deeplab_rt.training.data import Dataset
from deeplab_rt.training.distillation import Teacher, distillation_loss
from deeplab_rt.training.losses import balanced_weights, segmentation_loss
from deeplab_rt.training.precision import bf16_is_native, keep_slow_convs_float32
from deeplab_rt.training.schedule import LoopOptions, parameter_groups, rate_at
from deeplab_rt.training.validation import validate


class Trainer:
    """Fits a network and writes its run folder.

    The folder holds ``log.jsonl`` (a line per epoch), ``epoch_NNNN.pt`` (resumable) and
    whatever the caller exports.

    Args:
        model: The network, on the device to train on.
        datasets: Training data.
        validation: Validation data; the first decides which epoch is best.
        size: The network's input height and width.
        folder: The run folder.
        augment: See :class:`AugmentOptions`.
        options: See :class:`LoopOptions`.
        teacher: Whose soft labels are learned beside the images' own.
        metadata: Written into every epoch's file (:func:`deeplab_rt.network.checkpoints.describe`),
            so that each is a complete checkpoint.
        log: Receives a line of progress now and then.
    """

    def __init__(
        self,
        model: DeepLab,
        datasets: list[CachedDataset],
        validation: list[Dataset],
        size: tuple[int, int],
        folder: Path,
        augment: AugmentOptions,
        options: LoopOptions,
        *,
        teacher: Teacher | None = None,
        metadata: Mapping[str, str] | None = None,
        log: Callable[[str], None] = print,
    ) -> None:
        self.model = model
        self.datasets = datasets
        self.validation = validation
        self.size = size
        self.folder = folder
        self.augment = augment
        self.options = options
        self.teacher = teacher
        self.metadata = dict(metadata or {})
        self.log = log
        self.step = 0
        self.elapsed = 0.0
        self.device = next(model.parameters()).device
        native = options.precision == "bf16" or (
            options.precision == "auto" and bf16_is_native(self.device)
        )
        self.dtype = torch.bfloat16 if native else torch.float32
        self.optimiser = torch.optim.AdamW(
            parameter_groups(model, options), lr=options.learning_rate
        )

        def average(ema: Any, current: Any, updates: Any) -> None:
            decay = min(options.ema, (1 + float(updates)) / (10 + float(updates)))
            if torch.is_floating_point(ema[0]):
                torch._foreach_lerp_(ema, current, 1 - decay)
            else:
                for mine, theirs in zip(ema, current, strict=True):
                    mine.copy_(theirs)

        self.ema = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
        if self.device.type == "cpu" and self.dtype == torch.bfloat16:
            keep_slow_convs_float32(model)  # the averaged copy above stays as it is
        self._weights = [
            torch.from_numpy(balanced_weights(dataset.pixels, options.balance)).to(self.device)
            for dataset in datasets
        ]

    @property
    def averaged(self) -> DeepLab:
        """The network with its averaged weights: what validation measures and what ships."""
        model = self.ema.module
        assert isinstance(model, DeepLab)
        return model

    @property
    def progress(self) -> float:
        """How much of the schedule is done, 0 to 1."""
        return self.options.progress(self.step, self.elapsed)

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs; tensors and plain values only."""
        return {
            "metadata": self.metadata,
            "step": self.step,
            "elapsed": self.elapsed,
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def resume(self, path: Path) -> None:
        """Continue from an epoch's file; the log is cut back to it.

        Raises:
            DataError: The file is not a checkpoint of such a run.
        """
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.ema.load_state_dict(state["ema"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.elapsed = state["step"], state["elapsed"]
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise DataError(
                f"cannot resume from {path}: {reason}; expected an epoch_NNNN.pt of a run "
                "by this recipe"
            ) from error
        log = self.folder / "log.jsonl"
        if log.is_file():
            lines = [
                line
                for line in log.read_text().splitlines()
                if json.loads(line)["step"] <= self.step
            ]
            log.write_text("".join(line + "\n" for line in lines))

    def hard_loss(self, logits: Tensor, groups: Tensor) -> Tensor:
        # The loss is taken on every second pixel of each row and column, at an offset that
        # moves with the step: a quarter of the cost, and over four steps every pixel counts.
        full = nn.functional.interpolate(
            logits.float(), scale_factor=4.0, mode="bilinear", align_corners=False
        )
        row, column = self.step // 2 % 2, self.step % 2
        full, groups = full[:, :, row::2, column::2], groups[:, row::2, column::2]
        total = logits.new_zeros((), dtype=torch.float32)
        start, batch = 0, groups.shape[0]
        for dataset, weights in zip(self.datasets, self._weights, strict=True):
            part = slice(start, start + dataset.per_batch)
            start += dataset.per_batch
            loss = segmentation_loss(
                full[part], groups[part], dataset.data.class_ids, weights, self.options.jaccard
            )
            total = total + loss * (dataset.per_batch / batch)
        return total

    def _batch(self, step: int) -> Batch:
        images, groups = make_batch(self.datasets, self.augment, self.options, step)
        return images, groups, self.teacher.logits(images) if self.teacher else None

    def run(self, until: float = 1.0) -> list[dict[str, Any]]:
        """Train until the schedule is done, or until ``until`` of it.

        Returns:
            One record per epoch: step, loss, validation figures, seconds.

        Raises:
            DataError: The loss is not finite. The epochs written before it stay.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        forward: Callable[[Tensor], Tensor] = (
            torch.compile(self.model) if self.options.compile else self.model
        )
        batches = prefetch(self._batch, self.step)
        records: list[dict[str, Any]] = []
        losses: list[float] = []
        clock = time.monotonic()
        while self.progress < until:
            images, groups, teacher_logits = next(batches)
            # Dropout too is a function of the step: a resumed run goes the same way.
            torch.manual_seed((self.options.seed << 32) + self.step)
            self.model.train()
            factor = rate_at(self.progress, self.options.warmup)
            for group in self.optimiser.param_groups:
                group["lr"] = self.options.learning_rate * group["factor"] * factor
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                logits = forward(images.to(self.device))
            loss = self.hard_loss(logits, groups.to(self.device))
            if teacher_logits is not None:
                teacher_logits = teacher_logits.to(self.device)
                loss = loss + self.options.distil * distillation_loss(logits, teacher_logits)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise DataError(
                    f"the loss is {value} at step {self.step}; the last good epoch is kept in "
                    f"{self.folder}: resume from it with a lower learning_rate"
                )
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
            self.optimiser.step()
            self.ema.update_parameters(self.model)
            losses.append(value)
            self.step += 1
            now = time.monotonic()
            self.elapsed, clock = self.elapsed + now - clock, now
            if self.step % 25 == 0:
                self.log(
                    f"step {self.step} ({self.progress:.1%}): loss {np.mean(losses[-25:]):.4f}, "
                    f"{self.elapsed / 60:.1f} min"
                )
            if self.step % self.options.epoch_steps == 0 or self.progress >= 1:
                records.append(self._finish_epoch(losses))
                losses = []
                now = time.monotonic()
                self.elapsed, clock = self.elapsed + now - clock, now
        return records

    def _finish_epoch(self, losses: list[float]) -> dict[str, Any]:
        self.ema.eval()
        epoch = math.ceil(self.step / self.options.epoch_steps)
        # Written before it is validated: no error there costs the epoch.
        path = self.folder / f"epoch_{epoch:04d}.pt"
        with PartialFile(path, overwrite=True) as partial:
            torch.save(self.state(), partial.path)
            partial.commit()
        for old in sorted(self.folder.glob("epoch_*.pt"))[: -self.options.keep]:
            old.unlink()
        record: dict[str, Any] = {
            "epoch": epoch,
            "step": self.step,
            "loss": round(float(np.mean(losses)), 5),
            "minutes": round(self.elapsed / 60, 2),
            "validation": {
                data.name: validate(self.averaged, data, self.size, self.dtype).summary()
                for data in self.validation
            },
        }
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(record) + "\n")
        self.log(json.dumps(record))
        return record
