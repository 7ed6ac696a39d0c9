"""Engines from model files, by TensorRT 10 or later or TensorRT-RTX, all by one strongly typed path.

Precision is in the model file (types and Q/DQ of the ONNX), never a flag of the builder. Height and
width are fixed, the batch is 1 to N.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deeplab_rt.backends.contract import check_logits, check_tensors
from deeplab_rt.backends.tensorrt import engine_store, probe
from deeplab_rt.backends.tensorrt import library as libraries
from deeplab_rt.backends.tensorrt.engine_store import PLAIN, Engine, EngineSpec, Options, Target
from deeplab_rt.backends.tensorrt.half import half_bytes
from deeplab_rt.backends.tensorrt.inspection import Layer, layers_of_inspector, layers_of_log
from deeplab_rt.backends.tensorrt.library import Library
from deeplab_rt.errors import EngineError, ModelError
from deeplab_rt.files import write_atomically
from deeplab_rt.models import Model

LOG = logging.getLogger(__name__)

Progress = Callable[[str, float], None]
WORKSPACE_MB = 1024  # a cap: on Jetson it is taken from what everything else runs in


def build(
    model: Model,
    precision: str = "auto",
    input_size: tuple[int, int] | None = None,
    max_batch: int = 1,
    *,
    target: str | None = None,
    options: Options = PLAIN,
    force: bool = False,
    workspace_mb: int = WORKSPACE_MB,
    device: int = 0,
    progress: Progress = lambda phase, done: None,
) -> Engine:
    """Build an engine, or return the one that is there already. Takes seconds to minutes.

    Of several processes that want the same engine one builds it and the others wait for it. TensorRT
    lets go of the interpreter lock while it builds, so a background thread can do this.

    Args:
        model: whose file is compiled.
        precision: ``fp32``, ``fp16``, ``int8``, or ``auto``: the model's own choice for a GPU.
        input_size: (height, width) of the network's input; None for the manifest's.
        max_batch: the engine will take 1 to this many frames at once.
        target: None for this machine's GPU; ``SM86`` and the like to build ahead of time with
            TensorRT-RTX, which needs no GPU.
        options: where the engine shall run beyond this very GPU and library.
        force: build even if the engine is there.
        workspace_mb: the most scratch memory that a layer may take, in MB of 2**20 bytes.
        device: index of this machine's GPU.
        progress: called with what is being done and the part that is done, 0 to 1; may raise to stop.

    Raises:
        BackendError: there is no GPU, driver or library to build with.
        ModelError: the model does not come in that precision or size, or its file is not in the typed
            contract.
        EngineError: TensorRT cannot build it, or the cache cannot be written. The message names the
            builder's log.
    """
    if workspace_mb < 1:
        raise ModelError(f"a workspace of {workspace_mb} MB: expected at least 1")
    if target is None:
        machine, library = probe.target_here(device), libraries.load()
        if device:
            _select(device)
    else:
        library = libraries.load("tensorrt_rtx")
        machine = Target(library.name, library.version, "", _capability_of(library, target))
    spec = engine_store.spec_of(model, precision, input_size, max_batch, machine, options)
    with engine_store.build_lock(spec, lambda: progress("waiting for another process", 0.0)):
        for engine in engine_store.stored():
            if engine.spec == spec and engine.path.is_file() and not force:
                return engine
        if warning := advice(spec):
            LOG.warning(warning)
        path, network = _network_of(model, spec.precision)
        content = compile_network(
            library, path, network, spec, len(model.labels), target, workspace_mb, progress
        )
        engine = engine_store.save(spec, content)
    engine_store.prune(spec)
    return engine


def _select(device: int) -> None:
    """Make a GPU's context current in this thread: TensorRT builds for the current one."""
    from deeplab_rt.backends.tensorrt.device import select

    select(device)


