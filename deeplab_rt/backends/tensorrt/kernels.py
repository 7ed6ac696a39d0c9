"""The kernels of ``kernels.cu``: their arguments, their compilation, what a launch of them looks like.

Arguments are ctypes structures that mirror the structs of the source field by field. Compilation is by
NVRTC for the device at hand, once; the cubin is kept in the cache.
"""

from __future__ import annotations

import ctypes
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_rt.errors import BackendError
from deeplab_rt.files import cache_dir, private_dir, write_atomically

SOURCE = Path(__file__).with_name("kernels.cu")
NAMES = ("resize", "reorder", "winners_float", "winners_half", "masks_float", "masks_half")
# No fast math: the masks equal the CPU's because every operation rounds as IEEE 754 says.
OPTIONS = (b"--std=c++17", b"--ptxas-options=-v")
BLOCK = (32, 8)  # threads; a warp is 128 pixels of one row
WINNERS_BLOCK = 128  # threads of four grid points


class ResizeArgs(ctypes.Structure):
    """Arguments of ``resize`` and ``reorder``; addresses are the device's."""

    _fields_ = (
        ("frame", ctypes.c_uint64),
        ("image", ctypes.c_uint64),
        ("rows", ctypes.c_uint64),
        ("cols", ctypes.c_uint64),
        ("height", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("frame_pitch", ctypes.c_int32),
        ("swap", ctypes.c_int32),
    )


class LabelArgs(ctypes.Structure):
    """Arguments of ``winners_*`` and ``masks_*``; addresses are the device's."""

    _fields_ = (
        ("logits", ctypes.c_uint64),
        ("winners", ctypes.c_uint64),
        ("labels", ctypes.c_uint64),
        ("drivable", ctypes.c_uint64),
        ("objects", ctypes.c_uint64),
        ("confidence", ctypes.c_uint64),
        ("luts", ctypes.c_uint64),
        ("not_finite", ctypes.c_uint64),
        ("classes", ctypes.c_int32),
        ("grid_height", ctypes.c_int32),
        ("grid_width", ctypes.c_int32),
        ("height", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("pitch", ctypes.c_int32),
        ("scale_y", ctypes.c_float),
        ("scale_x", ctypes.c_float),
    )


@dataclass(frozen=True)
class Launch:
    """One kernel with its geometry and arguments."""

    name: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    args: ctypes.Structure


def preprocess_launch(args: ResizeArgs, same_size: bool) -> Launch:
    """Frame to network input; ``same_size`` when the frame has the network's size already."""
    name = "reorder" if same_size else "resize"
    return Launch(name, _grid(args.width, args.height), (*BLOCK, 1), args)


def label_launches(args: LabelArgs, half: bool) -> tuple[Launch, Launch]:
    """Logits to masks, in two launches; ``half`` is the type of the logits."""
    suffix = "half" if half else "float"
    points = WINNERS_BLOCK * 4
    blocks = -(-args.grid_height * args.grid_width // points)
    return (
        Launch(f"winners_{suffix}", (blocks, 1, 1), (WINNERS_BLOCK, 1, 1), args),
        Launch(f"masks_{suffix}", _grid(args.width, args.height), (*BLOCK, 1), args),
    )


def _grid(width: int, height: int) -> tuple[int, int, int]:
    return -(-width // (4 * BLOCK[0])), -(-height // BLOCK[1]), 1


def pitch_of(width: int) -> int:
    """Bytes from one mask row to the next on the device: the kernels store four pixels at once."""
    return -(-width // 4) * 4


def grid_scale(grid: int, pixels: int) -> float:
    """The step on the grid from one pixel to the next, rounded to float32 as masks.py does."""
    return float(np.float32(grid) / np.float32(pixels))


def resize_taps(source: int, target: int, rows: bool) -> np.ndarray:
    """Where each row or column of the resized image reads, as OpenCV's INTER_LINEAR has it.

    Past the border OpenCV gives the whole weight to the border column, but both weights to the border
    row, which rounds differently.

    Args:
        source: rows or columns of the frame, 1 to 32767.
        target: rows or columns of the network's input.
        rows: whether these are rows.

    Returns:
        int16 [target, 4]: index before, index after, weight before, weight after (of 2048).
    """
    scale = 1.0 / (target / source)  # OpenCV divides twice, and the last bit can tell
    position = ((np.arange(target) + 0.5) * scale - 0.5).astype(np.float32)
    before = np.floor(position).astype(np.int64)
    weight = position - before.astype(np.float32)
    if not rows:
        outside = (before < 0) | (before >= source - 1)
        weight = np.where(outside, np.float32(0), weight)
    taps = np.empty((target, 4), np.int16)
    taps[:, 0] = np.clip(before, 0, source - 1)
    taps[:, 1] = np.clip(before + 1, 0, source - 1)
    taps[:, 2] = np.rint((np.float32(1) - weight) * np.float32(2048))
    taps[:, 3] = np.rint(weight * np.float32(2048))
    return taps


def cubin_for(capability: tuple[int, int]) -> bytes:
    """The compiled kernels for a compute capability, from the cache or by NVRTC (under a second).

    Raises:
        BackendError: NVRTC is missing or refuses the architecture.
    """
    source = SOURCE.read_bytes()
    arch = "sm_{}{}".format(*capability)
    digest = hashlib.sha256(b"\0".join((source, *OPTIONS))).hexdigest()
    name = f"{digest[:16]}-{arch}.cubin"
    path = cache_dir() / "kernels" / name
    try:
        private_dir(path.parent)  # else somebody else may have written what is there
        return path.read_bytes()
    except OSError:
        cubin = compile_kernels(arch).cubin
    try:
        private_dir(path.parent)
        write_atomically(path, cubin)
        path.chmod(0o600)
    except OSError:
        pass  # a read-only home costs the compilation at every start and nothing else
    return cubin


@dataclass(frozen=True)
class Compiled:
    """What NVRTC made of ``kernels.cu``.

    Attributes:
        cubin: for one architecture.
        ptx: that it was assembled from.
        log: of the compiler, with registers and spills of each kernel.
    """

    cubin: bytes
    ptx: str
    log: str


def compile_kernels(arch: str) -> Compiled:
    """Compile ``kernels.cu`` by NVRTC; needs no GPU.

    Args:
        arch: ``sm_87`` and the like.

    Raises:
        BackendError: NVRTC is missing or refuses the source or the architecture.
    """
    try:
        from cuda.bindings import nvrtc
    except ImportError as error:
        raise BackendError(
            f"compiling the GPU kernels needs cuda-python ({error}); see docs/install.md"
        ) from None

    def call(result: Any) -> Any:
        code, *values = result
        if code != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            text = nvrtc.nvrtcGetErrorString(code)[1].decode()
            raise BackendError(f"NVRTC cannot compile {SOURCE.name} for {arch}: {text}")
        return values[0] if values else None

    try:
        program = call(nvrtc.nvrtcCreateProgram(SOURCE.read_bytes(), b"kernels.cu", 0, [], []))
    except RuntimeError as error:  # cuda-python found no libnvrtc
        raise BackendError(
            f"NVRTC is missing ({' '.join(str(error).split())[:120]}); install it with `pip install "
            "nvidia-cuda-nvrtc` (CUDA 13), `pip install nvidia-cuda-nvrtc-cu12` (CUDA 12), or the "
            "CUDA toolkit of your JetPack"
        ) from None
    options = [f"--gpu-architecture={arch}".encode(), *OPTIONS]
    (code,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    log = bytearray(call(nvrtc.nvrtcGetProgramLogSize(program)))
    call(nvrtc.nvrtcGetProgramLog(program, log))
    text = log.rstrip(b"\0").decode(errors="replace")
    if code != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        call(nvrtc.nvrtcDestroyProgram(program))
        raise BackendError(
            f"NVRTC cannot compile {SOURCE.name} for {arch}: {' '.join(text.split())}"
        )
    cubin = bytearray(call(nvrtc.nvrtcGetCUBINSize(program)))
    call(nvrtc.nvrtcGetCUBIN(program, cubin))
    ptx = bytearray(call(nvrtc.nvrtcGetPTXSize(program)))
    call(nvrtc.nvrtcGetPTX(program, ptx))
    call(nvrtc.nvrtcDestroyProgram(program))
    return Compiled(bytes(cubin), ptx.rstrip(b"\0").decode(), text)
