"""The GPU frame path, every line of it, over an emulated driver and a double of TensorRT's runtime.

The real cuda-python calls a driver of the tests' own (emulation/libcuda.cpp); the kernels are the
host-compiled kernels.cu; the "engine" is the ONNX file evaluated as the CPU backend does it. So the
masks must equal the CPU backend's to the byte. What it cannot show: a real driver's timing and limits.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from typed_networks import of_one_size

from deeplab_rt.backends.base import Backend, MaskRequest
from deeplab_rt.backends.choice import open_backend
from deeplab_rt.backends.openvino import OpenVINOBackend
from deeplab_rt.backends.tensorrt import engine_store, probe
from deeplab_rt.errors import BackendError, DeeplabError, EngineError, FrameError
from deeplab_rt.frame import Channels, Frame, Size
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.models import Model
from deeplab_rt.upsample import masks_from_logits

ILLEGAL_ADDRESS, OUT_OF_MEMORY, INVALID_VALUE = 700, 2, 1
SIZES = [(96, 128), (48, 64), (97, 131), (360, 480), (1, 1)]

MakeBackend = Callable[..., Any]


@pytest.fixture
def make(
    driver: ctypes.CDLL, tensorrt: Any, typed_model: Model, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeBackend]:
    """Makes backends of the typed model, whose engines are stored first; closes them afterwards."""
    from deeplab_rt.backends.tensorrt import runner
    from deeplab_rt.backends.tensorrt.runner import TensorRTBackend

    monkeypatch.setattr(runner, "TRIAL_FRAME", Size(48, 64))  # kernels are slow on the CPU
    monkeypatch.setattr(runner, "TRIALS", 1)

    opened: list[TensorRTBackend] = []

    def make(precision: str = "fp32", max_batch: int = 1) -> TensorRTBackend:
        store_engine(typed_model, precision, max_batch)
        opened.append(TensorRTBackend(typed_model, precision, None, max_batch))
        return opened[-1]

    yield make
    for backend in opened:
        backend.close()


def store_engine(model: Model, precision: str, max_batch: int = 1) -> engine_store.Engine:
    """What building gives: a network of one size for 1 to ``max_batch`` frames."""
    spec = engine_store.spec_of(model, precision, None, max_batch, probe.target_here())
    return engine_store.save(
        spec, of_one_size(onnx.load(model.file(spec.precision)), spec.input_size)
    )


@pytest.fixture
def cpu(typed_model: Model) -> Iterator[OpenVINOBackend]:
    backend = OpenVINOBackend(typed_model, "fp32", (96, 128))
    yield backend
    backend.close()


@pytest.fixture(params=["late", "early copies", "unified"])
def way(request: pytest.FixtureRequest, driver: ctypes.CDLL) -> str:
    """How the emulated device behaves: all work late, uploads at once, or memory shared."""
    driver.emu_eager_copies(request.param == "early copies")
    driver.emu_integrated(request.param == "unified")
    return str(request.param)


def evaluate(
    backend: Backend, frames: list[np.ndarray], request: MaskRequest, channels: Channels = "bgr"
) -> list[Masks]:
    backend.submit([Frame(frame, channels=channels) for frame in frames], request)
    return backend.collect()


def random_frame(seed: int, size: tuple[int, int], labels: LabelSet) -> np.ndarray:
    """Blobs of label colours, so that borders run everywhere."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, len(labels), (max(1, size[0] // 9), max(1, size[1] // 9)))
    grown = cv2.resize(noise.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)
    return np.ascontiguousarray(labels.palette[grown + 1])


def assert_same(ours: Masks, theirs: Masks) -> None:
    for name in ("labels", "drivable", "objects", "confidence"):
        mine, other = getattr(ours, name), getattr(theirs, name)
        assert (mine is None) == (other is None), name
        if mine is not None:
            assert mine.shape == other.shape and np.count_nonzero(mine != other) == 0, name


def test_it_is_a_backend_and_says_what_runs(make: MakeBackend) -> None:
    backend = make()
    assert isinstance(backend, Backend)
    assert (backend.info.name, backend.info.device) == ("tensorrt", "Emulated Orin")
    assert (backend.info.precision, backend.info.version) == ("fp32", "10.3.0")
    assert backend.info.details["cuda_graph"] == "on"
    assert backend.info.details["compute_capability"] == "8.7"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", ["bgr", "rgb"])
