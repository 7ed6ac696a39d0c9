"""The training loop: samples as a function of (seed, step), EMA weights, resumable epochs."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from deeplab_rt.errors import DataError
from deeplab_rt.network.model import DeepLab
from deeplab_rt.training.augment import AugmentOptions, darken, photometric, warp
from deeplab_rt.training.data import IGNORE, Dataset
from deeplab_rt.training.distillation import Teacher, distillation_loss
from deeplab_rt.training.losses import balanced_weights, segmentation_loss
from deeplab_rt.training.metrics import Confusion

Sample = tuple[NDArray[np.uint8], NDArray[np.uint8]]
Batch = tuple[Tensor, Tensor, Tensor | None]
"""Images uint8 [B, h, w, 3], groups int64 [B, h, w], and the teacher's logits where there is one."""


@dataclass(frozen=True)
class LoopOptions:
    """How long and how hard to train.

    Args:
        steps: Length of the schedule in steps.
        minutes: Length of the schedule in minutes of wall time, in place of ``steps``: the
            learning rate then follows the clock, and what is there when it ends is finished.
        epoch_steps: Steps between validations and checkpoints.
        learning_rate: Of the head, at its peak (AdamW).
        encoder_rate: Factor on it for the encoder, which starts from ImageNet.
        weight_decay: Of convolution weights; norms and biases have none.
        warmup: Share of the schedule in which the rate rises from zero.
        ema: Decay of the averaged weights per step.
        balance: Exponent of the class weights, see :func:`balanced_weights`; 0 weighs all alike.
        jaccard: Weight of the soft Jaccard part of the loss.
        distil: Weight of :func:`distillation_loss`, where the recipe names a teacher.
        rare_share: Share of the samples whose crop is drawn around a pixel of a rare group.
        seed: Of everything random.
        keep: Epoch checkpoints kept; older ones are deleted.
        precision: "auto", "bf16" or "fp32".
        compile: Compile the network (torch.compile).
    """

    steps: int = 4000
    minutes: float | None = None
    epoch_steps: int = 250
    learning_rate: float = 1e-3
    encoder_rate: float = 0.4
    weight_decay: float = 0.05
    warmup: float = 0.03
    ema: float = 0.998
    balance: float = 0.1
    jaccard: float = 1.0
    distil: float = 2.0
    rare_share: float = 0.5
    seed: int = 0
    keep: int = 3
    precision: str = "auto"
    compile: bool = False


