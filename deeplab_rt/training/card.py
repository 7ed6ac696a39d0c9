"""The model card, written from the manifest and the metrics so that it says nothing unmeasured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deeplab_rt.models import Model

CARD = "MODEL_CARD.md"
METRICS = "metrics.json"
WEAK = 0.5
"""Classes whose IoU is below this are listed as weak."""


def read_metrics(model: Model) -> dict[str, Any]:
    """``metrics.json`` of a model directory; empty where there is none."""
    path = model.directory / METRICS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


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
        f"network input {width}x{height} or as many pixels at the camera's aspect; "
        f"{len(model.labels)} classes: {', '.join(model.labels.names)}."
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
        images = entry.get("images", entry.get("pictures"))
        yield f"- {entry['name']}, {images} images: {entry['terms']}"
    yield from ("", str(manifest.get("licence", "The licence of the weights is not stated.")))
    metrics = read_metrics(model)
    results = metrics.get("results", [])
    if results:
        yield from ("", "## Accuracy", "", f"By `deeplab_rt eval`: {metrics['how']}.")
        yield "The full figures, with the confusion matrices, are in `metrics.json`."
    for data in dict.fromkeys((entry["data"], entry["split"]) for entry in results):
        yield from _table([e for e in results if (e["data"], e["split"]) == data])
    if metrics.get("sequences"):
        yield from ("", "## Flicker", "")
        yield "Pixels that change their label from frame to frame where the image does not."
        yield from (
            "",
            "| sequence | runner | frames | labels | drivable |",
            "|---|---|---|---|---|",
        )
        for entry in metrics["sequences"]:
            yield (
                f"| {entry['sequence']} | {entry['runner']} | {entry['frames']} | "
                f"{entry['flicker']:.2%} | {entry['drivable_flicker']:.2%} |"
            )
    if manifest.get("remarks"):
        yield from ("", "## Remarks", "")
        for remark in manifest["remarks"]:
            yield f"- {remark}"


def _table(results: list[dict[str, Any]]) -> Iterator[str]:
    """One data set: a row per runner, a column per class."""
    first = results[0]
    names = [name for name, value in first["iou"].items() if value is not None]
    yield from ("", f"### {first['data']}, {first['split']}, {first['images']} images", "")
    columns = ["runner", "mIoU", "drivable", "calibration error", "same label", *names]
    yield f"| {' | '.join(column.replace('|', ' or ') for column in columns)} |"
    yield f"|{'---|' * len(columns)}"
    for entry in results:
        drivable = f"{entry['drivable']['iou']:.3f}" if "drivable" in entry else "-"
        cells = [
            entry["runner"],
            f"{entry['miou']:.4f}",
            drivable,
            f"{entry['calibration_error']:.2%}",
            "-" if entry is first else f"{entry['agreement']:.2%}",
            *(f"{entry['iou'][name]:.3f}" for name in names),
        ]
        yield f"| {' | '.join(cells)} |"
    weak = [name for name in names if first["iou"][name] < WEAK]
    yield from ("", f"Weak (IoU below {WEAK}): {', '.join(weak) or 'none'}.")