def test_masks_equal_the_cpu_backends(
    make: MakeBackend,
    cpu: OpenVINOBackend,
    camvid11: LabelSet,
    way: str,
    size: tuple[int, int],
    channels: Any,
) -> None:
    backend = make()
    request = MaskRequest(camvid11, confidence=True)
    for seed in range(3):  # the first call by call, the others by graph
        frame = random_frame(seed, size, camvid11)
        ours = evaluate(backend, [frame], request, channels)
        theirs = evaluate(cpu, [frame], request, channels)
        assert_same(ours[0], theirs[0])


def test_masks_of_real_frames_equal_the_cpu_backends(
    make: MakeBackend, cpu: OpenVINOBackend, camvid11: LabelSet, camvid_val: Path
) -> None:
    backend, request = make(), MaskRequest(camvid11)
    for path in sorted((camvid_val / "images").iterdir())[::20]:
        frame = cv2.imread(str(path))
        ours, theirs = evaluate(backend, [frame], request), evaluate(cpu, [frame], request)
        assert_same(ours[0], theirs[0])
        assert len(np.unique(ours[0].labels)) > 2


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_other_precisions_equal_the_cpu_path_on_the_same_logits(
    make: MakeBackend, typed_model: Model, camvid11: LabelSet, precision: str
) -> None:
    """Logits of the very file that the engine stands for, in half where it has half."""
    import openvino as ov

    backend = make(precision)
    frame = random_frame(7, (96, 128), camvid11)
    masks = evaluate(backend, [frame], MaskRequest(camvid11, Size(101, 77), True), "rgb")[0]
    path = typed_model.file(engine_store.file_precision(typed_model, precision))
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    network = ov.Core().read_model(path)
    network.reshape({0: [1, 96, 128, 3]})
    logits = ov.Core().compile_model(network, "CPU", config)({0: frame[None]})[0][0]
    assert logits.dtype == (np.float16 if precision == "fp16" else np.float32)
    assert backend.info.precision == precision
    expected = masks_from_logits(logits.astype(np.float32), (101, 77), camvid11, confidence=True)
    assert_same(masks, expected)


def test_two_in_flight_come_back_in_order(
    make: MakeBackend, cpu: OpenVINOBackend, camvid11: LabelSet, way: str
) -> None:
    backend, request = make(), MaskRequest(camvid11)
    frames = [random_frame(seed, (97, 131), camvid11) for seed in range(7)]
    expected = [evaluate(cpu, [frame], request)[0] for frame in frames]
    results: list[Masks] = []
    for index, frame in enumerate(frames):
        if index >= 2:
            results += backend.collect()
        own = frame.copy()
        backend.submit([Frame(own)], request)
        own[:] = 0  # the caller may use its frame again at once
    results += backend.collect() + backend.collect()
    for ours, theirs in zip(results, expected, strict=True):
        assert_same(ours, theirs)


def test_a_third_submit_and_a_collect_of_nothing_are_refused(
    make: MakeBackend, camvid11: LabelSet
) -> None:
    backend, request = make(), MaskRequest(camvid11)
    frame = np.zeros((96, 128, 3), np.uint8)
    with pytest.raises(BackendError, match="nothing is in flight"):
        backend.collect()
    backend.submit([Frame(frame)], request)
    backend.submit([Frame(frame)], request)
    with pytest.raises(BackendError, match="2 submits are in flight"):
        backend.submit([Frame(frame)], request)
    assert len(backend.collect()) == len(backend.collect()) == 1


def test_graph_serves_every_frame_but_the_first_and_is_captured_anew_for_a_new_size(
    driver: ctypes.CDLL, make: MakeBackend, camvid11: LabelSet
) -> None:
    backend, request = make(), MaskRequest(camvid11, (60, 80))

    def run(size: tuple[int, int], count: int) -> tuple[int, int]:
        before = (
            driver.emu_calls(b"cuGraphLaunch"),
            driver.emu_calls(b"cuGraphInstantiateWithFlags"),
        )
        for _ in range(count):
            evaluate(backend, [np.zeros((*size, 3), np.uint8)], request)
        after = driver.emu_calls(b"cuGraphLaunch"), driver.emu_calls(b"cuGraphInstantiateWithFlags")
        return after[0] - before[0], after[1] - before[1]

    run((128, 128), 2)  # buffers that suffice for all that follows
    assert run((64, 64), 10) == (8, 2)  # the first in each of the two slots goes call by call
    assert run((64, 96), 10) == (8, 2)
    assert run((64, 64), 10) == (10, 0)  # it is still known


