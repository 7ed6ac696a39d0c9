"""What TensorRT and CUDA ask of their users beyond right masks: order, lifetimes, memory, trust."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from typed_networks import of_one_size

from deeplab_rt.backends.base import GpuOptions, MaskRequest
from deeplab_rt.backends.choice import open_backend
from deeplab_rt.backends.openvino import OpenVINOBackend
from deeplab_rt.backends.tensorrt import engine_store, library, probe
from deeplab_rt.backends.tensorrt.engine_store import Options
from deeplab_rt.commands import main
from deeplab_rt.errors import BackendError, DeeplabError, EngineError, FrameError
from deeplab_rt.frame import Frame, as_frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.models import Model
from deeplab_rt.segmenter import Segmenter

SIZE = (96, 128)
TABLES = 6  # the word of the masks kernels' arguments that points to the label tables

MakeBackend = Callable[..., Any]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPLAB_RT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def make(driver: ctypes.CDLL, tensorrt: Any, typed_model: Model) -> Iterator[MakeBackend]:
    from deeplab_rt.backends.tensorrt.runner import TensorRTBackend

    opened: list[TensorRTBackend] = []

    def make(precision: str = "fp32", max_batch: int = 1, **gpu: Any) -> TensorRTBackend:
        if not gpu.get("engine_file"):
            store(typed_model, precision, max_batch)
        opened.append(TensorRTBackend(typed_model, precision, None, max_batch, GpuOptions(**gpu)))
        return opened[-1]

    yield make
    for backend in opened:
        backend.close()


def store(
    model: Model,
    precision: str = "fp32",
    max_batch: int = 1,
    options: Options = engine_store.PLAIN,
    size: tuple[int, int] | None = None,
) -> engine_store.Engine:
    target = probe.target_here()
    spec = engine_store.spec_of(model, precision, size, max_batch, target, options)
    content = of_one_size(onnx.load(model.file(spec.precision)), spec.input_size)
    return engine_store.save(spec, content)


def black(size: tuple[int, int] = SIZE) -> Frame:
    return Frame(np.zeros((*size, 3), np.uint8))


def noise(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def evaluate(backend: Any, frames: list[Frame], request: MaskRequest) -> list[Masks]:
    backend.submit(frames, request)
    return list(backend.collect())


# ---- The engine's key -------------------------------------------------------------------------------


def test_modules_and_power_modes_of_one_family_are_told_apart(
    driver: ctypes.CDLL, make: MakeBackend, typed_model: Model, tmp_path: Path, monkeypatch: Any
) -> None:
    """Orin NX and AGX Orin both say "Orin", 8.7; and a power mode switches multiprocessors off."""
    driver.emu_integrated(1)
    board = tmp_path / "model"
    board.write_text("NVIDIA Jetson AGX Orin Developer Kit\0")
    monkeypatch.setattr(probe, "BOARD", board)
    make().close()
    driver.emu_sms(8)
    with pytest.raises(
        EngineError, match=r"built for .*16 SMs, NVIDIA Jetson AGX.*this is .*8 SMs"
    ):
        open_backend(typed_model, "tensorrt", "fp32")
    driver.emu_sms(16)
    board.write_text("NVIDIA Jetson Orin NX\0")
    with pytest.raises(EngineError, match=r"AGX Orin Developer Kit.*this is .*Jetson Orin NX"):
        open_backend(typed_model, "tensorrt", "fp32")


def test_what_tensorrt_warns_of_when_it_loads_is_logged(
    make: MakeBackend, tensorrt: Any, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tensorrt, "warning", "Using an engine plan file across different models")
    make()
    assert "TensorRT: Using an engine plan file across" in caplog.text


# ---- TensorRT-RTX -----------------------------------------------------------------------------------


@pytest.fixture
def rtx(tensorrt: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    double = library.Library(tensorrt, "tensorrt_rtx", "1.7.1")
    monkeypatch.setattr(library, "load", lambda name=None: double)
    return tensorrt


def test_rtx_compiles_its_kernels_before_they_are_captured_and_keeps_them(
    rtx: Any, make: MakeBackend
) -> None:
    backend = make()
    (config,) = rtx.configs
    strategy = config.dynamic_shapes_kernel_specialization_strategy
    assert strategy is rtx.DynamicShapesKernelSpecializationStrategy.EAGER
    assert config.cuda_graph_strategy is rtx.CudaGraphStrategy.DISABLED
    kept = Path(backend.info.details["engine"]).with_suffix(".rtx-cache")
    assert kept.read_bytes() == b"compiled kernels"
    assert kept.stat().st_mode & 0o777 == 0o600
    kept.write_bytes(b"of an earlier start")
    backend.close()
    make()
    assert rtx.configs[1].cache.content == b"of an earlier start", (
        "the second start compiles nothing"
    )


def test_a_runtime_cache_that_others_can_write_is_not_read(
    rtx: Any, make: MakeBackend, caplog: pytest.LogCaptureFixture
) -> None:
    backend = make()
    kept = Path(backend.info.details["engine"]).with_suffix(".rtx-cache")
    backend.close()
    kept.write_bytes(b"somebody's")
    kept.chmod(0o666)
    make()
    assert rtx.configs[1].cache.content != b"somebody's"
    assert "other users can write it" in caplog.text


def test_a_network_that_rtx_cannot_capture_runs_call_by_call(
    rtx: Any, make: MakeBackend, driver: ctypes.CDLL, camvid11: LabelSet, monkeypatch: Any
) -> None:
    monkeypatch.setattr(rtx, "capturable", False)
    backend = make()
    assert backend.info.details["cuda_graph"].startswith("off: TensorRT-RTX says")
    evaluate(backend, [black()], MaskRequest(camvid11))
    assert driver.emu_calls(b"cuStreamBeginCapture_v2") == 0


# ---- Memory -----------------------------------------------------------------------------------------


def test_label_tables_are_read_in_the_devices_own_memory(
    driver: ctypes.CDLL, make: MakeBackend, camvid11: LabelSet
) -> None:
    """Every pixel reads them, and an integrated GPU may not cache the host's memory."""
    driver.emu_integrated(1)
    driver.emu_delays(0, 2000)  # copies are slow: frames are read in place
    backend = make()
    evaluate(backend, [black((60, 80))], MaskRequest(camvid11))
    assert driver.emu_host_words(b"masks_float") & 1 << 2, "masks are written in place"
    assert not driver.emu_host_words(b"masks_float") & 1 << TABLES
    assert not driver.emu_host_words(b"resize") & 0b1100, "nor are the taps of rows and columns"


