"""Which backend runs on this machine, and why."""

from __future__ import annotations

from deeplab_rt.backends.base import ANY_GPU, Backend, GpuOptions
from deeplab_rt.errors import BackendError, DeeplabError
from deeplab_rt.models import Model
from deeplab_rt.options import BACKENDS, CPU_PRECISIONS


def open_backend(
    model: Model,
    backend: str = "auto",
    precision: str = "auto",
    input_size: tuple[int, int] | None = None,
    max_batch: int = 1,
    gpu: GpuOptions = ANY_GPU,
) -> tuple[Backend, str]:
    """Open the backend that was asked for, or the best one that works here.

    ``auto`` takes TensorRT where a device, a library and an engine are there, else OpenVINO.
    Nothing of CUDA is imported unless a driver is found.

    Returns:
        The backend, and one line that says which and why.

    Raises:
        BackendError: it cannot run here; the message says what is missing and what fixes it. Or the
            CPU was asked for with what a GPU alone takes.
    """
    if backend == "cpu":
        _refuse_what_a_cpu_ignores(max_batch, gpu)
    if backend not in BACKENDS:
        raise BackendError(f"unknown backend {backend!r}; known: {', '.join(BACKENDS)}")
    reason = "asked for"
    if backend != "cpu":
        try:
            return open_tensorrt(model, precision, input_size, max_batch, gpu)
        except DeeplabError as error:
            if backend == "tensorrt":
                raise
            reason = f"TensorRT cannot run here: {error}"
    from deeplab_rt.backends.openvino import OpenVINOBackend

    if backend == "auto" and precision not in ("auto", *CPU_PRECISIONS):
        raise BackendError(f"precision {precision} is for a GPU, and {reason}")
    return OpenVINOBackend(model, precision, input_size), reason


def _refuse_what_a_cpu_ignores(max_batch: int, gpu: GpuOptions) -> None:
    ignored = [name for name, value in vars(gpu).items() if value != getattr(ANY_GPU, name)]
    ignored += ["max_batch"] if max_batch != 1 else []
    if ignored:
        raise BackendError(
            f"backend cpu takes no {', '.join(ignored)}: leave it out, or take backend tensorrt or auto"
        )


def open_tensorrt(
    model: Model,
    precision: str,
    input_size: tuple[int, int] | None,
    max_batch: int,
    gpu: GpuOptions,
) -> tuple[Backend, str]:
    """The TensorRT backend, and why it can run here.

    Raises:
        BackendError: it cannot; the message says what is missing.
    """
    from deeplab_rt.backends.tensorrt.probe import find_engine

    # It says what is missing; only then may the runner, which imports cuda-python, be imported.
    find_engine(model, precision, input_size, max_batch, gpu)
    from deeplab_rt.backends.tensorrt.runner import TensorRTBackend

    tensorrt = TensorRTBackend(model, precision, input_size, max_batch, gpu)
    info = tensorrt.info
    return tensorrt, f"{info.details['library']} has an engine for this {info.device}"
