"""kernels.cu: the same source that runs on the GPU, run on the CPU behind a shim, and compiled."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from host_gpu import HERE, HostKernels, build_host_kernels
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_rt.backends.tensorrt import kernels
from deeplab_rt.errors import BackendError
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.upsample import masks_from_logits

ARCHITECTURES = ("75", "80", "86", "87", "89", "90", "100", "110", "120")


def set_of(classes: int) -> LabelSet:
    """Labels of which every third is drivable and every other one an object."""
    return LabelSet.from_list(
        {
            "id": i,
            "name": str(i),
            "color": [i, i, i],
            "groups": (["drivable"] if i % 3 == 0 else []) + (["objects"] if i % 2 else []),
        }
        for i in range(1, classes + 1)
    )


def smooth_logits(seed: int, classes: int, grid: tuple[int, int]) -> np.ndarray:
    """Like a network's: regions with borders, and cells where three or four classes meet."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, (classes, *grid)).astype(np.float32)
    return np.stack([cv2.GaussianBlur(plane, (0, 0), 2.0) for plane in logits])


def assert_same(masks: Masks, expected: Masks) -> None:
    for name in ("labels", "drivable", "objects", "confidence"):
        ours, theirs = getattr(masks, name), getattr(expected, name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert np.count_nonzero(ours != theirs) == 0, name


@pytest.mark.parametrize("name", kernels.NAMES)
def test_argument_structs_have_the_layout_of_the_source(
    host_kernels: HostKernels, name: str
) -> None:
    args = kernels.ResizeArgs if name in ("resize", "reorder") else kernels.LabelArgs
    assert ctypes.sizeof(args) == host_kernels.args_size(name)


@pytest.mark.parametrize("channels", ["bgr", "rgb"])
@pytest.mark.parametrize("size", [(480, 640), (224, 320), (32, 32)])
@pytest.mark.parametrize(
    "frame_size",
    [(480, 640), (1080, 1920), (540, 960), (360, 480), (481, 641), (960, 1280), (1, 1), (7, 5)],
)
def test_preprocess_equals_opencv_to_the_byte(
    host_kernels: HostKernels,
    frame_size: tuple[int, int],
    size: tuple[int, int],
    channels: str,
) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (*frame_size, 3), np.uint8)
    expected = cv2.resize(frame, size[::-1], interpolation=cv2.INTER_LINEAR)
    if channels == "bgr":
        expected = expected[..., ::-1]
    assert np.array_equal(host_kernels.preprocess(frame, size, channels), expected)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.integers(1, 700), st.integers(1, 700), st.integers(1, 8), st.integers(1, 8), st.integers(0)
)
def test_preprocess_equals_opencv_at_any_size(
    host_kernels: HostKernels, rows: int, cols: int, height: int, width: int, seed: int
) -> None:
    frame = np.random.default_rng(seed).integers(0, 256, (rows, cols, 3), np.uint8)
    size = (32 * height, 32 * width)
    expected = cv2.resize(frame, size[::-1], interpolation=cv2.INTER_LINEAR)[..., ::-1]
    assert np.array_equal(host_kernels.preprocess(frame, size), expected)


def test_preprocess_is_within_a_byte_of_real_arithmetic(host_kernels: HostKernels) -> None:
    """The fixed point of OpenCV and of the kernel against bilinear interpolation in float64."""
    frame = np.random.default_rng(2).integers(0, 256, (540, 960, 3), np.uint8)
    image = host_kernels.preprocess(frame, (480, 640), "rgb")
    exact = cv2.resize(frame.astype(np.float64), (640, 480), interpolation=cv2.INTER_LINEAR)
    assert np.abs(image - exact).max() <= 1.0


