"""Reports as HTML: templates by Jinja, plots by Matplotlib, everything inside the page."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_rt.files import read_text, write_atomically
from deeplab_rt.labels import LabelSet
from deeplab_rt.streams.outputs import writing
from deeplab_rt.streams.report.measures import Still, clock

INDEX = "index.html"
_PAGE_BYTES = 64 << 20
_SUMMARY = re.compile(r'<script type="application/json" id="summary">(.*?)</script>', re.DOTALL)
_SHOWN_CLASSES = 6  # object classes of a plot, the most frequent


@dataclass(frozen=True)
class DriveReport:
    """What the page of a drive is made of.

    Attributes:
        name: of the drive.
        source: its path.
        frames: segmented.
        dropped: not decoded.
        seconds: from the first stamp to the last.
        labels: of the masks.
        times_s: float64 [N], since the first frame; the abscissa of all that follows.
        drivable: float64 [N], share of drivable pixels.
        flicker: float64 [N], share of pixels that changed their label since the frame before.
        confidence: float64 [N], mean, 0 to 1.
        latency_ms: float64 [N], from submission to masks.
        rate: float64 [N], frames a second of the replay.
        shares: float64 [N, labels], share of the pixels of each label.
        means: of some of these by name; None where it was not measured.
        sheet: the contact sheet.
        least: the least confident frames: frame, overlay and confidence of each.
        about: the settings.
        warnings: what the source had to tell.
    """

    name: str
    source: str
    frames: int
    dropped: int
    seconds: float
    labels: LabelSet
    times_s: np.ndarray
    drivable: np.ndarray
    flicker: np.ndarray
    confidence: np.ndarray
    latency_ms: np.ndarray
    rate: np.ndarray
    shares: np.ndarray
    means: Mapping[str, float | None]
    sheet: Sequence[Still]
    least: Sequence[Still]
    about: Mapping[str, str]
    warnings: Sequence[str]


def render_drive(report: DriveReport) -> str:
    """The page of a drive."""
    objects = [
        index for index, label in enumerate(report.labels.labels) if "objects" in label.groups
    ]
    total = report.shares[:, objects].mean(axis=0) if len(report.shares) else np.zeros(len(objects))
    frequent = [objects[place] for place in np.argsort(-total) if total[place] > 0][:_SHOWN_CLASSES]
    object_lines = {
        report.labels.names[index]: (
            100 * report.shares[:, index],
            report.labels.labels[index].color,
        )
        for index in frequent
    }
    plots = [
        ("Drivable area", "% of pixels", {"drivable": (100 * report.drivable, None)}),
        ("Objects", "% of pixels", object_lines),
        ("Flicker", "% of pixels changed", {"flicker": (100 * report.flicker, None)}),
        ("Confidence", "mean", {"confidence": (report.confidence, None)}),
        ("Latency", "ms", {"latency": (report.latency_ms, None)}),
        ("Rate", "frames/s", {"rate": (report.rate, None)}),
    ]
    figures = [
        {"title": title, "svg": _plot(report.times_s, unit, lines)}
        for title, unit, lines in plots
        if any(np.isfinite(values).any() for values, _ in lines.values())
    ]
    page: str = _template("drive.html").render(
        report=report,
        summary=json.dumps(_summary(report)).replace("<", "\\u003c"),
        figures=figures,
        duration=clock(report.seconds),
        means=_in_words(report.means),
        sheet=[_shown(still) for still in report.sheet],
        least=[_shown(still) for still in report.least],
        shares=[
            (label.name, label.color, f"{100 * share:.1f} %")
            for label, share in zip(
                report.labels.labels, report.shares.mean(axis=0).tolist(), strict=True
            )
        ],
        css=_css(),
    )
    return page


def write_index(directory: Path) -> Path | None:
    """Write the index over the reports of a directory.

    Returns:
        Its path; None where there is no report.

    Raises:
        StreamError: it cannot be written.
    """
    drives = []
    for path in sorted(directory.glob("*.html")):
        if path.name != INDEX and (summary := _read_summary(path)) is not None:
            drives.append({**summary, "href": path.name, "words": _in_words(summary["means"])})
    if not drives:
        return None
    frames = sum(drive["frames"] for drive in drives)
    page = _template("index.html").render(drives=drives, frames=frames, css=_css())
    with writing(directory / INDEX):
        write_atomically(directory / INDEX, page.encode())
    return directory / INDEX


def _summary(report: DriveReport) -> dict[str, Any]:
    """What the index shows of a drive; it lies in the drive's page."""
    first = report.sheet[len(report.sheet) // 2] if report.sheet else None
    return {
        "name": report.name,
        "source": report.source,
        "frames": report.frames,
        "dropped": report.dropped,
        "duration": clock(report.seconds),
        "means": dict(report.means),
        "model": report.about.get("model", ""),
        "image": _data_url(first.jpegs[0]) if first is not None else "",
    }


def _read_summary(path: Path) -> dict[str, Any] | None:
    try:
        found = _SUMMARY.search(read_text(path, _PAGE_BYTES))
        summary = json.loads(found[1]) if found else None
        return summary if isinstance(summary, dict) and "means" in summary else None
    except (OSError, ValueError):
        return None


def _in_words(means: Mapping[str, float | None]) -> dict[str, str]:
    units = {
        "drivable": lambda value: f"{100 * value:.1f} %",
        "flicker": lambda value: f"{100 * value:.2f} %",
        "confidence": lambda value: f"{value:.3f}",
        "latency_ms": lambda value: f"{value:.1f} ms",
        "rate": lambda value: f"{value:.1f}/s",
    }
    values = {name: means.get(name) for name in units}
    return {name: "-" if v is None else units[name](v) for name, v in values.items()}


def _shown(still: Still) -> dict[str, Any]:
    confidence = "" if math.isnan(still.confidence) else f", confidence {still.confidence:.3f}"
    camera = f", {still.camera}" if still.camera else ""
    return {
        "images": [_data_url(jpeg) for jpeg in still.jpegs],
        "caption": f"{clock(still.time_s)}, frame {still.index}{camera}{confidence}",
    }


def _data_url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


Lines = Mapping[str, tuple[np.ndarray, tuple[int, int, int] | None]]


def _plot(times_s: np.ndarray, unit: str, lines: Lines) -> str:
    """An SVG of lines over time, their text as text."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": unit, "font.size": 9}):
        figure = Figure(figsize=(7, 2.2), layout="constrained")
        axes = figure.add_subplot()
        for name, (values, color) in lines.items():
            rgb = (0.12, 0.38, 0.72) if color is None else tuple(part / 255 for part in color)
            axes.plot(times_s, values, color=rgb, linewidth=1.2, label=name)
        if len(lines) > 1:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        axes.set_xlabel("s")
        axes.set_ylabel(unit)
        axes.set_ylim(bottom=0)
        axes.margins(x=0)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    # From its opening tag on, as wide as its place.
    return re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", svg[svg.index("<svg") :], count=1)


@cache
def _css() -> str:
    return (Path(__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")


@cache
def _template(name: str) -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
