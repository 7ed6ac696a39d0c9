"""What only silicon can show: kernels, engines, graphs and stage times on a real GPU.

`make test-gpu` runs this and leaves a page with stage times and layers to send back. Every test here has
its emulated twin in tests/integration/tensorrt/; a failure here alone is one of the hardware, the driver
or the real TensorRT.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest

from deeplab_rt.backends.base import MaskRequest
from deeplab_rt.backends.openvino import OpenVINOBackend
from deeplab_rt.backends.tensorrt import kernels, layout
from deeplab_rt.backends.tensorrt.builder import build
from deeplab_rt.backends.tensorrt.inspection import summary
from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.models import DEFAULT_MODEL, Model, load_model, model_names
from deeplab_rt.upsample import masks_from_logits

EMULATED = os.environ.get("DEEPLAB_RT_EMULATED_GPU") == "1"
FRAMES = 2 if EMULATED else 200  # of each size in the table
LEAST_AGREEMENT = {"fp32": 0.99, "fp16": 0.98, "int8": 0.85}  # of labels with the CPU's fp32


@pytest.fixture
def device() -> Iterator[Any]:
    from deeplab_rt.backends.tensorrt.device import Device

    device = Device()
    yield device
    device.close()


class Bench:
    """Arrays to the device and back around a few launches."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self._stream = device.stream()

    def up(self, array: np.ndarray) -> int:
        from cuda.bindings import driver

        pinned = self._device.allocate_pinned(array.nbytes, "a test", mapped=False)
        pinned.array[:] = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
        address = self._device.allocate(array.nbytes, "a test")
        done = driver.cuMemcpyHtoDAsync(address, pinned.address, array.nbytes, self._stream)
        assert done[0] == driver.CUresult.CUDA_SUCCESS
        return int(address)

    def run(self, launches: list[kernels.Launch]) -> None:
        for launch in launches:
            self._device.launch(launch, self._stream)

    def down(self, address: int, size: int) -> np.ndarray:
        from cuda.bindings import driver

        pinned = self._device.allocate_pinned(size, "a test", mapped=False)
        done = driver.cuMemcpyDtoHAsync(pinned.address, address, size, self._stream)
        assert done[0] == driver.CUresult.CUDA_SUCCESS
        assert driver.cuStreamSynchronize(self._stream)[0] == driver.CUresult.CUDA_SUCCESS
        return np.asarray(pinned.array)


def assert_same(ours: Masks, theirs: Masks) -> None:
    for name in ("labels", "drivable", "objects", "confidence"):
        assert np.count_nonzero(getattr(ours, name) != getattr(theirs, name)) == 0, name