def advice(spec: EngineSpec) -> str | None:
    """What whoever asked for this engine should know before waiting for it; None for nothing."""
    if spec.precision == "int8-trt" and spec.target.library == "tensorrt_rtx":
        return (
            "TensorRT-RTX runs INT8 convolutions with float outputs, so that an int8 engine moves more "
            "bytes than an fp16 one; nobody has measured it faster: take --precision fp16"
        )
    return None


def _network_of(model: Model, precision: str) -> tuple[Path, bytes]:
    """The file behind a form of the network, and the typed ONNX, derived where no file has it.

    Raises:
        ModelError: the file is missing, corrupt or cannot be had in half.
    """
    source = engine_store.source_precision(model, precision)
    path = model.file(source)
    content = path.read_bytes()
    return path, content if source == precision else half_bytes(content, str(path))


def layers_of(engine: Engine, device: int = 0) -> list[Layer]:
    """The layers of an engine: by TensorRT's inspector on its GPU, else from the log of its build.

    Raises:
        EngineError: neither tells them.
        BackendError: the GPU has no room for the engine.
    """
    if probe.machine_lacks(device) is not None or engine.spec.target.device == "":
        return layers_of_log(engine.path.with_suffix(".log"))
    library = libraries.load()
    trt = library.module
    runtime = trt.Runtime(libraries.make_log(library))
    _select(device)
    loaded = runtime.deserialize_cuda_engine(engine.read())
    if loaded is None:
        raise EngineError(f"{engine.path}: {library} cannot load this engine")
    inspector = loaded.create_engine_inspector()
    return layers_of_inspector(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def targets(library: Library) -> dict[str, str]:
    """What TensorRT-RTX can build for without a GPU: ``SM86`` -> ``8.6`` and so on."""
    names = library.module.ComputeCapability.__members__
    return {name: f"{name[2:-1]}.{name[-1]}" for name in names if name.startswith("SM")}


def _capability_of(library: Library, target: str) -> str:
    known = targets(library)
    if target.upper() not in known:
        raise EngineError(
            f"{library} cannot build for {target!r}; it can for {', '.join(known)} (for a Jetson, build "
            "on the Jetson)"
        )
    return known[target.upper()]


def compile_network(
    library: Library,
    path: Path,
    content: bytes,
    spec: EngineSpec,
    classes: int,
    target: str | None,
    workspace_mb: int,
    progress: Progress,
) -> bytes:
    """The serialised engine of a typed ONNX network; ``path`` is named in messages."""
    trt = library.module
    log_path = (engine_store.engines_dir() / spec.file_name).with_suffix(".log")
    log = libraries.make_log(library, log_path)
    try:
        builder = trt.Builder(log)
        typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = builder.create_network(typed)
        parser = trt.OnnxParser(network, log)
        if not parser.parse(content):
            reason = log.reason()
            if parser.num_errors:
                error = parser.get_error(0)
                where = f"node {error.node_name()!r}, {error.node_operator()}"
                reason = f"{where}: {' '.join(error.desc().split())}"
            raise ModelError(f"{path}: {library} cannot read it: {reason}")
        _check_contract(trt, network, path, spec, classes)
        config = builder.create_builder_config()
        _configure(trt, builder, network, config, spec, target, workspace_mb)
        monitor = _make_monitor(trt, progress)
        config.progress_monitor = monitor
        timings = _use_timing_cache(library, config, spec.target)
        engine = builder.build_serialized_network(network, config)
        if monitor.stopped is not None:
            raise monitor.stopped
        if engine is None:
            raise EngineError(
                f"{library} cannot build an engine from {path}: {log.reason()} (the whole log is in "
                f"{log_path})"
            )
        if timings is not None:
            write_atomically(timings, bytes(config.get_timing_cache().serialize()))
        return bytes(engine)
    finally:
        log.close()


def _check_contract(trt: Any, network: Any, path: Path, spec: EngineSpec, classes: int) -> None:
    """Refuse what is not the contract, before TensorRT compiles it.

    Raises:
        ModelError: names, types, ranks, classes or the stride of the tensors are others.
    """
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    check_tensors(path, *([_described(trt, t) for t in side] for side in (inputs, outputs)))
    image, logits = inputs[0], outputs[0]
    if (image.name, logits.name) != ("image", "logits"):
        raise ModelError(
            f"{path}: its tensors are {image.name} and {logits.name}; expected image and logits, as "
            "`deeplab_rt export` names them"
        )
    image.shape = (1 if spec.max_batch == 1 else -1, *spec.input_size, 3)
    try:
        shape = _described(trt, logits)[1]
    except RuntimeError as error:  # layers that do not fit each other at such an input
        raise ModelError(
            f"{path}: the network does not take images of uint8 [N, H, W, 3] (TensorRT: {error}); "
            "export it anew with `deeplab_rt export`"
        ) from None
    check_logits(path, spec.input_size, shape, classes)


def _described(trt: Any, tensor: Any) -> tuple[str, tuple[int | None, ...]]:
    kinds = {
        trt.DataType.UINT8: "uint8",
        trt.DataType.FLOAT: "float32",
        trt.DataType.HALF: "float16",
    }
    dims = tuple(side if side >= 0 else None for side in tuple(tensor.shape))
    return kinds.get(tensor.dtype, str(tensor.dtype).rpartition(".")[2].lower()), dims


def _configure(
    trt: Any,
    builder: Any,
    network: Any,
    config: Any,
    spec: EngineSpec,
    target: str | None,
    workspace_mb: int,
) -> None:
    height, width = spec.input_size
    if spec.max_batch > 1:
        profile = builder.create_optimization_profile()
        most = (spec.max_batch, height, width, 3)
        profile.set_shape("image", (1, height, width, 3), most, most)
        config.add_optimization_profile(profile)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb << 20)
    # The builder's log then names every layer with its types.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if target is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.__members__[target.upper()], 0)
    if spec.options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if spec.options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS


