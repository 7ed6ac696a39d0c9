"""Runs DeepLab V3+ on frames and returns masks: what the node, the webcam and the replay share."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_rt.backends.base import Backend, BackendInfo, GpuOptions, MaskRequest
from deeplab_rt.backends.choice import open_backend
from deeplab_rt.errors import BackendError
from deeplab_rt.frame import Channels, Frame, as_frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.models import DEFAULT_MODEL, Model, load_model
from deeplab_rt.options import MASK_SIZES, MaskSize


class Segmenter:
    """DeepLab V3+ on this machine's best backend.

    Not thread-safe: one thread calls it. Usable as a context manager.

    Example::

        with Segmenter() as segmenter:
            masks = segmenter.segment(frame_bgr)
    """

    def __init__(
        self,
        model: str | Path | Model = DEFAULT_MODEL,
        backend: str | Backend = "auto",
        precision: str = "auto",
        input_size: tuple[int, int] | None = None,
        drivable: Sequence[str] | None = None,
        objects: Sequence[str] | None = None,
        mask_size: MaskSize = "input",
        confidence: bool = False,
        max_batch: int = 1,
        device: int = 0,
        engine_file: str | Path | None = None,
        allow_host_code: bool = False,
    ) -> None:
        """Load the model and compile it (or load it compiled).

        Args:
            model: name, directory, or a loaded model.
            backend: ``auto``, ``cpu``, ``tensorrt``, or a backend that is open already.
            precision: ``auto``, ``fp32``, ``bf16`` (CPU), ``fp16`` (TensorRT), ``int8``.
            input_size: (height, width) of the network's input; None lets it follow each camera's
                shape, with the model's number of pixels.
            drivable: names of the drivable classes; None for the model's own.
            objects: names of the object classes; None for the model's own.
            mask_size: ``input`` (masks of the frame's size) or ``network`` (of the network's input).
            confidence: whether to make the confidence mask.
            max_batch: frames of several cameras to evaluate at once, on a GPU.
            device: index of the GPU.
            engine_file: a compiled TensorRT engine to load instead of the cache's.
            allow_host_code: whether that engine may be a version-compatible one, which carries code
                that runs on the CPU.

        Raises:
            ModelError: the model is missing, corrupt, or does not take the size or precision.
            LabelError: a class name is unknown.
            BackendError: no backend can run here; the message says what each one lacks. Or an
                argument would be ignored: what a GPU alone takes with ``cpu``, or what is chosen at
                opening beside a backend that is open already.
            ValueError: ``mask_size`` is neither ``input`` nor ``network``.
        """
        self.model = model if isinstance(model, Model) else load_model(model)
        self.labels: LabelSet = self.model.labels.regrouped(drivable, objects)
        self.mask_size = check_mask_size(mask_size)
        self.confidence = confidence
        self.backend: Backend
        self.reason = "given by the caller"  # why this backend, in words
        gpu = GpuOptions(device, Path(engine_file) if engine_file else None, allow_host_code)
        if isinstance(backend, str):
            self.backend, self.reason = open_backend(
                self.model, backend, precision, input_size, max_batch, gpu
            )
        else:
            if (precision, input_size, max_batch, gpu) != ("auto", None, 1, GpuOptions()):
                raise BackendError(
                    "precision, input_size, max_batch, device, engine_file and allow_host_code belong "
                    "to a backend that is yet to be opened; leave them out beside one that is open"
                )
            self.backend = backend

    @property
    def info(self) -> BackendInfo:
        return self.backend.info

    def request(self) -> MaskRequest:
        """What the next frames are asked for, from the present settings."""
        return MaskRequest(
            self.labels, "network" if self.mask_size == "network" else None, self.confidence
        )

    def segment(
        self,
        frame: Frame | np.ndarray | Any,
        channels: Channels = "bgr",
        stream: int | None = None,
    ) -> Masks:
        """Masks of one frame, with its stage times; ``timings["total"]`` is the whole call in ms.

        Args:
            frame: a Frame, or uint8 [H, W, 3] of any size; on a GPU too, as an object with
                ``__cuda_array_interface__`` or ``__dlpack__`` in the memory of that GPU.
            channels: the order of a bare array's channels; a Frame names its own.
            stream: handle of the CUDA stream in which such an image is written; None for what the
                image says of itself. Later writes in that stream wait until the image was read.

        Raises:
            FrameError: the frame cannot be used; the next one may be fine.
            BackendError: the device failed.
        """
        return self.segment_batch([as_frame(frame, channels, stream)])[0]

    def segment_batch(
        self, frames: Sequence[Frame | np.ndarray], channels: Channels = "bgr"
    ) -> list[Masks]:
        """Masks of several frames, in order, in batches of what the backend takes at once.

        Arguments and errors as :meth:`segment`'s; frames may differ in size and channel order.
        """
        masks: list[Masks] = []
        step = self.backend.max_batch
        for first in range(0, len(frames), step):
            started = time.perf_counter()
            chunk = [as_frame(frame, channels) for frame in frames[first : first + step]]
            self.backend.submit(chunk, self.request())
            batch = self.backend.collect()
            for one in batch:
                one.timings["total"] = 1e3 * (time.perf_counter() - started)
            masks += batch
        return masks

    def stream(self, frames: Iterable[Frame]) -> Generator[tuple[Frame, Masks], None, None]:
        """Every frame with its masks, in order, keeping as many in flight as the backend takes.

        The next frame is fetched (decoded) while the network works on the ones before it.
        ``timings["total"]`` is from submission to masks, waiting included.
        """
        waiting: deque[tuple[Frame, float]] = deque()

        def finish() -> tuple[Frame, Masks]:
            frame, started = waiting.popleft()
            masks = self.backend.collect()[0]
            masks.timings["total"] = 1e3 * (time.perf_counter() - started)
            return frame, masks

        try:
            for frame in frames:
                if len(waiting) == self.backend.depth:
                    yield finish()
                started = time.perf_counter()
                self.backend.submit([frame], self.request())
                waiting.append((frame, started))
            while waiting:
                yield finish()
        finally:
            # Whoever stops early leaves frames in flight; the next call must not get their masks.
            for _ in range(len(waiting)):
                self.backend.collect()

    def close(self) -> None:
        """Free the backend. Safe to call twice."""
        self.backend.close()

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def check_mask_size(mask_size: str) -> MaskSize:
    """The same choice if it is one.

    Raises:
        ValueError: it is neither ``input`` nor ``network``.
    """
    if mask_size not in MASK_SIZES:
        raise ValueError(f"mask_size {mask_size!r}; expected one of {', '.join(MASK_SIZES)}")
    return mask_size  # type: ignore[return-value]