def test_many_sizes_do_not_pile_up(
    driver: ctypes.CDLL, make: MakeBackend, cpu: OpenVINOBackend, camvid11: LabelSet
) -> None:
    from deeplab_rt.backends.tensorrt.slots import PLANS

    backend, request = make(), MaskRequest(camvid11)
    sizes = [(200 - 7 * n, 140 - 3 * n) for n in range(3 * PLANS)]
    live = []
    for size in sizes:
        frame = random_frame(1, size, camvid11)
        assert_same(evaluate(backend, [frame], request)[0], evaluate(cpu, [frame], request)[0])
        live.append(driver.emu_live())
    assert len(set(live[-PLANS:])) == 1
    assert driver.emu_calls(b"cuGraphExecDestroy") > 0


def test_small_large_and_small_frames_again(
    make: MakeBackend, cpu: OpenVINOBackend, camvid11: LabelSet, way: str
) -> None:
    """Buffers that grow take the graphs with them that point to the old ones."""
    backend, request = make(), MaskRequest(camvid11, confidence=True)
    for seed, size in enumerate([(60, 80)] * 5 + [(300, 400)] * 5 + [(60, 80)] * 5):
        frame = random_frame(seed, size, camvid11)
        assert_same(evaluate(backend, [frame], request)[0], evaluate(cpu, [frame], request)[0])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_batch_of_cameras_of_different_sizes(
    make: MakeBackend, cpu: OpenVINOBackend, camvid11: LabelSet, way: str, count: int
) -> None:
    backend, request = make(max_batch=3), MaskRequest(camvid11, confidence=True)
    assert backend.max_batch == 3
    frames = [random_frame(i, SIZES[i], camvid11) for i in range(count)]
    for _ in range(3):
        results = evaluate(backend, frames, request)
        assert len(results) == count
        for masks, frame in zip(results, frames, strict=True):
            assert_same(masks, evaluate(cpu, [frame], request)[0])
    with pytest.raises(FrameError, match="expected 1 to 3"):
        backend.submit([Frame(frame) for frame in frames * 4], request)


def test_rows_of_a_frame_may_be_strided(
    make: MakeBackend, cpu: OpenVINOBackend, camvid11: LabelSet
) -> None:
    backend, request = make(), MaskRequest(camvid11)
    wide = random_frame(3, (97, 200), camvid11)
    assert_same(
        evaluate(backend, [wide[:, 10:141]], request)[0],
        evaluate(cpu, [np.ascontiguousarray(wide[:, 10:141])], request)[0],
    )


def test_groups_may_change_from_frame_to_frame(make: MakeBackend, camvid11: LabelSet) -> None:
    backend = make()
    frame = np.full((96, 128, 3), camvid11.palette[camvid11.index("road") + 1], np.uint8)
    for _ in range(3):
        for drivable in (["road"], ["sky"]):
            labels = camvid11.regrouped(drivable=drivable)
            masks = evaluate(backend, [frame], MaskRequest(labels), "rgb")[0]
            assert (masks.drivable == (255 if drivable == ["road"] else 0)).all()


def test_stage_times(driver: ctypes.CDLL, make: MakeBackend, camvid11: LabelSet) -> None:
    stages = {"copy", "upload", "preprocess", "network", "labels", "download"}
    frame = np.zeros((96, 128, 3), np.uint8)
    backend = make()
    for _ in range(3):
        masks = evaluate(backend, [frame], MaskRequest(camvid11))[0]
        assert set(masks.timings) == stages
        assert all(value >= 0 for value in masks.timings.values())
        # The emulation works while the CPU waits, and the network is where the work is.
        assert masks.timings["network"] > masks.timings["download"]


