"""The layers of a built engine: their types, and the bytes they move.

Two sources: the log that TensorRT-RTX leaves when it builds, which needs no GPU, and the inspector of
a loaded engine, which does.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeplab_rt.errors import EngineError

_BYTES = {
    "Float": 4, "Half": 2, "BFloat16": 2, "FP8": 1, "Int8": 1, "UInt8": 1, "Int32": 4, "Int64": 8,
    "Bool": 1,
}  # fmt: skip
_NAMES = {"FP32": "Float", "FP16": "Half", "INT8": "Int8", "UINT8": "UInt8", "INT32": "Int32"}
_CONVOLUTIONS = ("correlation", "CaskConvolution", "CaskGemmConvolution", "Convolution")


@dataclass(frozen=True)
class Tensor:
    """One input, constant or output of a layer.

    Attributes:
        name: in the network.
        shape: of it; -1 where it is dynamic.
        type: ``Float``, ``Half``, ``Int8``, ``UInt8``, ...
    """

    name: str
    shape: tuple[int, ...]
    type: str

    @property
    def bytes(self) -> int:
        return math.prod(map(abs, self.shape)) * _BYTES.get(self.type, 4)


@dataclass(frozen=True)
class Layer:
    """One layer of a built engine.

    Attributes:
        name: as TensorRT gives it, often of several operators fused.
        kind: TensorRT's name of its kind.
    """

    name: str
    kind: str
    inputs: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def bytes(self) -> int:
        """Activations read and written; weights are left out."""
        return sum(tensor.bytes for tensor in (*self.inputs, *self.outputs))

    @property
    def is_convolution(self) -> bool:
        return self.kind in _CONVOLUTIONS

    @property
    def types(self) -> str:
        """As in ``Int8 -> Half``."""
        sides = (self.inputs, self.outputs)
        return " -> ".join("+".join(sorted({t.type for t in side})) or "-" for side in sides)


def layers_of_log(path: Path) -> list[Layer]:
    """The layers that TensorRT-RTX named in the log of a build.

    Raises:
        EngineError: the log is not there or names none.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise EngineError(f"{path}: cannot read the builder's log: {error.strerror}") from None
    layers = []
    for line in text.partition("Layers:\n")[2].splitlines():
        head = re.match(r"Name: (.*?), LayerType: (\w+), ", line)
        if not head:
            break
        tensors = re.search(
            r"Inputs: \[(.*?)\](?:, Constants: \[(.*?)\])?, Outputs: \[(.*?)\], TacticName", line
        )
        parts = tensors.groups("") if tensors else ("", "", "")
        layers.append(Layer(head[1], head[2], *map(_tensors_of_log, parts)))
    if not layers:
        raise EngineError(f"{path}: this log names no layers; build anew with --force")
    return layers


def _tensors_of_log(text: str) -> tuple[Tensor, ...]:
    pattern = r"Name: (\S+), Dimensions: (\[[-\d,]*\]).*?Datatype: (\w+)"
    return tuple(
        Tensor(name, tuple(json.loads(shape)), kind)
        for name, shape, kind in re.findall(pattern, text)
    )


def layers_of_inspector(text: str) -> list[Layer]:
    """The layers in the JSON of TensorRT's ``IEngineInspector``.

    Raises:
        EngineError: the engine was built without its layers' details.
    """
    layers = json.loads(text)["Layers"]
    if not layers or not all(isinstance(layer, dict) for layer in layers):
        raise EngineError("this engine does not describe its layers; build anew with --force")
    return [
        Layer(
            str(layer["Name"]),
            str(layer.get("LayerType", "")),
            _tensors_of_json(layer.get("Inputs", ())),
            _tensors_of_json(layer.get("Constants", ())),
            _tensors_of_json(layer.get("Outputs", ())),
        )
        for layer in layers
    ]


def _tensors_of_json(tensors: Sequence[Any]) -> tuple[Tensor, ...]:
    found = []
    for tensor in tensors:
        # TensorRT 10 gives "Format/Datatype": "Channel major FP16 format ...", or "Half"; later
        # versions a "Datatype" of its own.
        kind = str(tensor.get("Datatype") or tensor.get("Format/Datatype", "Float"))
        names = [*_BYTES, *_NAMES]
        word = next((name for name in sorted(names, key=len, reverse=True) if name in kind), kind)
        shape = tuple(int(side) for side in tensor.get("Dimensions", ()))
        found.append(Tensor(str(tensor["Name"]), shape, _NAMES.get(word, word)))
    return tuple(found)


def summary(layers: Sequence[Layer]) -> dict[str, Any]:
    """Numbers of an engine: layers, bytes moved, and convolutions by their types."""
    convolutions = Counter(layer.types for layer in layers if layer.is_convolution)
    return {
        "layers": len(layers),
        "bytes_moved": sum(layer.bytes for layer in layers),
        "convolutions": dict(convolutions.most_common()),
    }