def _use_timing_cache(library: Library, config: Any, target: Target) -> Path | None:
    """Start from the timings of earlier builds on this machine; where to keep the new ones."""
    if library.name == "tensorrt_rtx":
        return None  # it times nothing; kernels are chosen when the engine is loaded
    device = re.sub(r"[^\w.-]", "_", f"{target.device}-{target.capability}")
    path = engine_store.engines_dir() / f"timings-{library.version}-{device}.cache"
    try:
        content = path.read_bytes()
    except OSError:
        content = b""
    # What cannot be read, TensorRT answers with None: then it starts from nothing.
    cache = config.create_timing_cache(content) or config.create_timing_cache(b"")
    config.set_timing_cache(cache, False)
    return path


def _make_monitor(trt: Any, progress: Progress) -> Any:
    """An ``IProgressMonitor`` that turns TensorRT's nested phases into one fraction."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.stopped: BaseException | None = None
            self._steps: dict[str, int] = {}  # of each open phase
            self._done: dict[str, float] = {}
            self._parent: dict[str, str | None] = {}
            self._shown = 0.0

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self._steps[name], self._done[name], self._parent[name] = max(steps, 1), 0.0, parent
            self._tell(name)

        def step_complete(self, name: str, step: int) -> bool:
            self._done[name] = step + 1
            self._tell(name)
            return self.stopped is None

        def phase_finish(self, name: str) -> None:
            for phases in (self._steps, self._done, self._parent):
                phases.pop(name, None)

        def _tell(self, name: str) -> None:
            if self.stopped is not None:
                return
            fraction, phase = 0.0, name
            while phase in self._steps:
                fraction = min(1.0, (self._done[phase] + fraction) / self._steps[phase])
                phase = self._parent[phase] or ""
            self._shown = max(self._shown, fraction)
            try:
                progress(name, self._shown)
            except BaseException as error:
                # It must not fly through TensorRT; the build is stopped and it is raised then.
                self.stopped = error

    return Monitor()
