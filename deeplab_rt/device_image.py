"""An image that lies in GPU memory already, whoever made it: CuPy, torch, Numba, a decoder.

It is read through ``__cuda_array_interface__`` or DLPack; none of those libraries is imported here.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplab_rt.errors import FrameError

LEGACY_STREAM = 1
"""The stream that work without a stream is in (CUDA's legacy default stream)."""
_CUDA, _CUDA_MANAGED, _UINT = 2, 13, 1  # DLPack's device types and type code


@dataclass(frozen=True)
class DeviceImage:
    """uint8 [H, W, 3] in the memory of a GPU, each row contiguous.

    Attributes:
        address: of the first byte, on the device.
        shape: (height, width, 3).
        pitch: bytes from one row to the next.
        stream: handle of the CUDA stream in which the image is written; whoever reads it waits for it,
            and it waits for whoever has read.
        device: index of the GPU; None where the source does not tell.
        owner: what must stay alive as long as the image is read.
    """

    address: int
    shape: tuple[int, int, int]
    pitch: int
    stream: int
    device: int | None
    owner: Any

    dtype = np.dtype(np.uint8)
    ndim = 3

    @property
    def size(self) -> int:
        """Bytes without the rows' padding, as of a NumPy array."""
        height, width, channels = self.shape
        return height * width * channels

    @classmethod
    def of(cls, image: Any, stream: int | None = None) -> DeviceImage:
        """The image behind an object with ``__cuda_array_interface__`` or ``__dlpack__``.

        Args:
            image: uint8 [H, W, 3] on a GPU.
            stream: in which it is written; None for what the object says, else the legacy default one.

        Raises:
            FrameError: it is no uint8 [H, W, 3], its rows are not contiguous, or it is on no GPU.
        """
        if isinstance(image, DeviceImage):
            return image
        if hasattr(image, "__cuda_array_interface__"):
            return _of_interface(image, stream)
        return _of_dlpack(image, stream)


def is_on_a_device(image: Any) -> bool:
    """Whether an object is an image on a GPU, by what it says of itself."""
    if isinstance(image, DeviceImage) or hasattr(image, "__cuda_array_interface__"):
        return True
    if isinstance(image, np.ndarray) or not hasattr(image, "__dlpack_device__"):
        return False
    return int(image.__dlpack_device__()[0]) in (_CUDA, _CUDA_MANAGED)


def _of_interface(image: Any, stream: int | None) -> DeviceImage:
    told = image.__cuda_array_interface__
    shape, strides = tuple(told["shape"]), told.get("strides")
    _check(shape, np.dtype(told["typestr"]) == np.uint8, str(told["typestr"]))
    pitch = _pitch(shape, tuple(strides) if strides else None)
    if stream is None:
        stream = told.get("stream") or LEGACY_STREAM
    return DeviceImage(int(told["data"][0]), shape, pitch, stream, None, image)


class _Tensor(ctypes.Structure):
    """DLPack's DLTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


def _of_dlpack(image: Any, stream: int | None) -> DeviceImage:
    if not hasattr(image, "__dlpack__") or not is_on_a_device(image):
        raise FrameError(
            f"a frame of type {type(image).__name__}: expected a NumPy array, or an image on a GPU with "
            "__cuda_array_interface__ or __dlpack__"
        )
    stream = LEGACY_STREAM if stream is None else stream
    # The producer makes the image ready in the order of this stream. The capsule is not consumed: it
    # frees its tensor when it goes, and it stays as long as the image does.
    capsule = image.__dlpack__(stream=stream)
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    tensor = _Tensor.from_address(pointer_of(capsule, b"dltensor"))
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    kind = (tensor.code, tensor.bits, tensor.lanes)
    _check(shape, kind == (_UINT, 8, 1), f"DLPack {kind}")
    strides = tuple(tensor.strides[i] for i in range(3)) if tensor.strides else None
    address = int(tensor.data or 0) + int(tensor.byte_offset)
    return DeviceImage(
        address, shape, _pitch(shape, strides), stream, int(tensor.device), (capsule, image)
    )


def _check(shape: tuple[int, ...], is_uint8: bool, kind: str) -> None:
    if not is_uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise FrameError(
            f"an image on the GPU of shape {list(shape)} and type {kind}: expected uint8 "
            "[height, width, 3] with at least one pixel"
        )


def _pitch(shape: tuple[int, ...], strides: tuple[int, ...] | None) -> int:
    row = shape[1] * 3
    if strides is None:
        return row
    if strides[1:] != (3, 1) or strides[0] < row:
        raise FrameError(
            f"an image on the GPU with strides {list(strides)}: expected pixels side by side in each row"
        )
    return strides[0]
