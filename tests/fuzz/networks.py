"""Model directories whose ONNX is sound, hashed and wrong, and checkpoints that are none."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

from deeplab_rt.models import MANIFEST, write_manifest
from tests.fuzz import corpus
from tests.fuzz.outcome import Outcome, run_program
from tests.fuzz.pool import Case

CLASSES = 11


def model_directory(case: Case, folder: Path) -> Outcome:
    """A model directory of which something is wrong; replayed, and built for a GPU without one."""
    directory = Path(shutil.copytree(corpus.model(folder), "model")).absolute()
    names = list(MODELS)
    MODELS[names[case.index % len(names)]](directory)
    Path("images").mkdir()
    (Path("images") / "sound.png").write_bytes(corpus.images(folder)[".png"])
    runs = [
        run_program(
            [
                "replay",
                "images",
                "--masks",
                "out",
                "--model",
                directory,
                "--backend",
                "cpu",
                "--json",
            ]
        ),
        run_program(["build", "--model", directory, "--target", "SM86", "--precision", "fp32"]),
    ]
    for run in runs:
        if outcome := run.failure():
            return Outcome(outcome.verdict, f"{names[case.index % len(names)]}: {outcome.detail}")
    if runs[0].code == 0 and names[case.index % len(names)] not in SOUND:
        return Outcome("silent loss", f"{names[case.index % len(names)]}: it was run")
    return Outcome("told", runs[0].err) if runs[0].code else Outcome("altered", "it was run")


def checkpoint(case: Case, folder: Path) -> Outcome:
    """A file that is no checkpoint, or one of a network that there is not."""
    names = list(CHECKPOINTS)
    name = names[case.index % len(names)]
    path = Path(name.partition(" ")[0])
    CHECKPOINTS[name](path)
    run = run_program(["export", path, "-o", "exported"])
    if outcome := run.failure():
        return Outcome(outcome.verdict, f"{name}: {outcome.detail}")
    if run.code == 0:
        return Outcome("altered", "it was exported")
    if Path("exported").exists() and (Path("exported") / MANIFEST).exists():
        return Outcome("unclear", f"{name}: a model was left though the export failed")
    return Outcome("told", run.err)


# Model directories.


def _saved(directory: Path, graph: onnx.GraphProto, opset: int = 18, **fields: Any) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    for name, value in fields.items():
        setattr(model, name, value)
    (directory / "model.onnx").write_bytes(model.SerializeToString())
    _hashed(directory)


def _hashed(directory: Path) -> None:
    """Make the manifest agree with the files, so that the hash is not what refuses them."""
    manifest = yaml.safe_load((directory / MANIFEST).read_text(encoding="utf-8"))
    write_manifest(directory, {key: value for key, value in manifest.items() if key != "format"})


def _graph(
    nodes: list[onnx.NodeProto],
    inputs: list[tuple[str, int, list[Any] | None]],
    outputs: list[tuple[str, int, list[Any] | None]],
    **initializers: np.ndarray,
) -> onnx.GraphProto:
    return helper.make_graph(
        nodes,
        "fuzz",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in initializers.items()],
    )


U8, F32, I64, TEXT = TensorProto.UINT8, TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
IMAGE = ("image", U8, ["n", "h", "w", 3])
LOGITS = ("logits", F32, ["n", CLASSES, "h4", "w4"])
_N = helper.make_node


def _pooled(stride: int = 4, classes: int = CLASSES, last: str = "logits") -> list[onnx.NodeProto]:
    """Nodes from the image to logits; ``weight`` is float [classes, 3, 1, 1]."""
    return [
        _N("Cast", ["image"], ["float"], to=F32),
        _N("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        _N("AveragePool", ["planes"], ["cells"], kernel_shape=[stride] * 2, strides=[stride] * 2),
        _N("Conv", ["cells", "weight"], [last]),
    ]


def _weight(classes: int = CLASSES) -> np.ndarray:
    return np.ones((classes, 3, 1, 1), np.float32)


def _network(
    nodes: list[onnx.NodeProto],
    inputs: list[Any] | None = None,
    outputs: list[Any] | None = None,
    opset: int = 18,
    **initializers: np.ndarray,
) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        graph = _graph(nodes, inputs or [IMAGE], outputs or [LOGITS], **initializers)
        _saved(directory, graph, opset)

    return make


def _bytes(content: bytes) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        (directory / "model.onnx").write_bytes(content)
        _hashed(directory)

    return make


def _changed(change: Callable[[bytearray], bytes]) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        path = directory / "model.onnx"
        path.write_bytes(change(bytearray(path.read_bytes())))
        _hashed(directory)

    return make


def _flipped(seed: int) -> Callable[[Path], None]:
    def change(content: bytearray) -> bytes:
        rng = np.random.default_rng(seed)
        for place in rng.integers(0, len(content), 8):
            content[place] ^= 1 << int(rng.integers(8))
        return bytes(content)

    return _changed(change)


def _external(location: str) -> Callable[[Path], None]:
    """Weights in another file."""

    def make(directory: Path) -> None:
        graph = _graph(_pooled(), [IMAGE], [LOGITS], weight=_weight())
        tensor = graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        _saved(directory, graph)

    return make


def _claimed(dims: list[int]) -> Callable[[Path], None]:
    """A weight that says it is larger than its bytes."""

    def make(directory: Path) -> None:
        graph = _graph(_pooled(), [IMAGE], [LOGITS], weight=_weight())
        del graph.initializer[0].dims[:]
        graph.initializer[0].dims.extend(dims)
        _saved(directory, graph)

    return make


def _expanded(directory: Path) -> None:
    """A few bytes that become 64 GiB inside the network."""
    nodes = [
        *_pooled(last="small"),
        _N("Expand", ["one", "shape"], ["large"]),
        _N("ReduceMax", ["large"], ["most"], keepdims=0),
        _N("Add", ["small", "most"], ["logits"]),
    ]
    one, shape = np.ones((1, 1), np.float32), np.array([1 << 17, 1 << 17], np.int64)
    _saved(directory, _graph(nodes, [IMAGE], [LOGITS], weight=_weight(), one=one, shape=shape))


def _manifest(text: str | bytes | Callable[[str], str]) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        path = directory / MANIFEST
        new = text(path.read_text(encoding="utf-8")) if callable(text) else text
        path.write_bytes(new.encode() if isinstance(new, str) else new)

    return make


def _placed(name: str, place: Callable[[Path], object]) -> Callable[[Path], None]:
    """Something else in the place of a file."""

    def make(directory: Path) -> None:
        (directory / name).unlink()
        place(directory / name)

    return make


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 42)


_ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
MODELS: dict[str, Callable[[Path], None]] = {
    "scalar output": _network(
        [*_pooled(last="all"), _N("ReduceMax", ["all"], ["logits"], keepdims=0)],
        outputs=[("logits", F32, [])],
        weight=_weight(),
    ),
    "no input": _network([_N("Identity", ["weight"], ["logits"])], [], weight=_weight()),
    "two inputs": _network(_pooled(), [IMAGE, ("more", F32, [1])], weight=_weight()),
    "two outputs": _network(
        [*_pooled(), _N("Identity", ["logits"], ["more"])],
        outputs=[LOGITS, ("more", F32, ["n", CLASSES, "h4", "w4"])],
        weight=_weight(),
    ),
    "float input": _network(_pooled()[1:], [("float", F32, ["n", "h", "w", 3])], weight=_weight()),
    "planes first": _network(
        [
            _N("Cast", ["image"], ["planes"], to=F32),
            *_pooled()[2:],
        ],
        [("image", U8, ["n", 3, "h", "w"])],
        weight=_weight(),
    ),
    "one channel": _network(
        _pooled(), [("image", U8, ["n", "h", "w", 1])], weight=np.ones((11, 1, 1, 1), np.float32)
    ),
    "rank of three": _network(
        [*_pooled(last="all"), _N("ReduceMax", ["all", "axes"], ["logits"], keepdims=0)],
        outputs=[("logits", F32, ["n", "h4", "w4"])],
        weight=_weight(),
        axes=np.array([1], np.int64),
    ),
    "whole numbers": _network(
        [*_pooled(last="all"), _N("Cast", ["all"], ["logits"], to=I64)],
        outputs=[("logits", I64, ["n", CLASSES, "h4", "w4"])],
        weight=_weight(),
    ),
    "text output": _network(
        [*_pooled(last="all"), _N("Cast", ["all"], ["logits"], to=TEXT)],
        outputs=[("logits", TEXT, ["n", CLASSES, "h4", "w4"])],
        weight=_weight(),
    ),
    "fewer classes": _network(
        _pooled(classes=3), outputs=[("logits", F32, ["n", 3, "h4", "w4"])], weight=_weight(3)
    ),
    "more classes than said": _network(_pooled(), weight=_weight(200)),
    "stride of eight": _network(_pooled(8), weight=_weight()),
    "stride of one": _network(_pooled(1), weight=_weight()),
    "other names": _network(
        [
            _N("Cast", ["x"], ["float"], to=F32),
            *_pooled(last="y")[1:],
        ],
        [("x", U8, ["n", "h", "w", 3])],
        [("y", F32, ["n", CLASSES, "h4", "w4"])],
        weight=_weight(),
    ),
    "batch of two": _network(
        _pooled(),
        [("image", U8, [2, 96, 128, 3])],
        [("logits", F32, [2, CLASSES, 24, 32])],
        weight=_weight(),
    ),
    "another size": _network(
        _pooled(),
        [("image", U8, [1, 64, 64, 3])],
        [("logits", F32, [1, CLASSES, 16, 16])],
        weight=_weight(),
    ),
    "no size": _network(
        _pooled(), [("image", U8, [0, 0, 0, 3])], [("logits", F32, [0, 11, 0, 0])], weight=_weight()
    ),
    "unknown rank": _network(
        _pooled(), [("image", U8, None)], [("logits", F32, None)], weight=_weight()
    ),
    "not a number": _network(_pooled(), weight=np.full((11, 3, 1, 1), np.nan, np.float32)),
    "unknown operator": _network([_N("Nonsense", ["image"], ["logits"])]),
    "later operators": _network(_pooled(), opset=999, weight=_weight()),
    "circle": _network([_N("Add", ["logits", "image"], ["logits"])]),
    "dangling input": _network([_N("Identity", ["nowhere"], ["logits"])]),
    "nothing in it": _network([]),
    "64 GiB inside": _expanded,
    "weights elsewhere": _external("../../../../../../etc/passwd"),
    "weights nowhere": _external("absent.bin"),
    "weights of 2^60": _claimed([1 << 20, 1 << 20, 1 << 20, 1]),
    "negative weights": _claimed([-1, 3, 1, 1]),
    "empty": _bytes(b""),
    "text": _bytes(b"this is no network\n" * 50),
    "half": _changed(lambda content: bytes(content[: len(content) // 2])),
    **{f"flipped bits {seed}": _flipped(seed) for seed in range(3)},
    "manifest of aliases": _manifest(_ALIASES),
    "deep manifest": _manifest("[" * 50_000),
    "manifest with .inf": _manifest(lambda text: text.replace("height: 96", "height: .inf")),
    "manifest with NUL": _manifest(lambda text: text.replace("model.onnx", '"model\\0.onnx"')),
    "manifest is a FIFO": _placed(MANIFEST, os.mkfifo),
    "network is a FIFO": _placed("model.onnx", os.mkfifo),
    "network is of 4 TiB": _placed("model.onnx", _sparse),
}


SOUND = (
    "other names",
    "unknown rank",
    "not a number",
    "batch of two",
    "another size",
    "later operators",
    "flipped bits 0",
    "flipped bits 1",
)
"""Networks that may be run: reshaped they keep the contract, and no check can know the right weights."""


# Checkpoints.


def _written(content: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(content)

    return make


def _safetensors(
    header: Any, data: bytes = b"", length: int | None = None
) -> Callable[[Path], None]:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return _written(struct.pack("<Q", len(text) if length is None else length) + text + data)


def _own(**changes: Any) -> Callable[[Path], None]:
    """A checkpoint as this project writes them, with other metadata."""
    metadata = {
        "architecture": json.dumps({"encoder": "efficientnet_lite0"}),
        "labels": json.dumps(
            [{"id": 1, "name": "road", "color": [1, 2, 3], "groups": ["drivable"]}]
        ),
        "input": "[96, 128]",
        "extra": "{}",
    }
    metadata |= changes
    metadata = {key: value for key, value in metadata.items() if value is not None}
    tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    return _safetensors({"__metadata__": metadata, "classifier.bias": tensor}, b"\0" * 4)


def _torch(make: Callable[[], Any]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        import torch

        torch.save(make(), path)

    return write


def _zeros(*shape: int) -> Any:
    import torch

    return torch.zeros(1).expand(*shape)


class _Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


def _zip_without_pickle() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/version", "3")
    return stream.getvalue()


def _zip_bomb() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (64 << 20))
        archive.writestr("archive/version", "3")
    return stream.getvalue()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


CHECKPOINTS: dict[str, Callable[[Path], None]] = {
    "empty.pt": _written(b""),
    "text.pt": _written(b"no checkpoint\n" * 30),
    "empty.safetensors": _written(b""),
    "text.safetensors": _written(b"no checkpoint\n" * 30),
    "header.safetensors of 2^62 bytes": _safetensors({}, length=1 << 62),
    "header.safetensors not JSON": _safetensors(b"{" * 1000),
    "header.safetensors a list": _safetensors([]),
    "offsets.safetensors": _safetensors(
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 1 << 40]}}, b"\0" * 16
    ),
    "architecture.safetensors not JSON": _own(architecture="{"),
    "architecture.safetensors a list": _own(architecture="[]"),
    "encoder.safetensors": _own(architecture='{"encoder": "nonsense"}'),
    "channels.safetensors of 10^9": _own(
        architecture='{"encoder": "efficientnet_lite0", "aspp_channels": 1000000000}'
    ),
    "channels.safetensors of -1": _own(
        architecture='{"encoder": "efficientnet_lite0", "decoder_channels": -1}'
    ),
    "labels.safetensors": _own(labels="[1]"),
    "labels.safetensors none": _own(labels=None),
    "input.safetensors": _own(input="[NaN, -5]"),
    "fits.safetensors not": _own(),
    "pickle.pt": _written(pickle.dumps(_Evil())),
    "zip.pt without a pickle": _written(_zip_without_pickle()),
    "zip.pt bomb": _written(_zip_bomb()),
    "expanded.pt": _torch(lambda: {"classifier.aspp.convs.0.0.weight": _zeros(10**6, 10**6)}),
    "fifo.safetensors": _fifo,
}