def test_made_in_one_thread_used_in_another(make: MakeBackend, camvid11: LabelSet) -> None:
    """The emulated driver refuses calls in a thread that has no context, as a real one does."""
    backend = make()
    frame, results = np.zeros((96, 128, 3), np.uint8), []

    def work() -> None:
        for _ in range(2):
            results.extend(evaluate(backend, [frame], MaskRequest(camvid11)))

    for _ in range(3):  # one after the other, so that thread idents come back
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert [type(result) for result in results] == [Masks] * 6


def test_closed_twice_and_then_refuses(
    driver: ctypes.CDLL, make: MakeBackend, camvid11: LabelSet
) -> None:
    backend = make()
    backend.submit([Frame(np.zeros((96, 128, 3), np.uint8))], MaskRequest(camvid11))
    backend.close()
    backend.close()
    assert driver.emu_live() == 0
    with pytest.raises(BackendError, match="closed"):
        backend.collect()


@pytest.mark.parametrize(
    ("frame", "request_of", "message"),
    [
        (np.zeros((4, 4)), lambda labels: MaskRequest(labels), "expected uint8"),
        (np.zeros((2, 20000, 3), np.uint8), lambda labels: MaskRequest(labels), "out of bounds"),
        (
            np.zeros((4, 4, 3), np.uint8),
            lambda labels: MaskRequest(labels, (0, 5)),
            "out of bounds",
        ),
        (
            np.zeros((4, 4, 3), np.uint8),
            lambda labels: MaskRequest(LabelSet(labels.labels[:5])),
            "5 labels do not fit the 11 classes",
        ),
    ],
)
def test_bad_frame_is_refused_and_the_next_one_served(
    make: MakeBackend, camvid11: LabelSet, frame: np.ndarray, request_of: Any, message: str
) -> None:
    backend = make()
    with pytest.raises(FrameError, match=message):
        backend.submit([Frame(frame)], request_of(camvid11))
    good = np.zeros((96, 128, 3), np.uint8)
    assert evaluate(backend, [good], MaskRequest(camvid11))[0].size == (96, 128)


# ---- Failures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags", "the network"],
)
def test_frames_go_on_without_a_graph_where_capture_fails(
    driver: ctypes.CDLL,
    tensorrt: Any,
    make: MakeBackend,
    cpu: OpenVINOBackend,
    camvid11: LabelSet,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    call: str,
) -> None:
    if call == "the network":
        monkeypatch.setattr(tensorrt, "refuse_when_capturing", True)
    else:
        driver.emu_fail(call.encode(), 1, INVALID_VALUE)
    backend, request = make(), MaskRequest(camvid11)
    assert backend.info.details["cuda_graph"].startswith("off: ")
    for seed in range(3):
        frame = random_frame(seed, (97, 131), camvid11)
        assert_same(evaluate(backend, [frame], request)[0], evaluate(cpu, [frame], request)[0])
    assert driver.emu_calls(b"cuGraphLaunch") == 0
    warnings = [record for record in caplog.records if "without a CUDA graph" in record.message]
    assert len(warnings) == 1, "it is said once"


def life(make: MakeBackend, labels: LabelSet) -> None:
    """All that a backend does in its life: made, frames of two sizes by call and by graph, closed."""
    backend = make()
    try:
        for size in ((96, 128), (50, 60), (200, 200)):
            for _ in range(3):
                backend.submit([Frame(np.zeros((*size, 3), np.uint8))], MaskRequest(labels))
                backend.collect()
    finally:
        backend.close()


