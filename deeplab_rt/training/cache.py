"""Data sets in memory, and the batches drawn from them as a function of (seed, step)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeplab_rt.training.augment import AugmentOptions, darken, photometric, warp
from deeplab_rt.training.data import Dataset
from deeplab_rt.training.schedule import LoopOptions

Sample = tuple[NDArray[np.uint8], NDArray[np.uint8]]
Batch = tuple[Tensor, Tensor, Tensor | None]
"""Images uint8 [B, h, w, 3], groups int64 [B, h, w], and the teacher's logits where there is one."""


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


def prefetch(make: Callable[[int], Batch], start: int) -> Iterator[Batch]:
    """The batches of ``start`` and after, made ahead on a thread of their own."""
    # One thread ahead of the network is enough: OpenCV, NumPy and OpenVINO release the interpreter,
    # and a sample costs a few per cent of its training.
    with ThreadPoolExecutor(1) as pool:
        waiting: list[Future[Batch]] = []
        for step in count(start):
            waiting.append(pool.submit(make, step))
            if len(waiting) > 3:
                yield waiting.pop(0).result()