@pytest.mark.parametrize(
    ("mapped_us", "copy_us", "chosen"),
    [(3000, 0, "frames and masks are copied"), (0, 3000, "frames and masks are read in place")],
)
def test_shared_memory_is_used_in_the_way_that_was_faster(
    driver: ctypes.CDLL,
    make: MakeBackend,
    camvid11: LabelSet,
    mapped_us: int,
    copy_us: int,
    chosen: str,
) -> None:
    driver.emu_integrated(1)
    driver.emu_delays(mapped_us, copy_us)
    backend = make()
    assert f"shared with the CPU: {chosen} (" in backend.info.details["memory"]
    before = driver.emu_calls(b"run cuMemcpyDtoHAsync_v2")
    masks = [evaluate(backend, [black()], MaskRequest(camvid11))[0] for _ in range(3)]
    copied = driver.emu_calls(b"run cuMemcpyDtoHAsync_v2") > before
    in_place = chosen.endswith("place")
    assert copied != in_place
    assert ("upload" in masks[0].timings) != in_place


def test_a_gpu_with_memory_of_its_own_is_not_timed(driver: ctypes.CDLL, make: MakeBackend) -> None:
    assert make().info.details["memory"] == "of the GPU's own: frames and masks are copied"


# ---- Which engine -----------------------------------------------------------------------------------


def test_a_plain_engine_is_taken_before_one_that_runs_in_more_places(
    make: MakeBackend, typed_model: Model
) -> None:
    plain = store(typed_model)
    store(typed_model, options=Options(hardware_compatible=True))  # built later
    found = probe.find_engine(typed_model, "fp32", SIZE)
    assert found.path == plain.path


