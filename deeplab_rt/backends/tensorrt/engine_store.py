"""Compiled engines on disk: which one fits this machine, and in words why none does.

An engine is good for one model file, library version, kind of GPU, precision and shape. Each lies in
``cache_dir()/engines`` beside a JSON sidecar that says what it was built for; the sidecar is written
last, so an engine without one is not there yet. Nothing here imports CUDA or TensorRT.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from deeplab_rt.backends.tensorrt.engine_spec import (
    PLAIN,
    EngineSpec,
    Options,
    Target,
    build_command,
    file_precision,
    incompatibility,
    source_precision,
    spec_of,
)
from deeplab_rt.errors import EngineError
from deeplab_rt.files import cache_dir, expand_user, private_dir, write_atomically
from deeplab_rt.frame import Size
from deeplab_rt.models import Model

__all__ = [
    "PLAIN", "Engine", "EngineSpec", "Options", "Target", "build_command", "build_lock", "engines_dir",
    "file_precision", "find", "from_file", "incompatibility", "prune", "save", "source_precision",
    "spec_of", "stored", "writable_by_others",
]  # fmt: skip

_LEFTOVER_AGE_S = 24 * 3600


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
            EngineError: the file is gone, another user can write it, or its SHA-256 is not the
                sidecar's.
        """
        if danger := writable_by_others(self.path):
            raise EngineError(danger)
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


def writable_by_others(path: Path) -> str | None:
    """Why a file must not be loaded as code: another user can write it or its directory; else None."""
    for one in (path, path.parent):
        try:
            status = one.stat()
        except OSError:
            continue  # whoever reads it says so
        if status.st_uid not in (os.geteuid(), 0):
            return (
                f"{one}: belongs to another user, and an engine is code: build your own with "
                "`deeplab_rt build`"
            )
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return (
                f"{one}: other users can write it, and an engine is code: `chmod go-w {one}`, and build "
                "anew with `deeplab_rt build --force` unless you know who wrote it"
            )
    return None


def _make_engines_dir() -> Path:
    """The directory, its owner's alone.

    Raises:
        EngineError: it cannot be made, or another user can write it.
    """
    path = engines_dir()
    try:
        private_dir(path)
        path.chmod(0o700)
    except OSError as error:
        raise EngineError(
            f"{path}: cannot write there: {error.strerror}; set DEEPLAB_RT_CACHE to a directory that "
            "can be written"
        ) from None
    return path


def find(
    model: Model, spec: EngineSpec, *, any_size: bool = False, allow_host_code: bool = False
) -> Engine:
    """The engine on disk that does what ``spec`` asks for.

    Of several a plain one before one that gave speed away to run in more places, then the one for the
    fewest frames at once, and of those the one built last.

    Args:
        model: whose engine.
        spec: what is needed.
        any_size: whether an engine of another input size does too.
        allow_host_code: whether a version-compatible engine may be taken.

    Raises:
        EngineError: there is none; the message says what there is and why it does not do, and names
            the command that builds the right one.
    """
    fitting, reasons = [], []
    for engine in stored():
        built = engine.spec
        if (built.model, built.precision) != (spec.model, spec.precision):
            continue
        if built.input_size != spec.input_size and not any_size:
            continue
        if reason := incompatibility(built, spec) or _host_code(built, allow_host_code):
            reasons.append(reason)
        else:
            fitting.append(engine)
    if fitting:
        return min(
            fitting, key=lambda one: (one.spec.options != PLAIN, one.spec.max_batch, -one.built_at)
        )
    command = build_command(model, spec)
    if reasons:
        raise EngineError(f"the engine {reasons[0]}: rebuild with `{command}`")
    raise EngineError(
        f"no engine of {spec.model} in {spec.precision} at {spec.input_size} is built: build it with "
        f"`{command}`"
    )


def from_file(
    model: Model, path: Path, max_batch: int, target: Target, allow_host_code: bool
) -> Engine:
    """An engine that somebody names, held to the same rules as those of the store.

    Raises:
        EngineError: it or its sidecar is not there, or it does not fit the model or this machine.
    """
    path = expand_user(path).absolute()
    try:
        engine = _read_sidecar(_sidecar(path))
    except (OSError, ValueError, KeyError, TypeError):
        raise EngineError(
            f"{path}: its sidecar {_sidecar(path).name}, which says what it was built for, is missing "
            "or cannot be read: copy both files, or build with `deeplab_rt build`"
        ) from None
    engine = replace(engine, path=path)
    built = engine.spec
    if source_precision(model, built.precision) not in model.files:
        raise EngineError(f"{path}: this engine is {built.precision}, which {model.name} has not")
    spec = spec_of(model, built.precision.removesuffix("-trt"), built.input_size, max_batch, target)
    if reason := incompatibility(built, spec) or _host_code(built, allow_host_code):
        raise EngineError(
            f"{path}: the engine {reason}: build one with `{build_command(model, spec)}`"
        )
    return engine


def _host_code(built: EngineSpec, allowed: bool) -> str | None:
    if built.options.version_compatible and not allowed:
        return (
            "is version-compatible and carries code that runs on the CPU, which must be allowed "
            "(allow_host_code)"
        )
    return None


def stored() -> Iterator[Engine]:
    """Every engine of the store whose sidecar can be read, in the order of their names."""
    for sidecar in sorted(engines_dir().glob("*.json")):
        try:
            yield _read_sidecar(sidecar)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # not a sidecar of this version: then there is no such engine, and it is rebuilt


def _read_sidecar(sidecar: Path) -> Engine:
    content = json.loads(sidecar.read_text(encoding="utf-8"))
    return Engine(
        sidecar.with_suffix(".engine"),
        _parse(content["spec"]),
        str(content["sha256"]),
        float(content["built_at"]),
    )


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
    for one in fields(Target):
        if not isinstance(getattr(spec.target, one.name), int if one.name == "sms" else str):
            raise TypeError("malformed target")
    return spec


def save(spec: EngineSpec, content: bytes) -> Engine:
    """Write an engine and its sidecar, so that a reader sees both or none.

    Raises:
        EngineError: the cache directory cannot be written.
    """
    path = _make_engines_dir() / spec.file_name
    sha256, built_at = hashlib.sha256(content).hexdigest(), time.time()
    sidecar = {
        "spec": asdict(spec),
        "sha256": sha256,
        "bytes": len(content),
        "built_at": built_at,
    }
    try:
        _sidecar(path).unlink(missing_ok=True)
        write_atomically(path, content)
        path.chmod(0o600)
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
    path = _make_engines_dir() / f"{spec.file_name}.lock"
    try:
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
        same_machine = old.target.same_device(spec.target)
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