@pytest.mark.parametrize("unified", [False, True])
@pytest.mark.parametrize("code", [INVALID_VALUE, OUT_OF_MEMORY, ILLEGAL_ADDRESS])
def test_every_driver_call_may_fail_at_any_time(
    driver: ctypes.CDLL,
    tensorrt: Any,
    make: MakeBackend,
    camvid11: LabelSet,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    unified: bool,
) -> None:
    """Each call in turn, the first, second, ... last time it is made, and each piece of device work.

    It ends in an error of ours or, where the failure does not matter, in none; nothing leaks.
    """
    driver.emu_integrated(unified)
    life(make, camvid11)
    names = driver.emu_called().decode().split("\n")[:-1]
    assert "cuLaunchKernel" in names and "run masks_float" in names
    counts = {name: driver.emu_calls(name.encode()) for name in names}
    failed = 0
    for name, count in counts.items():
        for nth in sorted({1, 2, max(1, count // 2), count}):
            driver.emu_forget()
            driver.emu_integrated(unified)
            monkeypatch.setattr(probe, "lost_because", None)
            driver.emu_fail(name.encode(), nth, code)
            try:
                life(make, camvid11)
            except DeeplabError as error:
                failed += 1
                text = str(error)
                assert "\n" not in text
                assert "restart" in text or code != ILLEGAL_ADDRESS or "driver" in text, text
            assert driver.emu_live() == 0, f"{name} {nth} leaks"
            if name in ("cuStreamSynchronize", "run cuLaunchHostFunc"):
                # Nobody can wait where waiting fails, nor for a network whose work was thrown away.
                tensorrt.violations.clear()
            assert tensorrt.violations == [], f"{name} {nth}"
    assert failed > len(counts)


@pytest.mark.parametrize(
    "call",
    [
        "cuMemHostAlloc", "cuMemAlloc_v2", "cuMemcpyHtoDAsync_v2", "cuEventRecord", "cuLaunchKernel",
        "cuStreamWaitEvent", "cuEventRecordWithFlags", "cuMemsetD32Async", "cuMemcpyDtoHAsync_v2",
        "cuLaunchHostFunc", "cuEventSynchronize", "run masks_float",
    ],
)  # fmt: skip
def test_the_frame_after_a_failed_one_is_served(
    driver: ctypes.CDLL, make: MakeBackend, cpu: OpenVINOBackend, camvid11: LabelSet, call: str
) -> None:
    backend, request = make(), MaskRequest(camvid11)
    frame = random_frame(5, (211, 307), camvid11)  # larger than what there are buffers for
    driver.emu_fail(call.encode(), 1, INVALID_VALUE)
    with pytest.raises(BackendError):
        evaluate(backend, [frame], request)
    assert driver.emu_pending() == 0
    expected = evaluate(cpu, [frame], request)[0]
    for _ in range(3):
        assert_same(evaluate(backend, [frame], request)[0], expected)


def test_out_of_memory_says_so_and_smaller_frames_go_on(
    driver: ctypes.CDLL, make: MakeBackend, camvid11: LabelSet
) -> None:
    backend, request = make(), MaskRequest(camvid11)
    driver.emu_memory_limit(2_000_000)
    with pytest.raises(BackendError, match=r"out of memory while allocating 6.2 MB for frames"):
        backend.submit([Frame(np.zeros((1080, 1920, 3), np.uint8))], request)
    assert evaluate(backend, [np.zeros((96, 128, 3), np.uint8)], request)[0].size == (96, 128)


def test_out_of_memory_when_loading(driver: ctypes.CDLL, make: MakeBackend) -> None:
    driver.emu_memory_limit(50_000)
    with pytest.raises(BackendError, match="out of memory while allocating .* for the logits"):
        make()


def test_a_lost_device_is_named_and_the_cpu_takes_over(
    driver: ctypes.CDLL, make: MakeBackend, typed_model: Model, camvid11: LabelSet
) -> None:
    backend, request = make(), MaskRequest(camvid11)
    frame = np.zeros((96, 128, 3), np.uint8)
    driver.emu_fail(b"run masks_float", 1, ILLEGAL_ADDRESS)
    backend.submit([Frame(frame)], request)
    with pytest.raises(BackendError, match=r"ILLEGAL_ADDRESS.*this process cannot use it.*restart"):
        backend.collect()
    with pytest.raises(BackendError, match="restart"):
        backend.submit([Frame(frame)], request)
    backend.close()
    assert driver.emu_live() == 0
    other, reason = open_backend(typed_model, "auto", "fp32")
    assert other.info.name == "openvino"
    assert "the GPU failed earlier in this process" in reason
    other.close()
    with pytest.raises(BackendError, match="restart the process"):
        open_backend(typed_model, "tensorrt", "fp32")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_an_error_and_not_a_mask(
    tensorrt: Any,
    make: MakeBackend,
    camvid11: LabelSet,
    monkeypatch: pytest.MonkeyPatch,
    value: float,
) -> None:
    backend = make("fp16")
    frame = np.zeros((96, 128, 3), np.uint8)
    monkeypatch.setattr(tensorrt, "poison", value)
    with pytest.raises(BackendError, match="not finite on this frame: in fp16"):
        evaluate(backend, [frame], MaskRequest(camvid11))
    monkeypatch.setattr(tensorrt, "poison", None)
    assert evaluate(backend, [frame], MaskRequest(camvid11))[0].labels.all()


# ---- Engines that do not fit ------------------------------------------------------------------------


def test_a_corrupt_engine_names_the_command(make: MakeBackend, typed_model: Model) -> None:
    make()
    engine = store_engine(typed_model, "fp32")
    content = bytearray(engine.path.read_bytes())
    content[100] ^= 1
    engine.path.write_bytes(content)
    with pytest.raises(EngineError, match=r"corrupt.*deeplab_rt build"):
        open_backend(typed_model, "tensorrt", "fp32")
    store_engine(typed_model, "fp32")


def test_an_engine_that_tensorrt_refuses(make: MakeBackend, typed_model: Model) -> None:
    make()
    target = probe.target_here()
    engine_store.save(engine_store.spec_of(typed_model, "fp32", None, 1, target), b"not an engine")
    with pytest.raises(EngineError, match=r"TensorRT 10.3.0 cannot load .*deeplab_rt build"):
        open_backend(typed_model, "tensorrt", "fp32")
    store_engine(typed_model, "fp32")


def test_an_engine_of_another_network(make: MakeBackend, typed_model: Model) -> None:
    make()
    other = onnx.load(typed_model.file("fp32"))
    for tensor in other.graph.initializer:
        if tensor.name in ("weight", "bias"):
            array = onnx.numpy_helper.to_array(tensor)[:7]
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    other.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7
    spec = engine_store.spec_of(typed_model, "fp32", None, 1, probe.target_here())
    engine_store.save(spec, of_one_size(other, spec.input_size))
    with pytest.raises(EngineError, match=r"logits \[-1, 7, 24, 32\].*expected.*\[11, 24, 32\]"):
        open_backend(typed_model, "tensorrt", "fp32")
    store_engine(typed_model, "fp32")


# ---- Choice -----------------------------------------------------------------------------------------


def test_auto_takes_tensorrt_where_there_is_an_engine(
    make: MakeBackend, typed_model: Model
) -> None:
    make()
    backend, reason = open_backend(typed_model, "auto", "fp32")
    assert backend.info.name == "tensorrt"
    assert "Emulated Orin" in reason and "TensorRT 10.3.0" in reason
    backend.close()


def test_auto_says_which_engine_is_missing(
    driver: ctypes.CDLL, tensorrt: Any, palette_model: Model
) -> None:
    backend, reason = open_backend(palette_model, "auto", "fp32")
    assert backend.info.name == "openvino"
    assert "no engine of palette in fp32 at 128x96" in reason and "`deeplab_rt build" in reason
    backend.close()
    with pytest.raises(BackendError, match=r"no engine of palette .*deeplab_rt build --model"):
        open_backend(palette_model, "tensorrt", "fp32")


def test_a_precision_of_the_gpu_alone_says_what_the_gpu_lacks(
    driver: ctypes.CDLL, tensorrt: Any, palette_model: Model
) -> None:
    with pytest.raises(
        BackendError, match=r"fp16 is for a GPU, and TensorRT cannot run.*no engine of palette"
    ):
        open_backend(palette_model, "auto", "fp16")


def test_auto_takes_the_cpu_where_the_gpu_has_no_room(
    driver: ctypes.CDLL, make: MakeBackend, typed_model: Model
) -> None:
    make().close()
    driver.emu_memory_limit(50_000)
    backend, reason = open_backend(typed_model, "auto", "fp32")
    assert backend.info.name == "openvino"
    assert "out of memory" in reason
    backend.close()


def test_nothing_of_cuda_is_imported_without_a_driver(typed_model: Model) -> None:
    script = """
import sys
from deeplab_rt.backends.choice import open_backend
from deeplab_rt.models import load_model
backend, reason = open_backend(load_model(sys.argv[1]), "auto", "fp32")
print([name for name in sys.modules if name.split(".")[0] in ("cuda", "tensorrt", "tensorrt_rtx")])
print(reason)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(typed_model.directory)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    lines = done.stdout.strip().splitlines()
    assert lines[0] == "[]"
    assert "no NVIDIA driver" in lines[1]