def test_an_engine_of_another_size_serves_and_says_so(
    make: MakeBackend, typed_model: Model, camvid11: LabelSet, caplog: pytest.LogCaptureFixture
) -> None:
    from deeplab_rt.backends.tensorrt.runner import TensorRTBackend

    store(typed_model)
    store(typed_model, size=(64, 192))
    backend = TensorRTBackend(typed_model, "fp32")
    assert backend.info.input_size == (64, 192), "the one built last, for a camera"
    for _ in range(2):
        evaluate(backend, [black((480, 640))], MaskRequest(camvid11))
    (record,) = [r for r in caplog.records if "squeezed" in r.message]
    assert "frames of 640x480 are squeezed into the engine's 192x64" in record.message
    assert "(128x96)" in record.message and "--camera 640x480" in record.message
    backend.close()
    backend = TensorRTBackend(typed_model, "fp32", SIZE)
    assert backend.info.input_size == SIZE, "a size that was asked for is a condition"
    backend.close()


def test_an_engine_file_of_ones_own(make: MakeBackend, typed_model: Model, tmp_path: Path) -> None:
    engine = store(typed_model)
    for suffix in (".engine", ".json"):
        (tmp_path / "mine").with_suffix(suffix).write_bytes(
            engine.path.with_suffix(suffix).read_bytes()
        )
    backend = make(engine_file=tmp_path / "mine.engine")
    assert backend.info.details["engine"] == str(tmp_path / "mine.engine")
    (tmp_path / "mine.json").unlink()
    with pytest.raises(EngineError, match=r"its sidecar mine.json.*is missing.*copy both files"):
        make(engine_file=tmp_path / "mine.engine")


def test_another_gpu_of_the_machine(
    driver: ctypes.CDLL, make: MakeBackend, typed_model: Model
) -> None:
    with pytest.raises(BackendError, match="there is no GPU 1: the driver shows 1, counted from 0"):
        make(device=1)
    driver.emu_present(2)
    assert make(device=1).info.name == "tensorrt"


@pytest.mark.parametrize(
    "arguments", [{"max_batch": 2}, {"device": 1}, {"engine_file": "x"}, {"allow_host_code": True}]
)
def test_the_cpu_refuses_what_it_would_ignore(
    palette_model: Model, arguments: dict[str, Any]
) -> None:
    (name,) = arguments
    with pytest.raises(BackendError, match=f"backend cpu takes no {name}"):
        Segmenter(palette_model, "cpu", **arguments)


# ---- Order and lifetime -----------------------------------------------------------------------------


def test_closing_waits_for_what_is_at_work(
    driver: ctypes.CDLL, make: MakeBackend, camvid11: LabelSet
) -> None:
    """The fixtures find a context that was dropped, or a buffer that was freed, too early."""
    backend = make()
    for size in (SIZE, (50, 60)):
        backend.submit([black(size)], MaskRequest(camvid11))
    before = driver.emu_calls(b"cuStreamSynchronize")
    backend.close()
    assert driver.emu_calls(b"cuStreamSynchronize") >= before + 2


def test_the_context_is_made_current_at_every_call(
    driver: ctypes.CDLL, make: MakeBackend, camvid11: LabelSet
) -> None:
    backend = make()
    for _ in range(2):
        driver.emu_other_context()
        backend.submit([black()], MaskRequest(camvid11))
        driver.emu_other_context()
        backend.collect()


