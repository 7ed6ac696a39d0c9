"""Where the bytes of one submit lie, and which kernels run on them. Numbers only: no CUDA here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deeplab_rt.backends.base import MaskRequest
from deeplab_rt.backends.tensorrt import kernels
from deeplab_rt.errors import FrameError
from deeplab_rt.frame import MAX_SIDE, Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks

_ALIGN = 256  # bytes, of every part of a buffer
TABLES = 512  # bytes of the label tables: label id to drivable, label id to object
_FLAG = 256  # bytes at the head of what comes down: whether a logit is not finite


@dataclass(frozen=True)
class Shape:
    """Sizes and kind of one submit. Two submits of one shape differ in their bytes alone.

    Attributes:
        frames: (height, width) of each frame.
        masks: (height, width) of each frame's masks.
        confidence: whether there is a confidence mask.
        bgr: whether each frame's channels are in the order blue, green, red.
    """

    frames: tuple[tuple[int, int], ...]
    masks: tuple[tuple[int, int], ...]
    confidence: bool
    bgr: tuple[bool, ...]

    @classmethod
    def of(
        cls, frames: Sequence[Frame], request: MaskRequest, network: tuple[int, int] = (0, 0)
    ) -> Shape:
        """The shape of what was asked for, from a network of that input size.

        Raises:
            FrameError: a frame or mask is larger than :data:`~deeplab_rt.masks.MAX_SIDE`.
        """
        sizes = tuple(frame.size for frame in frames)
        wanted = network if request.size == "network" else request.size
        masks = tuple(wanted or size for size in sizes)
        for height, width in (*sizes, *masks):
            if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
                raise FrameError(
                    f"a frame or mask of {width}x{height} is out of bounds (1 to {MAX_SIDE} a side)"
                )
        bgr = tuple(frame.channels == "bgr" for frame in frames)
        return cls(sizes, masks, request.confidence, bgr)

    @staticmethod
    def order(frames: Sequence[Frame]) -> list[int]:
        """Indices that sort frames by size and channel order.

        Three cameras that come in any order are then one shape, with one graph.
        """
        return sorted(range(len(frames)), key=lambda i: (frames[i].size, frames[i].channels))

    @property
    def planes(self) -> int:
        """Masks of one frame: labels, drivable, objects and, if asked for, confidence."""
        return 4 if self.confidence else 3

    @property
    def up_offsets(self) -> list[int]:
        """Where each frame begins in the upload, in bytes; the last entry is its end."""
        return _offsets(0, [height * width * 3 for height, width in self.frames])

    @property
    def down_offsets(self) -> list[int]:
        """Where each frame's masks begin in the download, in bytes; the last entry is its end."""
        sizes = [height * kernels.pitch_of(width) for height, width in self.masks]
        return _offsets(_FLAG, [self.planes * size for size in sizes])


def _offsets(first: int, sizes: Sequence[int]) -> list[int]:
    offsets = [first]
    for size in sizes:
        offsets.append(-(-(offsets[-1] + size) // _ALIGN) * _ALIGN)
    return offsets


@dataclass(frozen=True)
class Tensors:
    """The network's tensors on the device, and what the label kernels need of them.

    Attributes:
        image: address of uint8 [N, height, width, 3].
        logits: address of float or half [N, classes, height / 4, width / 4].
        winners: address of uint8 [height / 4, width / 4], of one frame after the other.
        half: whether the logits are half.
    """

    image: int
    logits: int
    winners: int
    half: bool
    classes: int
    size: tuple[int, int]
    grid: tuple[int, int]


def write_upload(buffer: np.ndarray, shape: Shape, frames: Sequence[Frame]) -> None:
    """Put the frames that lie on the host (rows may be strided) where the kernels look for them."""
    for frame, offset in zip(frames, shape.up_offsets, strict=False):
        if isinstance(image := frame.image, np.ndarray):
            np.copyto(buffer[offset : offset + image.size].reshape(image.shape), image)


def write_tables(buffer: np.ndarray, labels: LabelSet) -> None:
    """The label tables in the order in which the kernels read them."""
    buffer[:256] = labels.drivable_lut
    buffer[256:TABLES] = labels.objects_lut


def read_download(buffer: np.ndarray, shape: Shape) -> list[Masks]:
    """The masks of each frame, copied out of the buffer."""
    results = []
    for (height, width), offset in zip(shape.masks, shape.down_offsets, strict=False):
        pitch = kernels.pitch_of(width)
        planes = buffer[offset : offset + shape.planes * height * pitch]
        labels, drivable, objects, *rest = (
            plane[:, :width].copy() for plane in planes.reshape(shape.planes, height, pitch)
        )
        results.append(Masks(labels, drivable, objects, rest[0] if rest else None))
    return results


def logits_are_finite(buffer: np.ndarray) -> bool:
    """What the label kernels noticed; the word at the head of a download."""
    return not buffer[:4].any()


def taps_of(shape: Shape, size: tuple[int, int]) -> list[np.ndarray]:
    """int16 [height + width, 4] for each frame: the taps of its rows, then of its columns."""
    height, width = size
    return [
        np.concatenate(
            [
                kernels.resize_taps(rows, height, rows=True),
                kernels.resize_taps(cols, width, rows=False),
            ]
        )
        for rows, cols in shape.frames
    ]


def preprocess_launches(
    shape: Shape, tensors: Tensors, up: int, taps: Sequence[int]
) -> list[kernels.Launch]:
    """The kernels that make the network's input.

    Args:
        shape: of the submit.
        tensors: of the network.
        up: device address of the upload.
        taps: device addresses of what :func:`taps_of` gave, one a frame.
    """
    height, width = tensors.size
    launches = []
    for index, ((rows, cols), offset, tap) in enumerate(
        zip(shape.frames, shape.up_offsets, taps, strict=False)
    ):
        args = kernels.ResizeArgs(
            frame=up + offset,
            image=tensors.image + index * height * width * 3,
            rows=tap,
            cols=tap + height * 8,
            height=height,
            width=width,
            frame_pitch=cols * 3,
            swap=shape.bgr[index],
        )
        launches.append(kernels.preprocess_launch(args, (rows, cols) == tensors.size))
    return launches


def label_launches(shape: Shape, tensors: Tensors, tables: int, down: int) -> list[kernels.Launch]:
    """The kernels that make the masks.

    Args:
        shape: of the submit.
        tensors: of the network.
        tables: device address of the label tables, in the device's own memory.
        down: device address of the download.
    """
    grid_height, grid_width = tensors.grid
    logits_size = tensors.classes * grid_height * grid_width * (2 if tensors.half else 4)
    launches: list[kernels.Launch] = []
    for index, ((height, width), offset) in enumerate(
        zip(shape.masks, shape.down_offsets, strict=False)
    ):
        pitch = kernels.pitch_of(width)
        planes = [down + offset + k * height * pitch for k in range(shape.planes)]
        args = kernels.LabelArgs(
            logits=tensors.logits + index * logits_size,
            winners=tensors.winners,
            labels=planes[0],
            drivable=planes[1],
            objects=planes[2],
            confidence=planes[3] if shape.confidence else 0,
            luts=tables,
            not_finite=down,
            classes=tensors.classes,
            grid_height=grid_height,
            grid_width=grid_width,
            height=height,
            width=width,
            pitch=pitch,
            scale_y=kernels.grid_scale(grid_height, height),
            scale_x=kernels.grid_scale(grid_width, width),
        )
        launches += kernels.label_launches(args, tensors.half)
    return launches
