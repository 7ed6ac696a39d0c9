"""One whole benchmark: frames, our pipeline in its precisions, the baselines, the roofline."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deeplab_rt.bench import machine, roofline
from deeplab_rt.bench.baselines import BaselineError, make_baseline
from deeplab_rt.bench.runner import Candidate, SamplingConfig, agreement, interleave, summary
from deeplab_rt.errors import BackendError, StreamError
from deeplab_rt.frame import Frame, Size
from deeplab_rt.masks import Masks
from deeplab_rt.models import Model, load_model
from deeplab_rt.segmenter import Segmenter
from deeplab_rt.streams.sources import open_recording
from deeplab_rt.streams.street import STREET

FRAMES = 8  # different frames, taken in turns


@dataclass(frozen=True)
class BenchmarkConfig:
    """What to measure.

    Attributes:
        model: name or directory.
        precision: of our pipeline, the baseline; its other precisions are candidates beside it.
        backend: ``auto``, ``cpu`` or ``tensorrt``.
        baselines: some of :data:`deeplab_rt.bench.BASELINES`.
        source: a recording whose frames are taken, evenly spaced; by default the street that ships.
        frame_sizes: (height, width) of the camera's frames, each measured in turn.
        sampling: how long.
        with_roofline: whether to measure the machine's roofline and the layers' shares.
    """

    model: str | Path = ""
    precision: str = "auto"
    backend: str = "auto"
    baselines: Sequence[str] = ()
    source: str = STREET
    frame_sizes: Sequence[tuple[int, int]] = ((480, 640), (1080, 1920))
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    with_roofline: bool = True


class Pipeline:
    """Our own way from a frame to its masks: a :class:`~.runner.Candidate`."""

    def __init__(self, model: Model, precision: str, backend: str = "cpu") -> None:
        self.segmenter = Segmenter(model, backend, precision)
        info = self.segmenter.info
        where = "" if info.name == "openvino" else f"{info.name} "
        self.name = f"deeplab_rt {where}{info.precision}"

    def run(self, frame: np.ndarray) -> Masks:
        return self.segmenter.segment(frame)

    def close(self) -> None:
        self.segmenter.close()


def bench(
    config: BenchmarkConfig, progress: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Measure everything in one run; plain values, for JSON, the table and the plot.

    Raises:
        ModelError: the model cannot be used.
        BackendError: the backend cannot run here.
        StreamError: the source cannot be read or has too few frames.
    """
    model = load_model(config.model)
    result: dict[str, Any] = {
        "machine": machine.describe(),
        "warnings": [text for text in [machine.warning()] if text],
        "model": model.name,
        "input_size": list(model.input_size),
        "frames": config.source,
        "missing": {},
        "sizes": [],
    }
    ours = _pipelines(model, config)
    try:
        result["backend"] = ours[0].segmenter.info.name
        result["device"] = ours[0].segmenter.info.device
        for size in config.frame_sizes:
            frames = read_frames(config.source, size)
            result["sizes"].append(
                _one_size(model, ours, frames, config, result["missing"], progress)
            )
    finally:
        for candidate in ours:
            candidate.close()
    if config.with_roofline and result["backend"] == "openvino":
        progress("roofline of the machine, shares of the layers")
        result["roofline"] = _limits(model, ours[0].segmenter.info.precision)
    return result


def _pipelines(model: Model, config: BenchmarkConfig) -> list[Pipeline]:
    """The baseline first, then what else this CPU can run, fp32 always: it is the reference."""
    candidates = [Pipeline(model, config.precision, config.backend)]
    for precision in ("int8", "bf16", "fp32"):
        if f"deeplab_rt {precision}" == candidates[0].name:
            continue
        if precision == "int8" and "int8" not in model.files:
            continue
        try:
            candidates.append(Pipeline(model, precision))
        except BackendError:
            if precision != "bf16":  # which not every CPU has
                raise
    return candidates


def read_frames(source: str, size: tuple[int, int]) -> list[np.ndarray]:
    """Frames to measure on, uint8 [H, W, 3] BGR of one size, evenly spaced over the recording.

    Raises:
        StreamError: the source cannot be read, or has no frames.
    """
    with open_recording(source) as recording:
        step = max(1, (recording.total or FRAMES) // FRAMES)
        images = [frame.bgr for frame in islice(recording, 0, step * FRAMES, step)]
    if not images:
        raise StreamError(f"{source}: no frames to measure on")
    smaller = Size.of(images[0]).height > size[0]
    interpolation = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return [cv2.resize(image, size[::-1], interpolation=interpolation) for image in images]


def _one_size(
    model: Model,
    ours: Sequence[Pipeline],
    frames: Sequence[np.ndarray],
    config: BenchmarkConfig,
    missing: dict[str, str],
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """All candidates on frames of one size."""
    height, width = frames[0].shape[:2]
    baselines: list[Candidate] = []
    for name in config.baselines:
        progress(f"{width}x{height}: make {name} ready")
        try:
            baseline = make_baseline(name, model, (height, width))
            baseline.run(
                frames[0]
            )  # what is compiled at the first frame is not charged to the runs
            baselines.append(baseline)
        except BaselineError as error:
            missing[name] = str(error)
    candidates: list[Candidate] = [*ours, *baselines]
    try:
        exact = next(one for one in ours if one.name == "deeplab_rt fp32")
        reference = [exact.run(frame).labels for frame in frames]
        samples = interleave(
            candidates, frames, config.sampling, lambda text: progress(f"{width}x{height}, {text}")
        )
        figures = {
            one.name: {
                **summary(samples[one.name], samples[ours[0].name]),
                # Another network's labels say nothing of ours.
                "agreement": None if one.name == "smp" else agreement(one, reference, frames),
            }
            for one in candidates
        }
        return {
            "frame_size": [height, width],
            "baseline": ours[0].name,
            "reference": exact.name,
            "candidates": figures,
            "stream_per_second": _rates(ours[0], frames, config.sampling),
        }
    finally:
        for baseline in baselines:
            baseline.close()


def _rates(
    candidate: Pipeline, frames: Sequence[np.ndarray], sampling: SamplingConfig
) -> dict[str, float]:
    """Frames a second one at a time, and with the next frame submitted while this one's masks are
    made: medians of unbroken turns, one way after the other."""
    ways: dict[str, Callable[[Iterable[np.ndarray]], Iterable[Any]]] = {
        "one_at_a_time": lambda turn: (candidate.run(frame) for frame in turn),
        "overlapped": lambda turn: candidate.segmenter.stream(map(Frame, turn)),
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    time.sleep(sampling.settle_s)
    for _ in range(sampling.rounds):
        for way, run in ways.items():
            started = time.perf_counter()
            done = sum(1 for _ in run(sampling.turn(frames)))
            rates[way].append(done / (time.perf_counter() - started))
    return {way: round(statistics.median(one), 1) for way, one in rates.items()}


def _limits(model: Model, precision: str) -> dict[str, Any]:
    """Peaks before and after the layers are timed, the better of the two: the machine may be shared."""
    peaks, copies = roofline.matrix_peaks(), roofline.copy_rates()
    work = roofline.profile(model, precision)
    for name, rate in roofline.matrix_peaks().items():
        peaks[name] = max(rate, peaks[name])
    for name, rate in roofline.copy_rates().items():
        copies[name] = max(rate, copies[name])
    return {
        "precision": precision,
        "peaks_gmac_s": peaks,
        "copy_gb_s": copies,
        "groups": roofline.roofline_report(work, peaks, copies),
    }