def test_a_clock_that_fails_costs_the_times_and_no_frame(
    driver: ctypes.CDLL,
    make: MakeBackend,
    camvid11: LabelSet,
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend = make()
    driver.emu_fail(b"cuEventElapsedTime", 1, 400)
    for _ in range(3):
        (masks,) = evaluate(backend, [black()], MaskRequest(camvid11))
        assert masks.labels.all() and set(masks.timings) == {"copy"}
    assert len([r for r in caplog.records if "without stage times" in r.message]) == 1
    assert backend.info.details["stage_times"].startswith("off: ")


def test_three_cameras_in_any_order_are_one_shape(
    driver: ctypes.CDLL, make: MakeBackend, typed_model: Model, camvid11: LabelSet
) -> None:
    backend, request = make(max_batch=3), MaskRequest(camvid11)
    cpu = OpenVINOBackend(typed_model, "fp32", SIZE)
    images = [noise(i, size) for i, size in enumerate([(96, 128), (60, 80), (50, 40)])]
    expected = [evaluate(cpu, [Frame(image)], request)[0] for image in images]
    orders = [(0, 1, 2), (2, 1, 0), (1, 2, 0), (0, 2, 1), (2, 0, 1), (1, 0, 2)]
    for turn in range(4):
        if turn == 2:
            captured = driver.emu_calls(b"cuGraphInstantiateWithFlags")
        for order in orders:
            results = evaluate(backend, [Frame(images[i]) for i in order], request)
            for i, masks in zip(order, results, strict=True):
                assert np.array_equal(masks.labels, expected[i].labels)
    assert driver.emu_calls(b"cuGraphInstantiateWithFlags") == captured, "nothing is captured anew"
    cpu.close()


def test_a_size_seen_once_is_not_captured(
    driver: ctypes.CDLL, make: MakeBackend, camvid11: LabelSet
) -> None:
    backend, request = make(), MaskRequest(camvid11)
    before = driver.emu_calls(b"cuGraphInstantiateWithFlags")
    for side in range(40, 60):
        evaluate(backend, [black((side, side))], request)
    assert driver.emu_calls(b"cuGraphInstantiateWithFlags") == before


def test_every_slot_is_warm_when_the_backend_is_open(
    driver: ctypes.CDLL, make: MakeBackend, camvid11: LabelSet
) -> None:
    backend = make()
    before = driver.emu_calls(b"cuLaunchKernel"), driver.emu_calls(b"cuMemAlloc_v2")
    for _ in range(backend.depth):
        evaluate(backend, [black()], MaskRequest(camvid11))
    after = driver.emu_calls(b"cuLaunchKernel"), driver.emu_calls(b"cuMemAlloc_v2")
    assert after == before, "frames of the network's size go by graph at once"


def test_a_capture_stands_what_other_threads_do(
    driver: ctypes.CDLL, make: MakeBackend, tensorrt: Any, camvid11: LabelSet, monkeypatch: Any
) -> None:
    """Another library of the process may allocate while we capture."""

    def elsewhere() -> None:
        address = ctypes.c_uint64()
        driver.cuCtxSetCurrent(current)
        assert driver.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(64)) == 0
        driver.cuMemFree_v2(address)

    def on_enqueue(capturing: bool) -> None:
        if capturing:
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()

    current = ctypes.c_void_p()
    driver.cuDevicePrimaryCtxRetain(ctypes.byref(current), 0)
    monkeypatch.setattr(tensorrt, "on_enqueue", on_enqueue)
    try:
        assert make().info.details["cuda_graph"] == "on"
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(0)


def test_errors_after_which_a_process_must_end_are_known() -> None:
    """By the words of the driver's own documentation."""
    driver = pytest.importorskip("cuda.bindings.driver")
    from deeplab_rt.backends.tensorrt.device import STICKY

    ends = {
        code.name
        for code in driver.CUresult
        if "must be terminated" in " ".join((code.__doc__ or "").split())
    }
    assert len(ends) > 8 and ends <= set(STICKY)


# ---- Trust ------------------------------------------------------------------------------------------


def test_engines_are_their_owners_alone(make: MakeBackend, typed_model: Model) -> None:
    engine = store(typed_model)
    assert engine.path.stat().st_mode & 0o777 == 0o600
    assert engine.path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("what", ["file", "directory"])
def test_an_engine_that_others_can_write_is_refused(
    make: MakeBackend, typed_model: Model, what: str
) -> None:
    engine = store(typed_model)
    path = engine.path if what == "file" else engine.path.parent
    path.chmod(path.stat().st_mode | 0o020)
    with pytest.raises(
        EngineError, match=r"other users can write it, and an engine is code: `chmod"
    ):
        open_backend(typed_model, "tensorrt", "fp32")
    path.chmod(path.stat().st_mode & ~0o020)
    open_backend(typed_model, "tensorrt", "fp32")[0].close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_an_engine_of_another_user_is_refused(make: MakeBackend, typed_model: Model) -> None:
    engine = store(typed_model)
    os.chown(engine.path, 12345, -1)
    with pytest.raises(EngineError, match="belongs to another user"):
        open_backend(typed_model, "tensorrt", "fp32")


def test_host_code_in_an_engine_is_allowed_by_name_alone(
    make: MakeBackend, tensorrt: Any, typed_model: Model
) -> None:
    store(typed_model, options=Options(version_compatible=True))
    with pytest.raises(EngineError, match=r"carries code that runs on the CPU.*allow_host_code"):
        open_backend(typed_model, "tensorrt", "fp32")
    assert tensorrt.host_code_allowed == []
    gpu = GpuOptions(allow_host_code=True)
    open_backend(typed_model, "tensorrt", "fp32", gpu=gpu)[0].close()
    assert tensorrt.host_code_allowed == [True]
    make(allow_host_code=True)  # a plain engine has none, whatever is allowed
    assert tensorrt.host_code_allowed == [True, False]


