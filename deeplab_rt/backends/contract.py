"""What a model file must look like before any library compiles it."""

from __future__ import annotations

from collections.abc import Sequence

from deeplab_rt.errors import ModelError
from deeplab_rt.models import OUTPUT_STRIDE

Dims = Sequence[int | None]  # None where a side is not fixed


def check_tensors(
    path: object,
    inputs: Sequence[tuple[str, Dims | None]],
    outputs: Sequence[tuple[str, Dims | None]],
) -> None:
    """Refuse a network whose tensors are not the contract's, by number, type and rank.

    Args:
        path: of the file, for the message.
        inputs: type and dimensions of each; the type is ``uint8``, ``float32`` ..., the dimensions
            None where not even their number is known.
        outputs: likewise.

    Raises:
        ModelError: it is not one uint8 [N, H, W, 3] in and one float [N, C, H/4, W/4] out.
    """
    ok = len(inputs) == len(outputs) == 1
    if ok:
        (kind, image), (out, logits) = inputs[0], outputs[0]
        ok = (
            kind == "uint8"
            and out in ("float32", "float16")
            and image is not None
            and logits is not None
            and len(image) == len(logits) == 4
            and image[3] in (None, 3)
        )
    if not ok:
        text = [
            ", ".join(f"{k} {_text(d)}" for k, d in side) or "none" for side in (inputs, outputs)
        ]
        raise ModelError(
            f"{path}: its inputs are {text[0]} and its outputs {text[1]}; expected one uint8 "
            f"[N, H, W, 3] and one float [N, C, H/{OUTPUT_STRIDE}, W/{OUTPUT_STRIDE}], as "
            "`deeplab_rt export` makes them"
        )


def check_logits(path: object, size: tuple[int, int], shape: Dims, classes: int) -> None:
    """Refuse a network whose logits, at a known input size, have another shape than the contract's.

    Args:
        path: of the file, for the message.
        size: (height, width) of the input.
        shape: of the logits, [N, C, h, w].
        classes: that the manifest's labels name.

    Raises:
        ModelError: there are other classes or the stride is not 4.
    """
    if shape[1] is not None and shape[1] != classes:
        raise ModelError(
            f"{path}: the network gives {shape[1]} classes, the manifest names {classes} labels"
        )
    grid = [side // OUTPUT_STRIDE for side in size]
    if any(have not in (None, want) for have, want in zip(shape[2:], grid, strict=True)):
        raise ModelError(
            f"{path}: at an input of {size[1]}x{size[0]} the logits are {_text(shape)}; expected "
            f"[N, {classes}, {grid[0]}, {grid[1]}], a stride of {OUTPUT_STRIDE}"
        )


def _text(dims: Dims | None) -> str:
    if dims is None:
        return "[of any rank]"
    return "[" + ", ".join("?" if side is None else str(side) for side in dims) + "]"