@pytest.mark.parametrize("frame_size", [(480, 640), (100, 90)])
def test_padding_of_frame_rows_is_not_read_as_picture(
    host_kernels: HostKernels, frame_size: tuple[int, int]
) -> None:
    height, width = frame_size
    padded = np.full((height, width + 12, 3), 255, np.uint8)
    padded[:, :width] = np.random.default_rng(3).integers(0, 200, (height, width, 3), np.uint8)
    view = padded[:, :width]
    assert np.array_equal(
        host_kernels.preprocess(view, (480, 640)),
        host_kernels.preprocess(np.ascontiguousarray(view), (480, 640)),
    )


@pytest.mark.parametrize("classes", [2, 11, 19, 21])
@pytest.mark.parametrize(
    "size",
    [(480, 640), (360, 480), (1080, 1920), (479, 641), (101, 77), (1, 1), (3, 2), (37, 1001)],
)
def test_masks_equal_the_cpu_path(
    host_kernels: HostKernels, classes: int, size: tuple[int, int]
) -> None:
    logits = smooth_logits(classes, classes, (120, 160))
    labels = set_of(classes)
    confidence = size != (1080, 1920)
    masks, not_finite = host_kernels.masks(logits, size, labels, confidence)
    assert_same(masks, masks_from_logits(logits, size, labels, confidence))
    assert not not_finite


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    classes=st.integers(2, 21),
    grid=st.tuples(
        st.integers(1, 12).map(lambda n: 8 * n), st.integers(1, 12).map(lambda n: 8 * n)
    ),
    size=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    levels=st.sampled_from([2, 5, 1000, None]),
    half=st.booleans(),
)
def test_masks_equal_the_cpu_path_at_any_size_ties_included(
    host_kernels: HostKernels,
    seed: int,
    classes: int,
    grid: tuple[int, int],
    size: tuple[int, int],
    levels: int | None,
    half: bool,
) -> None:
    """Few levels make many equal logits: the first of equal classes must win on both sides.

    The CPU path takes float32, to which every half converts without loss.
    """
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (classes, *grid)).astype(np.float32)
    if levels is not None:
        logits = rng.integers(0, levels, (classes, *grid)).astype(np.float32)
    logits = logits.astype(np.float16 if half else np.float32)
    labels = set_of(classes)
    masks, _ = host_kernels.masks(logits, size, labels, confidence=True)
    assert_same(masks, masks_from_logits(logits.astype(np.float32), size, labels, confidence=True))


def test_a_class_that_rounding_alone_would_let_win_does_not(host_kernels: HostKernels) -> None:
    """Neighbouring floats that interpolation rounds to one value, the lower class index first."""
    base = np.float32(3.0000002)
    below = np.nextafter(base, np.float32(0))
    logits = np.full((3, 8, 8), -50, np.float32)
    logits[0] = below
    logits[1] = base
    logits[2, ::2, ::2] = base + 5  # so that the four corners of every cell disagree
    logits[2, 1::2, 1::2] = -60
    labels = set_of(3)
    masks, _ = host_kernels.masks(logits, (67, 53), labels)
    assert_same(masks, masks_from_logits(logits, (67, 53), labels))
    assert set(np.unique(masks.labels)) == {2, 3}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_logits_that_are_not_finite_are_noticed(
    host_kernels: HostKernels, value: float, dtype: type
) -> None:
    logits = np.zeros((11, 24, 32), dtype)
    assert host_kernels.masks(logits, (96, 128), set_of(11))[1] is False
    logits[7, 23, 31] = value
    assert host_kernels.masks(logits, (96, 128), set_of(11))[1] is True


def test_halves_of_every_kind_are_read_right(host_kernels: HostKernels) -> None:
    """All 65,536 halves: subnormal, largest, negative zero; each must beat the next smaller one."""
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    halves = np.sort(halves[np.isfinite(halves)])[:63488]  # -0.0 and 0.0 are one value apart
    logits = np.stack([halves[:-8], halves[8:]]).reshape(2, 8, -1)
    masks, not_finite = host_kernels.masks(logits, logits.shape[1:], set_of(2))
    expected = masks_from_logits(logits.astype(np.float32), logits.shape[1:], set_of(2))
    assert not not_finite
    assert_same(masks, expected)