# ---- Images that are on the GPU already -------------------------------------------------------------


class OnDevice:
    """What CuPy and torch give: an array on the device with ``__cuda_array_interface__``."""

    def __init__(self, driver: ctypes.CDLL, image: np.ndarray, pad: int = 0) -> None:
        self._driver, (height, width, _) = driver, image.shape
        pitch = 3 * width + pad
        rows = np.zeros((height, pitch), np.uint8)
        rows[:, : 3 * width] = image.reshape(height, -1)
        self.address = ctypes.c_uint64()
        assert driver.cuMemAlloc_v2(ctypes.byref(self.address), ctypes.c_size_t(rows.size)) == 0
        self.rows = np.ctypeslib.as_array(
            (ctypes.c_uint8 * rows.size).from_address(self.address.value)
        )
        self.content = rows.reshape(-1)
        self.rows[:] = self.content
        self.__cuda_array_interface__ = {
            "shape": image.shape,
            "typestr": "|u1",
            "data": (self.address.value, False),
            "strides": (pitch, 3, 1) if pad else None,
            "version": 3,
        }

    def free(self) -> None:
        assert self._driver.cuMemFree_v2(self.address) == 0


@pytest.fixture
def on_device(driver: ctypes.CDLL, make: MakeBackend) -> Iterator[Callable[..., OnDevice]]:
    made: list[OnDevice] = []
    context = ctypes.c_void_p()
    driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
    driver.cuCtxSetCurrent(context)

    def put(image: np.ndarray, pad: int = 0) -> OnDevice:
        made.append(OnDevice(driver, image, pad))
        return made[-1]

    yield put
    driver.cuCtxSetCurrent(context)
    for one in made:
        one.free()
    driver.cuDevicePrimaryCtxRelease_v2(0)


@pytest.mark.parametrize("unified", [False, True])
@pytest.mark.parametrize("pad", [0, 37])
@pytest.mark.parametrize("size", [SIZE, (97, 131)])
def test_an_image_on_the_device_gives_the_masks_of_its_copy(
    driver: ctypes.CDLL,
    make: MakeBackend,
    on_device: Any,
    camvid11: LabelSet,
    size: tuple[int, int],
    pad: int,
    unified: bool,
) -> None:
    driver.emu_integrated(unified)
    backend, request = make(), MaskRequest(camvid11)
    for seed in range(4):
        image = noise(seed, size)
        (expected,) = evaluate(backend, [Frame(image)], request)
        uploads = driver.emu_calls(b"run cuMemcpyHtoDAsync_v2")
        (masks,) = evaluate(backend, [as_frame(on_device(image, pad))], request)
        assert np.array_equal(masks.labels, expected.labels)
        crossed = driver.emu_calls(b"run cuMemcpyHtoDAsync_v2") - uploads
        assert crossed == 0 or seed == 0, "nothing crosses the bus once the slots know the size"


@pytest.mark.parametrize("first", ["the backend", "the producer"])
def test_a_segmenter_takes_an_image_and_its_stream(
    driver: ctypes.CDLL, make: MakeBackend, on_device: Any, typed_model: Model, first: str
) -> None:
    """It waits for the stream that writes the image, and later writes there wait for it.

    The emulated device works for whoever waits: in either order one of the two would be too late.
    """
    backend = make()
    segmenter = Segmenter(typed_model, backend)
    stream = ctypes.c_void_p()
    assert driver.cuStreamCreate(ctypes.byref(stream), 1) == 0
    image, later = noise(1), noise(2)
    expected = segmenter.segment(image)
    there = on_device(np.zeros_like(image))

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def write(_: int) -> None:
        there.rows[:] = image.reshape(-1)

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def overwrite(_: int) -> None:
        there.rows[:] = later.reshape(-1)

    frame = as_frame(there, stream=stream.value)
    driver.cuLaunchHostFunc(stream, write, None)  # queued, not done
    backend.submit([frame], segmenter.request())
    driver.cuLaunchHostFunc(stream, overwrite, None)
    if first == "the producer":
        driver.cuStreamSynchronize(stream)  # runs what the stream has, and what that waits for
    (masks,) = backend.collect()
    driver.cuStreamSynchronize(stream)
    assert np.array_equal(masks.labels, expected.labels)
    assert np.array_equal(
        segmenter.segment(there, stream=stream.value).labels, segmenter.segment(later).labels
    )
    driver.cuStreamDestroy_v2(stream)


