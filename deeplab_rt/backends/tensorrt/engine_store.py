"""Compiled engines on disk: which one fits this machine, and in words why none does.

An engine is good for one model file, library version, kind of GPU, precision and shape. Each lies in
``cache_dir()/engines`` beside a JSON sidecar that says what it was built for; the sidecar is written
last, so an engine without one is not there yet. Nothing here imports CUDA or TensorRT.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from deeplab_rt.errors import EngineError, ModelError
from deeplab_rt.files import cache_dir, write_atomically
from deeplab_rt.frame import Size
from deeplab_rt.models import (
    DEFAULT_MODEL,
    Model,
    check_input_size,
    model_names,
)
from deeplab_rt.options import GPU_PRECISIONS

LIBRARY_TITLES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
_LEFTOVER_AGE_S = 24 * 3600


@dataclass(frozen=True)
class Target:
    """What engines are built for.

    Attributes:
        library: ``tensorrt`` or ``tensorrt_rtx``.
        version: of the library.
        device: the GPU's name; empty for every GPU of the capability (built ahead of time).
        capability: compute capability, as in ``8.7``.
    """

    library: str
    version: str
    device: str
    capability: str

    def __str__(self) -> str:
        title = LIBRARY_TITLES.get(self.library, self.library)
        return f"{self.device or 'any GPU'} ({self.capability}) with {title} {self.version}"


@dataclass(frozen=True)
class Options:
    """How an engine may differ from the plain one.

    Attributes:
        version_compatible: also runs with later versions of the same major version.
        hardware_compatible: also runs on other desktop GPUs of Ampere and later (8.0 and up).
        dla_core: the Deep Learning Accelerator it runs on, layers that it cannot do on the GPU.
    """

    version_compatible: bool = False
    hardware_compatible: bool = False
    dla_core: int | None = None


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


@dataclass(frozen=True)
class Engine:
    """An engine on disk.

    Attributes:
        path: of the engine; the sidecar is beside it.
        spec: what it was built for.
        sha256: of its bytes, in hex.
        built_at: in seconds since the epoch.
    """

    path: Path
    spec: EngineSpec
    sha256: str
    built_at: float

    def read(self) -> bytes:
        """Its bytes, checked.

        Raises:
            EngineError: the file is gone, or its SHA-256 is not the sidecar's.
        """
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise EngineError(
                f"{self.path}: cannot read the engine: {error.strerror}; rebuild with `deeplab_rt build`"
            ) from None
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise EngineError(
                f"{self.path}: the engine is corrupt (its SHA-256 is not the one in "
                f"{_sidecar(self.path).name}): rebuild with `deeplab_rt build`"
            )
        return content


def engines_dir() -> Path:
    """Where engines, sidecars, the timing cache and the builder's logs lie."""
    return cache_dir() / "engines"


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


def find(model: Model, spec: EngineSpec) -> Engine:
    """The engine on disk that does what ``spec`` asks for, whatever its options.

    Of several, the one for the fewest frames at once, and of those the one built last.

    Raises:
        EngineError: there is none; the message says what there is and why it does not do, and names
            the command that builds the right one.
    """
    fitting, reasons = [], []
    for engine in stored():
        built = engine.spec
        same = (built.model, built.precision, built.input_size)
        if same != (spec.model, spec.precision, spec.input_size):
            continue
        if reason := incompatibility(built, spec):
            reasons.append(reason)
        else:
            fitting.append(engine)
    if fitting:
        return min(fitting, key=lambda engine: (engine.spec.max_batch, -engine.built_at))
    command = build_command(model, spec)
    if reasons:
        raise EngineError(f"the engine {reasons[0]}: rebuild with `{command}`")
    raise EngineError(
        f"no engine of {spec.model} in {spec.precision} at {spec.input_size} is built: build it with "
        f"`{command}`"
    )


def incompatibility(built: EngineSpec, wanted: EngineSpec) -> str | None:
    """None if an engine of the wanted model, precision and size does, else why not.

    The reason goes on after "the engine ...".
    """
    ours, here = built.target, wanted.target
    device_fits = ours.capability == here.capability and ours.device in ("", here.device)
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


