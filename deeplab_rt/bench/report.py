"""What was measured, as a table for people and as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deeplab_rt.bench import machine

STAGES = ("preprocess", "network", "labels")


def table(result: dict[str, Any]) -> str:
    """The result of :func:`~deeplab_rt.bench.run.bench` in plain text."""
    height, width = result["input_size"]
    lines = [
        machine.in_words(result["machine"]),
        f"{result['model']} at {width}x{height} by {result['backend']}, frames: {result['frames']}",
        *(f"warning: {text}" for text in result["warnings"]),
    ]
    for size in result["sizes"]:
        lines += ["", *_size_lines(size)]
    lines += [f"{name}: skipped, {reason}" for name, reason in result["missing"].items()]
    if "roofline" in result:
        lines += ["", *_limit_lines(result["roofline"])]
    return "\n".join(lines)


def _size_lines(size: dict[str, Any]) -> list[str]:
    height, width = size["frame_size"]
    rows = [
        ["", "ms", "p10-p90", "per s", "x ours", "range", *STAGES, "agreement"],
        *(_subject_row(name, figures) for name, figures in size["candidates"].items()),
    ]
    rates = size["stream_per_second"]
    return [
        f"{width}x{height} frame to masks of its size, medians in ms, one frame at a time; "
        f"agreement with {size['reference']}",
        *_aligned(rows),
        f"{size['baseline']} unbroken: {rates['one_at_a_time']} frames per s one at a time, "
        f"{rates['overlapped']} overlapped",
    ]


def _subject_row(name: str, figures: dict[str, Any]) -> list[str]:
    ms, ratio, same = figures["ms"], figures["times_baseline"], figures["agreement"]
    return [
        name,
        f"{ms['median']:.2f}",
        f"{ms['p10']:.1f}-{ms['p90']:.1f}",
        f"{figures['per_second']:.1f}",
        f"{ratio['median']:.2f}",
        f"{ratio['min']:.2f}-{ratio['max']:.2f}",
        *(f"{figures['stages_ms'].get(stage, 0):.2f}" for stage in STAGES),
        "other network" if same is None else f"{same:.2%}",
    ]


def _limit_lines(roofline: dict[str, Any]) -> list[str]:
    peaks = ", ".join(f"{name} {rate:.0f}" for name, rate in roofline["peaks_gmac_s"].items())
    copies = ", ".join(f"{name} {rate:.0f}" for name, rate in roofline["copy_gb_s"].items())
    rows = [["", "layers", "MMAC", "MB", "ms", "of time", "GMAC/s", "of peak", "of limit"]]
    for row in roofline["groups"]:
        rows.append(
            [
                row["group"],
                str(row["layers"]),
                f"{row['mmacs']:.0f}",
                f"{row['mbytes']:.1f}",
                f"{row['ms']:.2f}",
                f"{row['of_time']:.0%}",
                f"{row['gmac_s']:.0f}",
                f"{row['of_peak']:.0%}",
                f"{row['share']:.0%}",
            ]
        )
    return [
        f"roofline measured in this run: {peaks} GMAC/s; copies {copies} GB/s",
        f"layers of the {roofline['precision']} network, least times:",
        *_aligned(rows),
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def plot(result: dict[str, Any], path: Path) -> None:
    """A bar a candidate, its stages beside each other; one panel a frame size. PNG or SVG by suffix."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sizes = result["sizes"]
    count = max(len(size["candidates"]) for size in sizes)
    figure = Figure(figsize=(9, len(sizes) * (0.9 + 0.36 * count)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(sizes), 1, squeeze=False)[:, 0]
    for panel, size in zip(panels, sizes, strict=True):
        names = list(size["candidates"])
        left = [0.0] * len(names)
        for stage, color in zip(STAGES, ("#d9a441", "#3b6ea5", "#6aa36a"), strict=True):
            times = [size["candidates"][name]["stages_ms"].get(stage, 0.0) for name in names]
            panel.barh(names, times, left=left, color=color, label=stage)
            left = [a + b for a, b in zip(left, times, strict=True)]
        for index, name in enumerate(names):
            figures = size["candidates"][name]
            text = f" {figures['ms']['median']:.1f} ms, x{figures['times_baseline']['median']:.2f}"
            panel.text(left[index], index, text, va="center", fontsize=8)
        panel.set_xlim(0, 1.25 * max(left))
        panel.invert_yaxis()
        height, width = size["frame_size"]
        panel.set_title(f"{width}x{height} camera frame to masks, median ms", fontsize=10)
        panel.legend(loc="upper right", fontsize=8)
    info = result["machine"]
    figure.suptitle(f"{info['cpu']}, {info['cores']} cores; {result['model']}", fontsize=9)
    figure.savefig(path, dpi=120)
