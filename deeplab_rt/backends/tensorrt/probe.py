"""What of TensorRT is here, told without importing anything of CUDA where there is no driver."""

from __future__ import annotations

import ctypes
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

from deeplab_rt.backends.base import ANY_GPU, GpuOptions
from deeplab_rt.backends.tensorrt import engine_store
from deeplab_rt.backends.tensorrt.engine_store import Engine, Target
from deeplab_rt.errors import BackendError
from deeplab_rt.models import Model

# CUdevice_attribute
_SM_COUNT, _INTEGRATED, _MAJOR, _MINOR = 16, 18, 75, 76
# CUresult, https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__TYPES.html
_STUB_LIBRARY, _NO_DEVICE = 34, 100
_NO_GPU = (
    "the NVIDIA driver finds no GPU (was the container started with the GPU, are /dev/nvidia* "
    "readable, what does CUDA_VISIBLE_DEVICES say?)"
)

BOARD = Path("/proc/device-tree/model")  # a Jetson's module and carrier board

lost_because: str | None = None


@dataclass(frozen=True)
class Gpu:
    """A GPU that the driver shows; ``CUDA_VISIBLE_DEVICES`` hides and reorders them.

    Attributes:
        name: as the driver gives it; every module of the Orin family says "Orin".
        capability: compute capability, (8, 7) for Orin.
        sms: streaming multiprocessors; a power mode of a Jetson may switch some off.
        board: the module as the device tree names it; empty where the GPU is no part of a board.
        integrated: whether it shares the CPU's memory, as on Jetson.
        memory: in bytes.
        cuda: the newest CUDA version that the driver knows, (12, 6).
    """

    name: str
    capability: tuple[int, int]
    sms: int
    board: str
    integrated: bool
    memory: int
    cuda: tuple[int, int]


def find_gpu(index: int = 0) -> Gpu:
    """Ask the driver itself, through ctypes: cuda-python is not needed and not imported.

    Raises:
        BackendError: there is no driver, no GPU of that index, or the driver does not work.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise BackendError("no NVIDIA driver (libcuda.so.1) on this machine") from None

    def call(name: str, *arguments: object) -> None:
        code = getattr(driver, name)(*arguments)
        if code == _NO_DEVICE:
            raise BackendError(_NO_GPU)
        if code == _STUB_LIBRARY:
            raise BackendError(
                "libcuda.so.1 is the CUDA toolkit's stub and not a driver: take its folder off "
                "LD_LIBRARY_PATH, or start the container with the GPU"
            )
        if code:
            text = ctypes.c_char_p()
            driver.cuGetErrorString(code, ctypes.byref(text))
            raise BackendError(
                f"the NVIDIA driver does not work: {name} says "
                f"{(text.value or b'error').decode()} ({code}); `nvidia-smi` may tell more"
            )

    def attribute(which: int) -> int:
        value = ctypes.c_int()
        call("cuDeviceGetAttribute", ctypes.byref(value), which, device)
        return value.value

    version, count, device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    call("cuInit", 0)
    call("cuDriverGetVersion", ctypes.byref(version))
    call("cuDeviceGetCount", ctypes.byref(count))
    if count.value == 0:
        raise BackendError(_NO_GPU)
    if not 0 <= index < count.value:
        raise BackendError(
            f"there is no GPU {index}: the driver shows {count.value}, counted from 0 (CUDA_VISIBLE_DEVICES "
            "may hide some)"
        )
    call("cuDeviceGet", ctypes.byref(device), index)
    call("cuDeviceGetName", name, len(name), device)
    call("cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    integrated = bool(attribute(_INTEGRATED))
    return Gpu(
        name=name.value.decode(),
        capability=(attribute(_MAJOR), attribute(_MINOR)),
        sms=attribute(_SM_COUNT),
        board=_board() if integrated else "",
        integrated=integrated,
        memory=memory.value,
        cuda=(version.value // 1000, version.value % 1000 // 10),
    )


def _board() -> str:
    try:
        return BOARD.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""


def gpu_is_lost(reason: str) -> None:
    """Remember that the GPU failed in a way that this process cannot get over.

    After an illegal address, a failed launch or the like every further call fails the same in this
    process (CUDA driver API, CUresult), so nobody here should try again.
    """
    global lost_because
    lost_because = reason


def machine_lacks(device: int = 0) -> str | None:
    """None if this machine can build and run engines, else what is missing, in words."""
    if lost_because is not None:
        return f"the GPU failed earlier in this process ({lost_because}); restart the process"
    try:
        _check_cuda_python(find_gpu(device).cuda)
        from deeplab_rt.backends.tensorrt import library as libraries

        libraries.load()
    except BackendError as error:
        return str(error)
    return None


def _check_cuda_python(driver: tuple[int, int]) -> None:
    """Refuse what would only fail at some later call: a cuda-python for newer drivers."""
    try:
        version = importlib.metadata.version("cuda-bindings")
    except importlib.metadata.PackageNotFoundError:
        raise BackendError(
            f"cuda-python is not installed: `pip install 'cuda-bindings=={driver[0]}.*'`"
        ) from None
    if int(version.split(".")[0]) > driver[0]:
        raise BackendError(
            f"cuda-python {version} is for newer drivers than this one, which knows CUDA "
            f"{driver[0]}.{driver[1]}: `pip install 'cuda-bindings=={driver[0]}.*'`, or update the driver"
        )


def target_here(device: int = 0) -> Target:
    """What engines must be built for to run on a GPU of this machine.

    Raises:
        BackendError: this machine cannot run any.
    """
    if missing := machine_lacks(device):
        raise BackendError(missing)
    from deeplab_rt.backends.tensorrt import library as libraries

    gpu, library = find_gpu(device), libraries.load()
    capability = "{}.{}".format(*gpu.capability)
    return Target(library.name, library.version, gpu.name, capability, gpu.sms, gpu.board)


def find_engine(
    model: Model,
    precision: str = "auto",
    input_size: tuple[int, int] | None = None,
    max_batch: int = 1,
    gpu: GpuOptions = ANY_GPU,
) -> Engine:
    """The engine of a model for this machine; :func:`~.builder.build` makes it where it is missing.

    Without an input size the engine built last is taken, whatever its size: it was built for a camera.

    Raises:
        BackendError: this machine cannot run any engine.
        EngineError: it can, and there is none; the message says why and how to build it.
        ModelError: the model does not come in that precision or size.
    """
    target = target_here(gpu.device)
    if gpu.engine_file is not None:
        return engine_store.from_file(
            model, gpu.engine_file, max_batch, target, gpu.allow_host_code
        )
    spec = engine_store.spec_of(model, precision, input_size, max_batch, target)
    return engine_store.find(
        model, spec, any_size=input_size is None, allow_host_code=gpu.allow_host_code
    )