class ByDlpack:
    """An array that speaks DLPack alone."""

    def __init__(self, there: OnDevice, device: tuple[int, int] = (2, 0)) -> None:
        from deeplab_rt.device_image import DeviceImage

        image = DeviceImage.of(there)
        self._keep = (
            there,
            (ctypes.c_int64 * 3)(*image.shape),
            (ctypes.c_int64 * 3)(image.pitch, 3, 1),
        )
        self._tensor = (ctypes.c_uint64 * 10)()
        fields = [image.address, device[0] | device[1] << 32, 3 | (1 | 8 << 8 | 1 << 16) << 32]
        pointers = [ctypes.addressof(part) for part in self._keep[1:]]
        self._tensor[:6] = [*fields, *pointers, 0]
        self._device, self.streams = device, []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device

    def __dlpack__(self, stream: int | None = None) -> Any:
        self.streams.append(stream)
        make = ctypes.pythonapi.PyCapsule_New
        make.restype, make.argtypes = (
            ctypes.py_object,
            (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p),
        )
        return make(ctypes.addressof(self._tensor), b"dltensor", None)


def test_an_image_by_dlpack(make: MakeBackend, on_device: Any, camvid11: LabelSet) -> None:
    backend, request = make(), MaskRequest(camvid11)
    image = noise(3, (60, 80))
    spoken = ByDlpack(on_device(image, pad=16))
    (masks,) = evaluate(backend, [as_frame(spoken)], request)
    (expected,) = evaluate(backend, [Frame(image)], request)
    assert np.array_equal(masks.labels, expected.labels)
    assert spoken.streams == [1], "ready in the order of the legacy default stream"
    with pytest.raises(FrameError, match="an image on GPU 1; this backend runs on GPU 0"):
        backend.submit([as_frame(ByDlpack(on_device(image), (2, 1)))], request)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"typestr": "<f4"}, "type <f4: expected uint8"),
        ({"shape": (4, 4)}, r"shape \[4, 4\]"),
        ({"strides": (600, 6, 1)}, "pixels side by side"),
    ],
)
def test_an_image_on_the_device_that_cannot_be_used(
    make: MakeBackend, on_device: Any, change: dict[str, Any], message: str
) -> None:
    there = on_device(noise(1))
    there.__cuda_array_interface__ = {**there.__cuda_array_interface__, **change}
    with pytest.raises(FrameError, match=message):
        as_frame(there)


def test_the_cpu_refuses_an_image_on_the_device(
    make: MakeBackend, on_device: Any, palette_model: Model
) -> None:
    with (
        Segmenter(palette_model, "cpu") as segmenter,
        pytest.raises(FrameError, match="on a GPU, and the CPU is at work here"),
    ):
        segmenter.segment(on_device(noise(1)))


# ---- Layers -----------------------------------------------------------------------------------------


def test_layers_and_their_times(make: MakeBackend, camvid11: LabelSet) -> None:
    backend = make()
    times = backend.profile_layers(black(), MaskRequest(camvid11), 4)
    assert times == {"the network": 0.5}
    assert backend.info.details["cuda_graph"] == "on"
    assert evaluate(backend, [black()], MaskRequest(camvid11))[0].labels.all()


def test_bench_prints_the_times_of_layers(
    make: MakeBackend, typed_model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    make().close()
    command = ["bench", "--layers", "--model", str(typed_model.directory), "--precision", "fp32"]
    assert main([*command, "--frame", "64x64"]) == 0
    assert "0.5000 ms 100.0 %  the network" in capsys.readouterr().out


def test_a_failure_of_any_kind_is_an_error_of_ours(
    driver: ctypes.CDLL, make: MakeBackend, on_device: Any, camvid11: LabelSet
) -> None:
    backend, request = make(), MaskRequest(camvid11)
    frame = as_frame(on_device(noise(1)))
    for call in ("cuMemcpy2DAsync_v2", "cuStreamWaitEvent", "cuEventRecord"):
        driver.emu_fail(call.encode(), 1, 1)
        with pytest.raises(DeeplabError):
            evaluate(backend, [frame], request)
        assert evaluate(backend, [frame], request)[0].labels.all()
