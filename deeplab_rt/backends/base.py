"""What a backend is: frames in, masks out, on one device.

A backend owns the whole path of a frame (resize, network, labels), because where each step runs
best differs: on a CPU the labels are made by :mod:`deeplab_rt.upsample`, on a GPU by a kernel that
reads the logits where they lie, so that only bytes cross the bus.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from deeplab_rt.errors import FrameError
from deeplab_rt.frame import Frame, Size, check_image_array
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks


@dataclass(frozen=True)
class MaskRequest:
    """What to make of one batch of frames.

    Attributes:
        labels: the label set with the groups that make the drivable and the object mask.
        size: (height, width) of the masks in pixels, None for each frame's own size, or ``network``
            for that of the network's input, which may follow the frame's shape.
        confidence: whether to make the confidence mask too.
    """

    labels: LabelSet
    size: Size | Literal["network"] | None = None
    confidence: bool = False


@dataclass(frozen=True)
class GpuOptions:
    """Which GPU and which engine; all of it means nothing on a CPU.

    Attributes:
        device: index of the GPU, as the driver counts them.
        engine_file: an engine to load instead of the store's; its sidecar lies beside it.
        allow_host_code: whether a version-compatible engine may be loaded: it carries code for the
            CPU, which then runs with this process's rights.
    """

    device: int = 0
    engine_file: Path | None = None
    allow_host_code: bool = False


ANY_GPU = GpuOptions()


@dataclass(frozen=True)
class BackendInfo:
    """What runs, for logs, diagnostics and ``--json``.

    Attributes:
        name: ``openvino`` or ``tensorrt``.
        device: the device's own name, as its driver or /proc/cpuinfo gives it.
        precision: of the network's arithmetic: ``fp32``, ``bf16``, ``fp16``, ``int8``.
        input_size: (height, width) of the network's input in pixels; where the input follows the
            camera's shape, that of a frame of the model's own aspect ratio.
        version: of the inference library.
        details: anything else worth a line, by name.
    """

    name: str
    device: str
    precision: str
    input_size: Size
    version: str
    details: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class Backend(Protocol):
    """One compiled network on one device. Not thread-safe: one thread submits and collects.

    Images are C-contiguous or row-strided uint8 arrays [H, W, 3]. Results come back in the order
    of submission, always. Masks carry their stage times in milliseconds.
    """

    info: BackendInfo
    max_batch: int  # the most frames of one submit
    depth: int  # how many submits may be in flight before collect must be called

    def submit(self, frames: Sequence[Frame], request: MaskRequest) -> None:
        """Start the evaluation of 1 to ``max_batch`` frames.

        The images may be reused by the caller as soon as this returns.

        Raises:
            FrameError: a frame has the wrong shape or type; nothing was started.
            BackendError: the device failed.
        """

    def collect(self) -> list[Masks]:
        """Wait for the oldest submit and return one ``Masks`` per frame of it.

        Raises:
            BackendError: the device failed, or nothing is in flight.
        """

    def close(self) -> None:
        """Free everything; drop what is in flight. Safe to call twice."""


def check_frames(frames: Sequence[Frame], max_batch: int) -> None:
    """Refuse what no backend can take.

    Raises:
        FrameError: not 1 to ``max_batch`` frames, or a frame is not uint8 [H, W, 3] with H, W >= 1.
    """
    if not 1 <= len(frames) <= max_batch:
        raise FrameError(f"{len(frames)} frames submitted at once, expected 1 to {max_batch}")
    for frame in frames:
        check_image_array(frame.image)
        if frame.channels not in ("bgr", "rgb"):
            raise FrameError(f"a frame of channels {frame.channels!r}: expected bgr or rgb")
