"""Model directories: ``engines/MODEL/`` with a manifest ``model.yaml`` and the model files it names.

The manifest is the one description of a model: its labels, its input size, its files with their
SHA-256, how accurate it was measured to be, what it was trained on and under which licence it comes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from deeplab_rt.errors import LabelError, ModelError
from deeplab_rt.files import expand_user, sha256_of, write_atomically
from deeplab_rt.frame import Size
from deeplab_rt.labels import LabelSet
from deeplab_rt.yaml_files import load_yaml

DEFAULT_MODEL = "deeplab_lite0"
MANIFEST = "model.yaml"
FORMAT = 1
FILES = ("fp32", "fp16", "int8", "int8-trt")
"""What the network files of a model may be; ``int8`` is made for a CPU, ``int8-trt`` for TensorRT."""
OUTPUT_STRIDE = 4  # of the logits that leave the network
LARGEST_FILE = 2 << 30  # bytes; protobuf, and so ONNX, has no larger messages
SIZE_MULTIPLE = 32  # input height and width are multiples of this


@dataclass(frozen=True)
class Model:
    """A model directory whose manifest has been read and checked.

    Attributes:
        name: the directory's name, or the manifest's.
        directory: absolute path.
        labels: in class order.
        input_size: (height, width) of the network's input in pixels, the manifest's default.
        files: precision -> (absolute path, SHA-256 in hex).
        manifest: the whole manifest, for what has no attribute of its own.
    """

    name: str
    directory: Path
    labels: LabelSet
    input_size: tuple[int, int]
    files: Mapping[str, tuple[Path, str]]
    manifest: Mapping[str, Any]

    @cached_property
    def cpu_precision(self) -> str:
        """The precision that ``auto`` means on a CPU: ``int8`` where it ships, else ``fp32``."""
        return str(self.manifest.get("cpu_precision", "int8" if "int8" in self.files else "fp32"))

    def file(self, precision: str) -> Path:
        """The model file of a precision, its hash checked.

        Raises:
            ModelError: the model has no such file, it is missing, or its SHA-256 differs from the
                manifest's.
        """
        try:
            path, expected = self.files[precision]
        except KeyError:
            raise ModelError(
                f"model {self.name!r} has no {precision} file; it has: {', '.join(self.files)}"
            ) from None
        try:
            if path.stat().st_size > LARGEST_FILE:
                raise ModelError(
                    f"{path}: larger than {LARGEST_FILE >> 30} GiB, which no ONNX file can be; restore it"
                )
            actual = sha256_of(path)
        except OSError as error:
            raise ModelError(
                f"{path}: cannot read the model file: {error.strerror}; restore it (`git checkout` "
                "or a new `deeplab_rt export`)"
            ) from None
        if actual != expected:
            raise ModelError(
                f"{path}: SHA-256 is {actual[:12]}..., the manifest says {expected[:12]}...: the file "
                "is corrupt or was changed; restore it, or export it anew with `deeplab_rt export`"
            )
        return path


def model_roots() -> Iterator[Path]:
    """Directories that may hold model directories, the first found wins.

    ``$DEEPLAB_RT_MODELS``, then ``engines/`` beside a source tree, then the installed share folders
    (virtual environment, colcon workspace).
    """
    if env := os.environ.get("DEEPLAB_RT_MODELS"):
        yield expand_user(env)
    yield Path(__file__).resolve().parent.parent / "engines"
    yield Path(sys.prefix) / "share" / "deeplab_rt" / "engines"
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        if prefix:
            yield Path(prefix) / "share" / "deeplab_rt" / "engines"


def model_names() -> tuple[str, ...]:
    """Names of the models found in :func:`model_roots`, the default first."""
    found = {path.parent.name for root in model_roots() for path in root.glob(f"*/{MANIFEST}")}
    return tuple(sorted(found, key=lambda name: (name != DEFAULT_MODEL, name)))


def load_model(name_or_path: str | Path = DEFAULT_MODEL) -> Model:
    """A model by name (looked up in :func:`model_roots`) or by the path of its directory.

    Raises:
        ModelError: there is no such model, or its manifest is malformed.
    """
    directory = _find(name_or_path)
    return _parse(directory, load_yaml(directory / MANIFEST, ModelError))


def _find(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    candidates = [expand_user(text)]
    if os.sep not in text:
        candidates += [
            root / text for root in model_roots() if os.path.isfile(root / text / MANIFEST)
        ]
    for path in candidates:
        if os.path.isdir(path):
            return Path(os.path.realpath(path))
    known = ", ".join(model_names()) or "none found"
    raise ModelError(
        f"no model {text!r}; known: {known}; give a name, or a directory that holds {MANIFEST} "
        "(made by `deeplab_rt export`)"
    )


def _parse(directory: Path, manifest: Any) -> Model:
    where = directory / MANIFEST
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ModelError(f"{where}: expected a mapping with `format: {FORMAT}`")
    try:
        labels = LabelSet.from_list(manifest["labels"], source=str(where))
        size = (_whole(manifest["input"]["height"]), _whole(manifest["input"]["width"]))
        files = {
            str(precision): (directory / str(entry["path"]), str(entry["sha256"]))
            for precision, entry in manifest["files"].items()
        }
    except LabelError as error:
        raise ModelError(str(error)) from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{where}: malformed ({type(error).__name__}: {error}); expected labels, input "
            "{height, width} and files {PRECISION: {path, sha256}}"
        ) from None
    unknown = [precision for precision in files if precision not in FILES]
    if not files or unknown:
        found = ", ".join(files)[:200]
        raise ModelError(f"{where}: files must be of {', '.join(FILES)}; found {found or 'none'}")
    for path, _ in files.values():
        if path.parent != directory or path.name == ".." or not path.name.isprintable():
            raise ModelError(f"{where}: {path}: model files lie in the model's own directory")
    try:
        check_input_size(size)
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from None
    name = manifest.get("name", directory.name)
    if not isinstance(name, str) or not 0 < len(name) <= 100 or not name.isprintable():
        raise ModelError(f"{where}: name: expected 1 to 100 printable characters")
    return Model(name, directory, labels, size, files, manifest)


def _whole(value: Any) -> int:
    """A whole number of a manifest; ``.inf``, 1.5, "96" and true are none."""
    if type(value) is not int:
        raise ValueError(f"{value!r} is not a whole number"[:200])
    return value


def check_input_size(size: tuple[int, int]) -> Size:
    """The same (height, width) if the network can take it.

    Raises:
        ModelError: a side is not a positive multiple of 32 or is larger than 4096.
    """
    height, width = size
    if not all(0 < side <= 4096 and side % SIZE_MULTIPLE == 0 for side in size):
        raise ModelError(
            f"network input size {width}x{height} (width x height): each side must be a multiple of "
            f"{SIZE_MULTIPLE}, up to 4096"
        )
    return Size(height, width)


class _ManifestDumper(yaml.SafeDumper):
    """Writes a mapping or list below the top level on one line."""


class _FlowMap(dict[str, Any]):
    pass


_ManifestDumper.add_representer(
    _FlowMap,
    lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=True),
)


def _flow(value: Any) -> Any:
    """The same with the entries of lists and mappings marked to stand on one line each."""
    if isinstance(value, Mapping):
        nested = any(isinstance(entry, Mapping) for entry in value.values())
        if nested:
            return {k: _FlowMap(v) if isinstance(v, Mapping) else v for k, v in value.items()}
        return _FlowMap(value)
    if isinstance(value, list):
        return [_FlowMap(entry) if isinstance(entry, Mapping) else entry for entry in value]
    return value


def write_manifest(directory: Path, manifest: Mapping[str, Any]) -> Model:
    """Write ``model.yaml`` atomically, with the SHA-256 of every named file filled in, and read it back.

    Args:
        directory: the model directory; the files named under ``files`` are already in it.
        manifest: as in a ``model.yaml``; ``sha256`` may be absent from the entries of ``files``.

    Raises:
        ModelError: a named file is missing or the manifest is malformed; nothing was written.
    """
    directory = directory.resolve()
    content = {"format": FORMAT, **manifest}
    files = {}
    for precision, entry in content.get("files", {}).items():
        path = directory / entry["path"]
        if not path.is_file():
            raise ModelError(f"{path}: the manifest names this file and it is not there")
        files[precision] = {**entry, "sha256": sha256_of(path)}
    content["files"] = files
    model = _parse(directory, content)
    text = yaml.dump(
        {key: _flow(value) for key, value in content.items()},
        Dumper=_ManifestDumper,
        sort_keys=False,
        allow_unicode=True,
        width=120,
    )
    write_atomically(directory / MANIFEST, text.encode())
    return model
