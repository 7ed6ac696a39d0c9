"""What an engine is built for: the key of the store, and in words why one does not fit."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from dataclasses import asdict, dataclass, replace

from deeplab_rt.errors import ModelError
from deeplab_rt.frame import Size
from deeplab_rt.models import DEFAULT_MODEL, Model, check_input_size, model_names
from deeplab_rt.options import GPU_PRECISIONS

LIBRARY_TITLES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}


@dataclass(frozen=True)
class Target:
    """What engines are built for.

    Attributes:
        library: ``tensorrt`` or ``tensorrt_rtx``.
        version: of the library.
        device: the GPU's name; empty for every GPU of the capability (built ahead of time).
        capability: compute capability, as in ``8.7``.
        sms: streaming multiprocessors; 0 for any number. Modules of one family and power modes of one
            module share a name and differ in these.
        board: a Jetson's module, as its device tree names it; empty elsewhere.
    """

    library: str
    version: str
    device: str
    capability: str
    sms: int = 0
    board: str = ""

    def __str__(self) -> str:
        title = LIBRARY_TITLES.get(self.library, self.library)
        rest = [f"{self.sms} SMs"] if self.sms else []
        what = ", ".join([self.capability, *rest, *([self.board] if self.board else [])])
        return f"{self.device or 'any GPU'} ({what}) with {title} {self.version}"

    def same_device(self, other: Target) -> bool:
        """Whether it is the same kind of GPU on the same kind of board."""
        ours, theirs = ((t.library, t.device, t.capability, t.sms, t.board) for t in (self, other))
        return ours == theirs


@dataclass(frozen=True)
class Options:
    """How an engine may differ from the plain one.

    Attributes:
        version_compatible: also runs with later versions of the same major version.
        hardware_compatible: also runs on other desktop GPUs of Ampere and later (8.0 and up).
    """

    version_compatible: bool = False
    hardware_compatible: bool = False


PLAIN = Options()


@dataclass(frozen=True)
class EngineSpec:
    """Everything that an engine depends on; the key of the store.

    Attributes:
        model: its name.
        onnx_sha256: of the model file that it is made from, in hex.
        precision: of the network's types: ``fp32``, ``fp16`` or ``int8-trt``.
        input_size: (height, width) of the network's input in pixels.
        max_batch: the engine takes 1 to this many frames at once.
        target: the machine.
        options: what was asked for beyond that.
    """

    model: str
    onnx_sha256: str
    precision: str
    input_size: Size
    max_batch: int
    target: Target
    options: Options = PLAIN

    @property
    def file_name(self) -> str:
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        model = re.sub(r"[^\w.-]", "_", self.model)  # a manifest may name its model anything
        return f"{model}-{self.precision}-{self.input_size}-b{self.max_batch}-{digest[:12]}.engine"


def file_precision(model: Model, precision: str, library: str = "tensorrt") -> str:
    """The form of a model that a precision means on TensorRT: ``fp32``, ``fp16`` or ``int8-trt``.

    ``auto`` is the manifest's ``gpu_precision``, else fp16. On TensorRT-RTX ``auto`` is never int8:
    there every INT8 convolution puts out float, and the engine moves more bytes than fp16's. fp16
    needs no file of its own, it is derived from the fp32 file. ``int8`` is the file with symmetric
    Q/DQ, ``int8-trt``.

    Raises:
        ModelError: TensorRT has no such precision, or the model has no such file.
    """
    if precision == "auto":
        precision = str(model.manifest.get("gpu_precision", "fp16"))
        if precision == "int8" and library == "tensorrt_rtx":
            precision = "fp16"
    if precision not in GPU_PRECISIONS:
        raise ModelError(
            f"precision {precision!r} is not one of auto, {', '.join(GPU_PRECISIONS)} on TensorRT"
        )
    name = "int8-trt" if precision == "int8" else precision
    if source_precision(model, name) not in model.files:
        raise ModelError(
            f"model {model.name!r} has no {name} file for TensorRT; it has: {', '.join(model.files)}"
        )
    return name


def source_precision(model: Model, name: str) -> str:
    """The file that a form of the network is made from: fp16 from fp32 where no fp16 file ships."""
    return "fp32" if name == "fp16" and "fp16" not in model.files else name


def spec_of(
    model: Model,
    precision: str,
    input_size: tuple[int, int] | None,
    max_batch: int,
    target: Target,
    options: Options = PLAIN,
) -> EngineSpec:
    """The engine that a model needs on a target; None for the model's own input size.

    Raises:
        ModelError: the model has no such precision, or does not take the size.
    """
    name = file_precision(model, precision, target.library)
    sha256 = model.files[source_precision(model, name)][1]
    size = check_input_size(input_size or model.input_size)
    if not 1 <= max_batch <= 64:
        raise ModelError(f"a batch of {max_batch} frames: expected 1 to 64")
    return EngineSpec(model.name, sha256, name, size, max_batch, target, options)


def build_command(model: Model, spec: EngineSpec) -> str:
    """The command line that builds an engine."""
    words = ["deeplab_rt", "build"]
    if model.name != DEFAULT_MODEL:
        words += ["--model", model.name if model.name in model_names() else str(model.directory)]
    words += ["--precision", spec.precision.removesuffix("-trt")]
    if spec.input_size != model.input_size:
        words += ["--size", str(spec.input_size)]
    if spec.max_batch > 1:
        words += ["--batch", str(spec.max_batch)]
    return shlex.join(words)


def incompatibility(built: EngineSpec, wanted: EngineSpec) -> str | None:
    """None if an engine of the wanted model, precision and size does, else why not.

    The reason goes on after "the engine ...".
    """
    ours, here = built.target, wanted.target
    device_fits = ours.capability == here.capability and (
        ours.device == "" or ours.same_device(replace(here, library=ours.library))
    )
    if built.options.hardware_compatible:
        device_fits = device_fits or _numbers(here.capability) >= (8, 0)
    version_fits = ours.version == here.version
    if built.options.version_compatible:
        theirs, this = _numbers(ours.version), _numbers(here.version)
        version_fits = version_fits or (theirs[:1] == this[:1] and theirs <= this)
    if ours.library != here.library or not device_fits or not version_fits:
        return f"was built for {ours}; this is {here}"
    if built.onnx_sha256 != wanted.onnx_sha256:
        return (
            f"was built from another version of the model file (SHA-256 {built.onnx_sha256[:12]}..., "
            f"now {wanted.onnx_sha256[:12]}...)"
        )
    if built.max_batch < wanted.max_batch:
        return f"takes {built.max_batch} frames at once, asked for are {wanted.max_batch}"
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
