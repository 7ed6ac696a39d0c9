"""The model card, written from the manifest so that it says nothing that was not measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deeplab_rt.models import Model

CARD = "MODEL_CARD.md"
WEAK = 0.5
"""Classes whose IoU is below this are listed as weak."""


def write_card(model: Model) -> Path:
    """Write ``MODEL_CARD.md`` beside the manifest and return its path."""
    path = model.directory / CARD
    path.write_text("\n".join(_lines(model)) + "\n", encoding="utf-8")
    return path


def _lines(model: Model) -> Iterator[str]:
    manifest = model.manifest
    architecture = manifest["architecture"]
    height, width = model.input_size
    yield f"# {model.name}"
    yield ""
    yield (
        f"DeepLab V3+ on {architecture['encoder']}, output stride {architecture['output_stride']}, "
        f"network input {width}x{height}; {len(model.labels)} classes: "
        f"{', '.join(model.labels.names)}."
    )
    if "cost" in manifest:
        cost = manifest["cost"]
        yield ""
        yield (
            f"Cost: {cost['macs'] / 1e9:.2f} GMAC a frame, {cost['parameters'] / 1e6:.2f} million "
            "parameters."
        )
    yield from ("", "## Data and licence", "")
    for entry in manifest.get("training_data", []):
        yield f"- {entry['name']}, {entry['pictures']} pictures: {entry['terms']}"
    yield from ("", str(manifest.get("licence", "The licence of the weights is not stated.")))
    accuracy = manifest.get("accuracy", {})
    if accuracy:
        yield from ("", "## Accuracy", "", f"By `deeplab_rt eval`: {accuracy['how']}.")
    for result in accuracy.get("results", []):
        yield from _result(result)
    if manifest.get("remarks"):
        yield from ("", "## Remarks", "")
        for remark in manifest["remarks"]:
            yield f"- {remark}"


def _result(result: dict[str, Any]) -> Iterator[str]:
    yield from ("", f"### {result['data']}, {result['split']}, {result['runner']}", "")
    yield (
        f"{result['pictures']} pictures, mIoU {result['miou']:.4f}, pixel accuracy "
        f"{result['pixel_accuracy']:.4f}, same label as the first runner in "
        f"{result['agreement']:.2%} of pixels."
    )
    for group in ("drivable", "objects"):
        if group in result:
            yield ""
            figures = ", ".join(f"{k} {v:.4f}" for k, v in result[group].items())
            yield f"{group.capitalize()}: {figures}."
    names = list(result["iou"])
    yield from ("", f"| {' | '.join(names)} |", f"|{'---|' * len(names)}")
    cells = ["-" if result["iou"][n] is None else f"{result['iou'][n]:.3f}" for n in names]
    yield f"| {' | '.join(cells)} |"
    weak = [n for n in names if result["iou"][n] is not None and result["iou"][n] < WEAK]
    yield from ("", f"Weak (IoU below {WEAK}): {', '.join(weak) or 'none'}.")
    if result.get("worst"):
        yield f"Worst pictures: {', '.join(result['worst'])} (`deeplab_rt eval -o DIR` draws them)."