def run_sanitized(library: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    runtime = subprocess.run(
        ["g++", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True
    ).stdout.strip()
    environment = {
        **os.environ,
        "LD_PRELOAD": runtime,
        # Python never frees what it interns; only memory errors matter here.
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONPATH": str(HERE.parents[3]),
        # Every NumPy array is then malloc'ed by itself and gets its own red zones.
        "PYTHONMALLOC": "malloc",
    }
    return subprocess.run(
        [sys.executable, str(HERE / "sanitized.py"), str(library), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def sanitized_library(host_kernels_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_host_kernels(
        tmp_path_factory.mktemp("sanitized") / "kernels.so",
        "-g",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
    )


def test_kernels_are_clean_under_address_and_undefined_sanitizers(sanitized_library: Path) -> None:
    done = run_sanitized(sanitized_library)
    assert (done.returncode, done.stdout.strip()) == (0, "clean"), done.stderr[-3000:]


def test_the_sanitizer_sees_one_byte_too_much(sanitized_library: Path) -> None:
    done = run_sanitized(sanitized_library, "overflow")
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvrtc_compiles_every_kernel(
    architecture: str, record_property: pytest.RecordProperty
) -> None:
    pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-python is not installed")
    compiled = kernels.compile_kernels(f"sm_{architecture}")
    cubin, log = compiled.cubin, compiled.log
    assert cubin[:4] == b"\x7fELF"
    for name in kernels.NAMES:
        assert name.encode() + b"\0" in cubin
    spills = [int(n) for n in re.findall(r"(\d+) bytes spill", log)]
    registers = [int(n) for n in re.findall(r"Used (\d+) registers", log)]
    record_property(f"registers_sm_{architecture}", registers)
    assert len(registers) == len(kernels.NAMES) and len(spills) == 2 * len(kernels.NAMES)
    assert not any(spills)
    assert max(registers) <= 80, "three blocks of 256 threads must fit an SM of 65,536 registers"


def test_the_gpus_code_rounds_as_ieee_754_says_and_reads_halves_as_halves() -> None:
    """What the host-compiled kernels cannot show, since there these are the host's: read in the PTX."""
    pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-python is not installed")
    ptx = kernels.compile_kernels("sm_87").ptx
    assert ".ftz" not in ptx and ".approx" not in ptx, "no fast math"
    assert "fma.rn.f32" not in ptx, "no multiplication and addition in one rounding"
    assert "div.rn.f32" in ptx and "mul.rn.f32" in ptx and "add.rn.f32" in ptx
    assert "cvt.f32.f16" in ptx and "bf16" not in ptx


def test_an_architecture_that_nvrtc_does_not_know_is_refused_in_one_line() -> None:
    pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-python is not installed")
    with pytest.raises(BackendError, match="cannot compile kernels.cu for sm_999: .*arch"):
        kernels.compile_kernels("sm_999")


def test_cubin_is_compiled_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-python is not installed")
    monkeypatch.setenv("DEEPLAB_RT_CACHE", str(tmp_path))
    first = kernels.cubin_for((8, 7))

    def not_again(arch: str) -> None:
        raise AssertionError(f"{arch} compiled again")

    monkeypatch.setattr(kernels, "compile_kernels", not_again)
    assert kernels.cubin_for((8, 7)) == first


def test_nvcc_compiles_it_too(tmp_path: Path) -> None:
    """NVRTC and nvcc predefine different things; the source must suit both."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not installed")
    command = [nvcc, "-std=c++17", "-arch=sm_87", "-cubin", "-Werror", "all-warnings"]
    subprocess.run([*command, "-o", str(tmp_path / "k.cubin"), str(kernels.SOURCE)], check=True)
