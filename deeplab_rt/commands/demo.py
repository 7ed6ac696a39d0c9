"""``deeplab_rt demo``: the main job over real ROS 2 with nothing but this package."""

from __future__ import annotations

import argparse
import json
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplab_rt.commands import add_model_arguments
from deeplab_rt.errors import BackendError

if TYPE_CHECKING:
    import numpy as np

    from deeplab_rt.labels import LabelSet
    from deeplab_rt.ros.latency_probe import LatencyProbe
    from deeplab_rt.streams.base import FrameSource
    from deeplab_rt.streams.side_by_side import SideBySide

OUTPUT = Path("demo.mp4")  # the demo's own file


def add_parser(subparsers: Any) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "demo",
        help="a camera publishes a drive over ROS 2, the node segments it; a video and a summary",
        description="The main job with nothing but this package: one process publishes a drive as a "
        "camera would, the node segments it, a third receives the masks and measures. All over real "
        "DDS, in a ROS domain of its own that stays on this machine.",
    )
    parser.add_argument(
        "--input",
        metavar="FILE|FOLDER|BAG",
        help="a video, an image folder or a rosbag2 (default: a rendered street, 640x480, 30 Hz)",
    )
    parser.add_argument("--topic", help="the image topic, for a bag that has several")
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=10.0,
        help="how long the camera publishes; a shorter drive begins anew (default: %(default)g)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT.mp4",
        help=f"frame and overlay side by side (default: {OUTPUT}, replaced if it exists)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT.mp4 if it exists")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the drive, write the video, print the summary."""
    try:
        from deeplab_rt.ros.session import local_session, node_parameters
    except ImportError as error:
        raise BackendError(
            f"the demo needs ROS 2 ({error}): `pip install '.[cpu,ros]'` in the repository, or "
            "source a ROS installation"
        ) from None
    from deeplab_rt.models import load_model
    from deeplab_rt.progress import ProgressBar
    from deeplab_rt.ros.camera_node import DEFAULT_RATE
    from deeplab_rt.streams.outputs import check_outputs
    from deeplab_rt.streams.side_by_side import SideBySide
    from deeplab_rt.streams.sources import open_recording
    from deeplab_rt.streams.street import STREET, is_street, street_labels

    output, overwrite = args.output or OUTPUT, args.overwrite or args.output is None
    check_outputs([args.input] if args.input else [], {"video": output})
    model = load_model(args.model)
    uri = args.input or STREET
    with open_recording(uri, args.topic) as source:
        rate = float(source.fps or DEFAULT_RATE)
    frames = max(1, round(args.seconds * rate))
    video = SideBySide(output, model.labels, overwrite)  # a wrong name shows at once
    node = node_parameters(str(model.directory), args.backend, args.precision, args.size)
    _say("starting the node, preparing the drive ...")
    camera = {"input": uri, "topic": args.topic or "", "rate": rate, "frames": frames}
    with local_session(camera, node) as session:
        with ProgressBar(frames, "masks") as progress:
            session.run(progress.update)
        probe = session.probe
    summary = probe.measurement.summary()
    _say(f"writing {output} ...")
    with closing(video):
        truth = street_labels() if is_street(uri) else {}
        recording = partial(open_recording, uri, args.topic)
        iou = _write(video, recording, probe, model.labels, truth)
    engine = probe.measurement.engine
    summary |= {
        "drivable_iou": None if iou is None else round(iou, 4),
        "model": model.name,
        **{key: engine.get(key, "") for key in ("backend", "device", "precision", "reason")},
        "input": uri,
        "output": str(output),
    }
    if args.json:
        print(json.dumps(summary))
    else:
        _print(summary)
    return 0


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; expected 0 to 3600 seconds")
    return seconds


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _write(
    video: SideBySide,
    open_source: Callable[[], FrameSource],
    probe: LatencyProbe,
    labels: LabelSet,
    truth: Mapping[int, np.ndarray],
) -> float | None:
    """Frame beside overlay for every mask that came; the drivable IoU where the truth is known.

    Args:
        truth: frame index -> its true label ids, of the street's label set.
    """
    import numpy as np

    from deeplab_rt.labels import load_label_set
    from deeplab_rt.masks import Masks
    from deeplab_rt.streams.side_by_side import revisit
    from deeplab_rt.streams.street import LABEL_SET

    measurement = probe.measurement
    answered = [(i, stamp) for i, stamp in measurement.published if stamp in measurement.arrivals]
    frames = revisit(open_source, (index for index, _ in answered))
    recent: deque[int] = deque()
    drivable = load_label_set(LABEL_SET).drivable_lut
    both = either = 0
    for (_, stamp), frame in zip(answered, frames, strict=True):
        label_map = probe.labels(stamp)
        assert label_map is not None
        masks = Masks(label_map, labels.drivable_lut[label_map], labels.objects_lut[label_map])
        arrival = measurement.arrivals[stamp]
        recent.append(arrival)
        while recent[0] <= arrival - 10**9:
            recent.popleft()
        video.caption = f"{len(recent)} masks/s  {(arrival - stamp) / 1e6:.0f} ms"
        video.write(replace(frame, stamp_ns=stamp), masks)
        if frame.index in truth and truth[frame.index].shape == label_map.shape:
            found, real = masks.drivable > 0, drivable[truth[frame.index]] > 0
            both += int(np.count_nonzero(found & real))
            either += int(np.count_nonzero(found | real))
    return both / either if either else None


def _print(summary: dict[str, Any]) -> None:
    latency = summary["latency_ms"]
    stages = ", ".join(
        f"{stage} {times['p50']:.1f}/{times['p99']:.1f}"
        for stage, times in summary["node_ms"].items()
    )
    iou = summary["drivable_iou"]
    lines = {
        "input": summary["input"],
        "frames in": f"{summary['frames']} at {summary['rate_in_hz']:.1f} Hz",
        "masks out": f"{summary['masks']} at {summary['rate_out_hz']:.1f} Hz, "
        f"{summary['dropped']} dropped ({summary['dropped_percent']:.1f} %)",
        "latency": f"{latency['p50']:.1f} ms p50, {latency['p99']:.1f} ms p99, "
        "from capture to mask in another process",
        "in the node": f"{stages} (ms, p50/p99)",
        "drivable IoU": f"{iou:.3f}" if iou is not None else "unknown: the input has no labels",
        "model": f"{summary['model']}, {summary['precision']}",
        "backend": f"{summary['backend']} on {summary['device']}",
        "video": summary["output"],
    }
    for name, text in lines.items():
        print(f"{name:>13}  {text}")