@dataclass
class CachedDataset:
    """A data set held in memory as bytes, with its share of each batch.

    Args:
        data: Its files.
        per_batch: Samples of it in each batch.
    """

    data: Dataset
    per_batch: int
    samples: list[Sample] = field(init=False, repr=False)
    pixels: NDArray[np.int64] = field(init=False, repr=False)
    rare: list[tuple[int, list[int]]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        groups = len(self.data.class_ids)
        self.samples = [self.data.read(i) for i in range(len(self.data))]
        pixels = np.stack([np.bincount(g.ravel(), minlength=256)[:groups] for _, g in self.samples])
        self.pixels = pixels.sum(0).astype(np.int64)
        # A crop is drawn around a image's pixel of a rare group: one of less than half of the median.
        rare = self.pixels < np.median(self.pixels) / 2
        self.rare = [
            (group, np.flatnonzero(pixels[:, group] >= 50).tolist())
            for group in range(groups)
            if rare[group] and (pixels[:, group] >= 50).any()
        ]

    def draw(
        self,
        options: AugmentOptions,
        rare_share: float,
        rng: np.random.Generator,
        crop: tuple[int, int] | None = None,
    ) -> Sample:
        """One augmented sample: uint8 [h, w, 3] RGB and groups uint8 [h, w]."""
        focus = None
        if self.rare and rng.random() < rare_share:
            group, holders = self.rare[int(rng.integers(len(self.rare)))]
            image, groups = self.samples[holders[int(rng.integers(len(holders)))]]
            places = np.flatnonzero(groups == group)
            place = int(places[int(rng.integers(len(places)))])
            focus = (place // groups.shape[1], place % groups.shape[1])
        else:
            image, groups = self.samples[int(rng.integers(len(self.samples)))]
        image, groups = warp(image, groups, options, rng, focus, crop)
        if rng.random() < options.night:
            image = darken(image, rng)
        return photometric(image, rng, options.photometric), groups


def make_batch(
    datasets: list[CachedDataset], augment: AugmentOptions, options: LoopOptions, step: int
) -> tuple[Tensor, Tensor]:
    """The batch of a step, the same whenever it is asked for.

    Returns:
        uint8 [B, h, w, 3] and int64 [B, h, w], the datasets' samples in their order.
    """
    choice = np.random.default_rng([options.seed, step]).integers(len(augment.crops))
    crop = augment.crops[int(choice)]
    drawn = [
        dataset.draw(
            augment, options.rare_share, np.random.default_rng([options.seed, step, s, i]), crop
        )
        for s, dataset in enumerate(datasets)
        for i in range(dataset.per_batch)
    ]
    images = torch.from_numpy(np.stack([image for image, _ in drawn]))
    groups = torch.from_numpy(np.stack([g for _, g in drawn]).astype(np.int64))
    return images, groups


def _batches(make: Callable[[int], Batch], start: int) -> Iterator[Batch]:
    # One thread ahead of the network is enough: OpenCV, NumPy and OpenVINO release the interpreter,
    # and a sample costs a few per cent of its training.
    with ThreadPoolExecutor(1) as pool:
        waiting: list[Future[Batch]] = []
        for step in count(start):
            waiting.append(pool.submit(make, step))
            if len(waiting) > 3:
                yield waiting.pop(0).result()


def bf16_is_native(device: torch.device) -> bool:
    """Whether bfloat16 has instructions of its own there."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _parameter_groups(model: DeepLab, options: LoopOptions) -> list[dict[str, Any]]:
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        rate = options.encoder_rate if name.startswith("encoder.") else 1.0
        decay = options.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": parameters, "factor": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def rate_at(progress: float, warmup: float) -> float:
    """Factor on the peak learning rate: linear warm-up, then half a cosine to 1 %."""
    if progress < warmup:
        return progress / warmup
    position = min(1.0, (progress - warmup) / (1 - warmup))
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * position))


def _float32_where_faster(model: nn.Module) -> None:
    """Take strided, dilated and 5x5 depthwise convolutions out of a CPU's bf16 autocast.

    oneDNN has no bf16 kernels for their backward passes: they take 2 to 6 times as long as in
    float32, and half of a whole step.
    """
    for module in model.modules():
        if (
            isinstance(module, nn.Conv2d)
            and module.groups == module.in_channels > 1
            and (module.stride[0] > 1 or module.dilation[0] > 1 or module.kernel_size[0] > 3)
        ):

            def forward(x: Tensor, conv: nn.Conv2d = module) -> Tensor:
                with torch.autocast("cpu", enabled=False):
                    y: Tensor = conv._conv_forward(x.float(), conv.weight, conv.bias)
                return y

            module.forward = forward  # type: ignore[method-assign,assignment]


@torch.no_grad()
def predict(
    model: nn.Module,
    image: NDArray[np.uint8],
    size: tuple[int, int],
    dtype: torch.dtype = torch.float32,
) -> NDArray[np.uint8]:
    """Class indices of a frame at the frame's own size.

    Args:
        model: The network, in evaluation mode.
        image: uint8 [H, W, 3] RGB.
        size: Height and width the frame is resized to for the network.
        dtype: bfloat16 runs under autocast.

    Returns:
        uint8 [H, W].
    """
    device = next(model.parameters()).device
    resized = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        logits = model(torch.from_numpy(resized)[None].to(device)).float()
    full = nn.functional.interpolate(
        logits, size=image.shape[:2], mode="bilinear", align_corners=False
    )
    return full.argmax(1)[0].to(torch.uint8).cpu().numpy()


def input_shape(frame: tuple[int, int], budget: tuple[int, int]) -> tuple[int, int]:
    """The multiple-of-32 rectangle of a frame's aspect with about so many pixels.

    Args:
        frame: Height and width of the frame.
        budget: Height and width of the network's own input, whose product is the budget.
    """
    pixels, aspect = budget[0] * budget[1], frame[1] / frame[0]
    width = max(1, round((pixels * aspect) ** 0.5 / 32))
    height = max(1, round((pixels / aspect) ** 0.5 / 32))
    return 32 * height, 32 * width


def validate(
    model: nn.Module, data: Dataset, size: tuple[int, int], dtype: torch.dtype = torch.float32
) -> Confusion:
    """Confusion of a data set's measured groups, at each image's own size and aspect."""
    confusion = Confusion(data.names)
    for index in range(len(data)):
        image, groups = data.read(index)
        classes = predict(model, image, input_shape(groups.shape, size), dtype)
        confusion.add(data.measured[groups], data.group_of_class[classes])
    return confusion


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
            _parameter_groups(model, options), lr=options.learning_rate
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
            _float32_where_faster(model)  # the averaged copy above stays as it is
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
        if self.options.minutes is not None:
            return min(1.0, self.elapsed / (60 * self.options.minutes))
        return min(1.0, self.step / self.options.steps)

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

    def _loss(self, logits: Tensor, groups: Tensor) -> Tensor:
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
        batches = _batches(self._batch, self.step)
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
            loss = self._loss(logits, groups.to(self.device))
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
        partial = path.with_suffix(".partial")
        torch.save(self.state(), partial)
        partial.replace(path)
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