@pytest.mark.parametrize("frame_size", [(480, 640), (1080, 1920), (481, 641), (1, 1)])
def test_preprocess_kernel_equals_opencv(device: Any, frame_size: tuple[int, int]) -> None:
    bench, size = Bench(device), (480, 640)
    frame = np.random.default_rng(0).integers(0, 256, (*frame_size, 3), np.uint8)
    shape = layout.Shape((frame_size,), (size,), False, bgr=(True,))
    upload = np.zeros(shape.up_offsets[-1], np.uint8)
    layout.write_upload(upload, shape, [Frame(frame)])
    image = device.allocate(480 * 640 * 3, "a test")
    tensors = layout.Tensors(image, 0, 0, False, 11, size, (120, 160))
    taps = [bench.up(array) for array in layout.taps_of(shape, size)]
    bench.run(layout.preprocess_launches(shape, tensors, bench.up(upload), taps))
    result = bench.down(image, 480 * 640 * 3).reshape(480, 640, 3)
    expected = cv2.resize(frame, (640, 480), interpolation=cv2.INTER_LINEAR)[..., ::-1]
    difference = np.abs(result.astype(int) - expected)
    # On ARM OpenCV may be built with other kernels than its own, which round otherwise.
    assert difference.max() <= (0 if platform.machine() == "x86_64" else 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("size", [(480, 640), (1080, 1920), (101, 77), (1, 1)])
def test_label_kernels_equal_the_cpu_path(
    device: Any, camvid11: LabelSet, size: tuple[int, int], dtype: Any
) -> None:
    bench, rng = Bench(device), np.random.default_rng(1)
    logits = np.stack(
        [cv2.GaussianBlur(rng.normal(0, 4, (120, 160)), (0, 0), 2.0) for _ in range(11)]
    ).astype(dtype)
    shape = layout.Shape((size,), (size,), True, bgr=(True,))
    luts = np.concatenate([camvid11.drivable_lut, camvid11.objects_lut])
    down = bench.up(np.zeros(shape.down_offsets[-1], np.uint8))
    winners = device.allocate(120 * 160, "a test")
    half = dtype == np.float16
    tensors = layout.Tensors(0, bench.up(logits), winners, half, 11, (480, 640), (120, 160))
    bench.run(layout.label_launches(shape, tensors, bench.up(luts), down))
    result = bench.down(down, shape.down_offsets[-1])
    assert layout.logits_are_finite(result)
    expected = masks_from_logits(logits.astype(np.float32), size, camvid11, confidence=True)
    assert_same(layout.read_download(result, shape)[0], expected)


@pytest.fixture(params=["fp32", "fp16", "int8"])
def backend(request: pytest.FixtureRequest, typed_model: Model) -> Iterator[Any]:
    from deeplab_rt.backends.tensorrt.runner import TensorRTBackend

    build(typed_model, request.param, max_batch=2)
    backend = TensorRTBackend(typed_model, request.param, max_batch=2)
    yield backend
    backend.close()


def blobs(seed: int, size: tuple[int, int], labels: LabelSet) -> np.ndarray:
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, len(labels), (max(1, size[0] // 16), max(1, size[1] // 16)))
    grown = cv2.resize(cells.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)
    return np.ascontiguousarray(labels.palette[grown + 1])


def agreement(ours: Masks, theirs: Masks) -> float:
    return float((ours.labels == theirs.labels).mean())


def test_engine_agrees_with_the_cpu_backend(
    backend: Any, typed_model: Model, camvid11: LabelSet
) -> None:
    cpu = OpenVINOBackend(typed_model, "fp32", (96, 128))
    request = MaskRequest(camvid11)
    for seed, size in enumerate([(96, 128), (200, 300), (97, 131)] * 3):
        frame = blobs(seed, size, camvid11)
        backend.submit([Frame(frame, channels="rgb")], request)
        cpu.submit([Frame(frame, channels="rgb")], request)
        share = agreement(backend.collect()[0], cpu.collect()[0])
        assert share >= (0.999 if backend.info.precision == "fp32" else 0.97)
    cpu.close()


def test_frames_by_graph_equal_frames_by_call(backend: Any, camvid11: LabelSet) -> None:
    assert backend.info.details["cuda_graph"] == "on"
    request = MaskRequest(camvid11, confidence=True)
    frames = [blobs(1, (200, 300), camvid11), blobs(2, (96, 128), camvid11)]
    results = []
    for _ in range(6):
        backend.submit([Frame(f, channels="rgb") for f in frames], request)
        results.append(backend.collect())
    for later in results[1:]:
        for ours, theirs in zip(later, results[0], strict=True):
            assert_same(ours, theirs)


def test_two_in_flight_keep_their_order(backend: Any, camvid11: LabelSet) -> None:
    request = MaskRequest(camvid11)
    colors = [camvid11.palette[1 + index % 11] for index in range(30)]
    seen = []
    for index, color in enumerate(colors):
        if index >= 2:
            seen.append(int(backend.collect()[0].labels[100, 100]))
        backend.submit([Frame(np.full((200, 200, 3), color, np.uint8), channels="rgb")], request)
    seen += [int(backend.collect()[0].labels[100, 100]) for _ in range(2)]
    assert seen == [1 + index % 11 for index in range(30)]


@pytest.mark.skipif(DEFAULT_MODEL not in model_names(), reason="no model is shipped")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_shipped_model_and_its_stage_times(
    precision: str, highway_clip: Any, page: list[str]
) -> None:
    """Agreement with the CPU on a real drive, and what each stage takes."""
    from deeplab_rt.backends.tensorrt.runner import TensorRTBackend

    if EMULATED and precision != "fp32":
        pytest.skip("one precision shows that this test works")
    model = load_model(DEFAULT_MODEL)
    if precision == "int8" and "int8-trt" not in model.files:
        pytest.skip(f"{model.name} comes without {precision}")
    build(model, precision, model.input_size)
    backend, cpu = (
        TensorRTBackend(model, precision, model.input_size),
        OpenVINOBackend(model, "fp32", model.input_size),
    )
    capture = cv2.VideoCapture(str(highway_clip))
    shares = []
    for _ in range(2 if EMULATED else 10):
        frame = capture.read()[1]
        for one in (backend, cpu):
            one.submit([Frame(frame)], MaskRequest(model.labels))
        shares.append(agreement(backend.collect()[0], cpu.collect()[0]))
    found = summary(backend.layers())
    page.append(
        f"{model.name} {precision}: labels equal to the CPU's fp32 on {np.mean(shares):.2%}"
    )
    for size in ((640, 480), (1920, 1080)):
        frame = cv2.resize(frame, size)
        times: list[dict[str, float]] = []
        for _ in range(FRAMES):
            backend.submit([Frame(frame)], MaskRequest(model.labels))
            times.append(backend.collect()[0].timings)
        cells = [f"{name} {np.median([t[name] for t in times]):.3f}" for name in times[0]]
        page.append(f"  {size[0]}x{size[1]}, ms p50: {', '.join(cells)}")
    kinds = ", ".join(f"{count} {types}" for types, count in found["convolutions"].items())
    moved = found["bytes_moved"] / 1e6
    page.append(f"  {found['layers']} layers, {moved:.1f} MB of activations; convolutions: {kinds}")
    page += [f"  {name}: {backend.info.details[name]}" for name in ("memory", "cuda_graph")]
    backend.close()
    cpu.close()
    assert np.mean(shares) > LEAST_AGREEMENT[precision]
