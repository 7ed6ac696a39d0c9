"""One GPU through the CUDA driver API: context, memory, streams, events, graphs, and its errors.

Everything made here is remembered and freed by :meth:`Device.close`, so that a failure half-way leaks
nothing. The context is the device's primary one, which TensorRT and others in the process share.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from cuda.bindings import driver

from deeplab_rt.backends.tensorrt import kernels, probe
from deeplab_rt.backends.tensorrt.kernels import Launch
from deeplab_rt.device_image import DeviceImage
from deeplab_rt.errors import BackendError

STICKY = (  # after these every call of the process fails (CUDA driver API, CUresult)
    "CUDA_ERROR_DEINITIALIZED",
    "CUDA_ERROR_DEVICE_UNAVAILABLE",
    "CUDA_ERROR_ECC_UNCORRECTABLE",
    "CUDA_ERROR_CONTAINED",
    "CUDA_ERROR_NVLINK_UNCORRECTABLE",
    "CUDA_ERROR_CONTEXT_IS_DESTROYED",
    "CUDA_ERROR_ILLEGAL_ADDRESS",
    "CUDA_ERROR_LAUNCH_TIMEOUT",
    "CUDA_ERROR_ASSERT",
    "CUDA_ERROR_HARDWARE_STACK_ERROR",
    "CUDA_ERROR_ILLEGAL_INSTRUCTION",
    "CUDA_ERROR_MISALIGNED_ADDRESS",
    "CUDA_ERROR_INVALID_ADDRESS_SPACE",
    "CUDA_ERROR_INVALID_PC",
    "CUDA_ERROR_LAUNCH_FAILED",
    "CUDA_ERROR_TENSOR_MEMORY_LEAK",
    "CUDA_ERROR_MPS_CLIENT_TERMINATED",
    "CUDA_ERROR_EXTERNAL_DEVICE",
)


class DeviceLostError(BackendError):
    """The GPU failed in a way that this process cannot get over; a new process can try."""


def check(doing: str, result: tuple[Any, ...]) -> Any:
    """The value of a cuda-python call, which returns (CUresult, value...).

    Args:
        doing: what the call was for, as in "while ...".
        result: what it returned.

    Raises:
        DeviceLostError: the device is gone for this process.
        BackendError: no memory is left, or any other failure.
    """
    code, *values = result
    if code == driver.CUresult.CUDA_SUCCESS:
        return values[0] if values else None
    name = driver.CUresult(code).name
    text = driver.cuGetErrorString(code)[1]
    said = f"{name}: {text.decode() if text else 'unknown error'}"
    if code == driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
        raise BackendError(
            f"the GPU is out of memory while {doing} ({name}): stop other programs that use it, or "
            "take a smaller input size or fewer cameras at once"
        )
    if name in STICKY:
        probe.gpu_is_lost(f"{name} while {doing}")
        raise DeviceLostError(
            f"the GPU failed while {doing} ({said}): this process cannot use it any more, restart it "
            "(or go on with backend cpu)"
        )
    raise BackendError(f"the GPU failed while {doing} ({said})")


def select(index: int) -> None:
    """Make a GPU's primary context current in this thread, for the life of the process.

    Raises:
        BackendError: the device failed.
    """
    check("starting CUDA", driver.cuInit(0))
    device = check("finding the GPU", driver.cuDeviceGet(index))
    context = check("making a context", driver.cuDevicePrimaryCtxRetain(device))
    check("entering the context", driver.cuCtxSetCurrent(context))


@dataclass
class Pinned:
    """Host memory that the GPU reaches.

    Attributes:
        array: uint8, the memory as the CPU sees it.
        address: where the CPU has it.
        device_address: where kernels have it; 0 unless the memory is mapped.
    """

    array: np.ndarray
    address: int
    device_address: int


class Device:
    """A GPU of :func:`.probe.find_gpu` with what was made on it. One thread at a time."""

    def __init__(self, index: int = 0) -> None:
        """Take hold of the primary context and load the kernels.

        Args:
            index: of the GPU, as the driver counts them.

        Raises:
            BackendError: there is no working GPU, or the kernels do not compile or load.
        """
        self.gpu = probe.find_gpu(index)
        self._made: dict[tuple[str, int], Callable[[], Any]] = {}
        cubin = kernels.cubin_for(self.gpu.capability)
        check("starting CUDA", driver.cuInit(0))
        device = check("finding the GPU", driver.cuDeviceGet(index))
        self._context = check("making a context", driver.cuDevicePrimaryCtxRetain(device))
        self._made["context", 0] = lambda: driver.cuDevicePrimaryCtxRelease(device)
        try:
            self.activate()
            module = check("loading the kernels", driver.cuModuleLoadData(cubin))
            self._made["module", int(module)] = lambda: driver.cuModuleUnload(module)
            self._functions = {
                name: check(
                    f"loading the kernel {name}", driver.cuModuleGetFunction(module, name.encode())
                )
                for name in kernels.NAMES
            }
        except BaseException:
            self.close()
            raise

    def activate(self) -> None:
        """Make the context current in this thread.

        At every call, since others in the process may have made theirs current: it costs well under a
        microsecond where nothing changes.

        Raises:
            BackendError: the device failed.
        """
        check("entering the context", driver.cuCtxSetCurrent(self._context))

    def enter(self) -> None:
        """The same for whoever is about to free things: a device that failed does not stop them."""
        driver.cuCtxSetCurrent(self._context)

    def _keep(self, kind: str, handle: Any, free: Callable[[], Any]) -> int:
        self._made[kind, int(handle)] = free
        return int(handle)

    def free(self, kind: str, handle: int) -> None:
        """Free one thing that was made here.

        What the driver answers is not looked at: a device that failed has said so in the call before,
        and there is nothing that a caller could do about memory that does not want to be freed.
        """
        self._made.pop((kind, handle))()

    def allocate(self, size: int, what: str) -> int:
        """Device memory of ``size`` bytes; its address. Freed as kind ``memory``.

        Raises:
            BackendError: out of memory.
        """
        doing = f"allocating {size / 1e6:.1f} MB for {what}"
        address = check(doing, driver.cuMemAlloc(size))
        return self._keep("memory", address, lambda: driver.cuMemFree(address))

    def allocate_pinned(self, size: int, what: str, mapped: bool) -> Pinned:
        """Page-locked host memory. Freed as kind ``pinned`` by its ``address``.

        Args:
            size: in bytes.
            what: it is for, for messages.
            mapped: whether kernels shall reach it without a copy.

        Raises:
            BackendError: out of memory.
        """
        doing = f"allocating {size / 1e6:.1f} MB of pinned memory for {what}"
        flags = driver.CU_MEMHOSTALLOC_PORTABLE | (
            driver.CU_MEMHOSTALLOC_DEVICEMAP if mapped else 0
        )
        address = int(check(doing, driver.cuMemHostAlloc(size, flags)))
        self._keep("pinned", address, lambda: driver.cuMemFreeHost(address))
        array = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
        there = int(check(doing, driver.cuMemHostGetDevicePointer(address, 0))) if mapped else 0
        return Pinned(array, address, there)

    def stream(self) -> int:
        """A stream that does not wait for the default one. Freed as kind ``stream``."""
        flags = driver.CUstream_flags.CU_STREAM_NON_BLOCKING
        stream = check("making a stream", driver.cuStreamCreate(flags))
        return self._keep("stream", stream, lambda: driver.cuStreamDestroy(stream))

    def event(self) -> int:
        """A timed event; waiting for it sleeps instead of spinning. Freed as kind ``event``."""
        flags = driver.CUevent_flags.CU_EVENT_BLOCKING_SYNC
        event = check("making an event", driver.cuEventCreate(flags))
        return self._keep("event", event, lambda: driver.cuEventDestroy(event))

    def launch(self, launch: Launch, stream: int) -> None:
        """Start a kernel."""
        parameters = (ctypes.c_void_p * 1)(ctypes.addressof(launch.args))
        check(
            f"starting the kernel {launch.name}",
            driver.cuLaunchKernel(
                self._functions[launch.name],
                *launch.grid,
                *launch.block,
                0,
                stream,
                ctypes.addressof(parameters),
                0,
            ),
        )

    def copy_rows(self, to: int, image: DeviceImage, stream: int) -> None:
        """Start a copy of an image on the device to ``to``, its rows side by side there.

        Raises:
            BackendError: the device failed.
        """
        height, width, channels = image.shape
        copy = driver.CUDA_MEMCPY2D()
        copy.srcMemoryType = copy.dstMemoryType = driver.CUmemorytype.CU_MEMORYTYPE_UNIFIED
        copy.srcDevice, copy.srcPitch = image.address, image.pitch
        copy.dstDevice, copy.dstPitch = to, width * channels
        copy.WidthInBytes, copy.Height = width * channels, height
        check("copying an image on the GPU", driver.cuMemcpy2DAsync(copy, stream))

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        """What ``work`` puts into the stream, as a graph instead of executed. Freed as kind ``graph``.

        Raises:
            BackendError: ``work`` failed, or did what cannot be captured. The stream is usable again.
        """
        # Thread-local: other threads of the process may allocate meanwhile.
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        check("starting to capture a graph", driver.cuStreamBeginCapture(stream, mode))
        try:
            work()
        except BaseException:
            graph = driver.cuStreamEndCapture(stream)[1]  # ends it, and fails if it was broken off
            if graph is not None and int(graph):
                driver.cuGraphDestroy(graph)
            raise
        graph = check("capturing a graph", driver.cuStreamEndCapture(stream))
        try:
            runnable = check("making a graph runnable", driver.cuGraphInstantiate(graph, 0))
        finally:
            driver.cuGraphDestroy(graph)
        return self._keep("graph", runnable, lambda: driver.cuGraphExecDestroy(runnable))

    def settle(self, *streams: int) -> None:
        """Wait, after a failure, until nothing is at work any more in these streams.

        Raises:
            DeviceLostError: it was the device itself that failed. Other errors are left to whoever
                raised the first one.
        """
        for stream in streams:
            try:
                check("waiting after a failure", driver.cuStreamSynchronize(stream))
            except DeviceLostError:
                raise
            except BackendError:
                continue

    def drain(self, *streams: int) -> None:
        """Wait for these streams before things are freed; a device that failed has nothing to wait for."""
        for stream in streams:
            driver.cuStreamSynchronize(stream)

    def close(self) -> None:
        """Free everything, the newest first. Safe to call twice."""
        if not self._made:
            return
        self.enter()
        for key in reversed(list(self._made)):
            self.free(*key)
