"""The kernels of ``kernels.cu`` compiled for the CPU, and what tests need to call them on arrays."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from deeplab_rt.backends.tensorrt import kernels
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks

HERE = Path(__file__).parent


def build_host_kernels(output: Path, *flags: str) -> Path:
    """Compile ``kernels.cu`` behind the shim into a shared library."""
    compile_shared(
        HERE / "kernels_host.cpp",
        output,
        # One rounding an operation, as the _rn intrinsics promise on the GPU.
        "-ffp-contract=off",
        f'-DKERNELS="{kernels.SOURCE}"',
        *flags,
    )
    return output


def compile_shared(source: Path, output: Path, *flags: str) -> None:
    command = ["g++", "-std=c++17", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*command, *flags, str(source), "-o", str(output)], check=True)


def build_driver(output: Path) -> Path:
    """Compile the double of the driver; its soname makes later loads of libcuda.so.1 find it."""
    hidden = ("-fvisibility=hidden", "-fvisibility-inlines-hidden")
    compile_shared(HERE / "libcuda.cpp", output, *hidden, "-Wl,-soname,libcuda.so.1", "-ldl")
    return output


@lru_cache(maxsize=1)
def emulated_driver() -> ctypes.CDLL:
    """The double, which must be loaded already."""
    driver = ctypes.CDLL("libcuda.so.1")
    driver.emu_called.restype = ctypes.c_char_p
    driver.emu_host_words.restype = ctypes.c_uint64
    return driver


class HostKernels:
    """Launches kernels on NumPy arrays: addresses are the arrays' own."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))

    def args_size(self, name: str) -> int:
        return ctypes.c_size_t.in_dll(self._library, f"{name}_args").value

    def run(self, launch: kernels.Launch) -> None:
        grid, block = ((ctypes.c_uint * 3)(*three) for three in (launch.grid, launch.block))
        getattr(self._library, f"{launch.name}_host")(grid, block, ctypes.byref(launch.args))

    def preprocess(
        self, frame: np.ndarray, size: tuple[int, int], channels: str = "bgr"
    ) -> np.ndarray:
        """A frame (rows may be padded: the row stride is honoured) as the network's input."""
        height, width = size
        image = np.zeros((height, width, 3), np.uint8)
        rows = kernels.resize_taps(frame.shape[0], height, rows=True)
        cols = kernels.resize_taps(frame.shape[1], width, rows=False)
        args = kernels.ResizeArgs(
            frame=frame.ctypes.data,
            image=image.ctypes.data,
            rows=rows.ctypes.data,
            cols=cols.ctypes.data,
            height=height,
            width=width,
            frame_pitch=frame.strides[0],
            swap=channels == "bgr",
        )
        self.run(kernels.preprocess_launch(args, frame.shape[:2] == size))
        return image

    def masks(
        self,
        logits: np.ndarray,
        size: tuple[int, int],
        labels: LabelSet,
        confidence: bool = False,
        shorten: int = 0,
    ) -> tuple[Masks, bool]:
        """Masks of float32 or float16 logits [C, h, w], and whether a logit was not finite.

        ``shorten`` makes every mask buffer that many bytes too small, for the sanitizers to see.
        """
        height, width = size
        classes, grid_height, grid_width = logits.shape
        pitch = kernels.pitch_of(width)
        planes = [np.zeros(height * pitch - shorten, np.uint8) for _ in range(4)]
        winners = np.zeros((grid_height, grid_width), np.uint8)
        luts = np.concatenate([labels.drivable_lut, labels.objects_lut])
        flag = np.zeros(1, np.uint32)
        addresses = [plane.ctypes.data for plane in planes]
        args = kernels.LabelArgs(
            logits=logits.ctypes.data,
            winners=winners.ctypes.data,
            labels=addresses[0],
            drivable=addresses[1],
            objects=addresses[2],
            confidence=addresses[3] if confidence else 0,
            luts=luts.ctypes.data,
            not_finite=flag.ctypes.data,
            classes=classes,
            grid_height=grid_height,
            grid_width=grid_width,
            height=height,
            width=width,
            pitch=pitch,
            scale_y=kernels.grid_scale(grid_height, height),
            scale_x=kernels.grid_scale(grid_width, width),
        )
        for launch in kernels.label_launches(args, half=logits.dtype == np.float16):
            self.run(launch)
        if shorten:
            return Masks(*planes[:3]), bool(flag[0])
        views = [plane.reshape(height, pitch)[:, :width] for plane in planes]
        return Masks(*views[:3], views[3] if confidence else None), bool(flag[0])


def sanitized_cases(library: Path, shapes: Sequence[tuple[int, int]]) -> None:
    """Run every kernel at the given frame and mask sizes; run under the sanitizers."""
    host = HostKernels(library)
    rng = np.random.default_rng(0)
    labels = LabelSet.from_list(
        {"id": i, "name": str(i), "color": [i, i, i], "groups": ["drivable"]} for i in range(1, 12)
    )
    for shape in shapes:
        host.preprocess(rng.integers(0, 256, (*shape, 3), np.uint8), (96, 128))
        for dtype in (np.float32, np.float16):
            logits = rng.normal(size=(11, 24, 32)).astype(dtype)
            host.masks(logits, shape, labels, confidence=True)
    host.preprocess(rng.integers(0, 256, (96, 128, 3), np.uint8), (96, 128))