def stored() -> Iterator[Engine]:
    """Every engine of the store whose sidecar can be read, in the order of their names."""
    for sidecar in sorted(engines_dir().glob("*.json")):
        try:
            content = json.loads(sidecar.read_text(encoding="utf-8"))
            yield Engine(
                sidecar.with_suffix(".engine"),
                _parse(content["spec"]),
                str(content["sha256"]),
                float(content["built_at"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue  # not a sidecar of this version: then there is no such engine, and it is rebuilt


def _parse(content: dict[str, object]) -> EngineSpec:
    target, options, size = content["target"], content["options"], content["input_size"]
    if not (isinstance(target, dict) and isinstance(options, dict) and isinstance(size, list)):
        raise TypeError("malformed sidecar")
    rest = {name: content[name] for name in ("model", "onnx_sha256", "precision", "max_batch")}
    height, width = size
    spec = EngineSpec(
        **rest,  # type: ignore[arg-type]
        input_size=Size(height, width),
        target=Target(**target),
        options=Options(**options),
    )
    if not all(isinstance(getattr(spec.target, f.name), str) for f in fields(Target)):
        raise TypeError("malformed target")
    return spec


def save(spec: EngineSpec, content: bytes) -> Engine:
    """Write an engine and its sidecar, so that a reader sees both or none.

    Raises:
        EngineError: the cache directory cannot be written.
    """
    path = engines_dir() / spec.file_name
    sha256, built_at = hashlib.sha256(content).hexdigest(), time.time()
    sidecar = {
        "spec": asdict(spec),
        "sha256": sha256,
        "bytes": len(content),
        "built_at": built_at,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sidecar(path).unlink(missing_ok=True)
        write_atomically(path, content)
        write_atomically(_sidecar(path), json.dumps(sidecar, indent=1).encode())
    except OSError as error:
        raise EngineError(
            f"{path.parent}: cannot write the engine: {error.strerror}; free space there or set "
            "DEEPLAB_RT_CACHE to a directory that can be written"
        ) from None
    return Engine(path, spec, sha256, built_at)


def _sidecar(path: Path) -> Path:
    return path.with_suffix(".json")


@contextmanager
def build_lock(spec: EngineSpec, waiting: Callable[[], None]) -> Iterator[None]:
    """Held by the one process that builds an engine; ``waiting`` is called if another one holds it.

    The lock ends with its process, however that ends.

    Raises:
        EngineError: the cache directory cannot be written.
    """
    path = engines_dir() / f"{spec.file_name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("w")
    except OSError as error:
        raise EngineError(
            f"{path.parent}: cannot write there: {error.strerror}; set DEEPLAB_RT_CACHE to a "
            "directory that can be written"
        ) from None
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def prune(spec: EngineSpec) -> list[Path]:
    """Remove what a new engine has replaced: the same one for an older model file or library here.

    Engines for other GPUs stay, since a cache may be shared. So do those of other sizes and batches
    of the present model file and library.

    Returns:
        The engines that were removed.
    """
    removed = []
    for engine in stored():
        old = engine.spec
        same_machine = (old.target.library, old.target.device, old.target.capability) == (
            spec.target.library,
            spec.target.device,
            spec.target.capability,
        )
        same_model = (old.model, old.precision) == (spec.model, spec.precision)
        current = (old.onnx_sha256, old.target.version) == (spec.onnx_sha256, spec.target.version)
        if same_machine and same_model and not current:
            _sidecar(engine.path).unlink(missing_ok=True)
            engine.path.unlink(missing_ok=True)
            Path(f"{engine.path}.lock").unlink(missing_ok=True)
            removed.append(engine.path)
    for leftover in engines_dir().glob(".*.engine.*"):  # of a build that was killed
        if time.time() - leftover.stat().st_mtime > _LEFTOVER_AGE_S:
            leftover.unlink(missing_ok=True)
    return removed
