"""Every copy of a frame on its way from DDS to DDS, with its cost, at 640x480 and 1920x1080.

``python -m benchmarks.frame_path``. The steps are run as the node runs them, one after the other on
each frame, in this process: what the middleware does between processes (two copies through shared
memory) is in ``benchmarks.ros_overhead`` as ``transport``. Sizes take turns; times are medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image

from deeplab_rt.bench.machine import describe, in_words, warn_if_busy
from deeplab_rt.bench.run import read_frames
from deeplab_rt.camera.encodings import decode_image, fill_image
from deeplab_rt.models import DEFAULT_MODEL
from deeplab_rt.ros.cdr import serialise_image
from deeplab_rt.segmenter import Segmenter

SIZES = ((480, 640), (1080, 1920))

# step -> what happens to the bytes there
STEPS = {
    "deserialise": "copy: serialised message -> message's array",
    "decode": "no copy: a view of the message's bytes",
    "resize": "one pass: frame -> network's input; its first weights are in the frame's colour order",
    "network": "no copy: reads its input and leaves its logits where they are",
    "labels": "no copy: logits -> three masks, each pixel written once",
    "serialise": "copy: three masks -> three serialised messages",
}


def measure(segmenter: Segmenter, content: bytes, times: dict[str, list[float]]) -> None:
    """One frame from serialised message to serialised masks; adds the ms of each step."""

    def timed(step: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        value = work()
        times[step].append(1e3 * (time.perf_counter() - started))
        return value

    message = timed("deserialise", lambda: deserialize_message(content, Image))
    frame, channels = timed("decode", lambda: decode_image(message))
    masks = segmenter.segment(frame, channels)
    times["resize"].append(masks.timings["preprocess"])
    times["network"].append(masks.timings["network"])
    times["labels"].append(masks.timings["labels"])

    header = message.header
    outputs = (masks.drivable, masks.objects, masks.labels)
    timed("serialise", lambda: [serialise_image(header, mask, "mono8") for mask in outputs])


def moved_mb(step: str, size: tuple[int, int], network: tuple[int, int], classes: int) -> float:
    """Megabytes read plus written, by the shapes of what goes in and out."""
    pixels, inputs = size[0] * size[1], network[0] * network[1]
    return {
        "deserialise": 6 * pixels,
        "decode": 0,
        "resize": 3 * (pixels + inputs),
        "network": 3 * inputs + 4 * classes * inputs // 16,
        "labels": 4 * classes * inputs // 16 + 3 * pixels,
        "serialise": 6 * pixels,
    }[step] / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--input", default="street", help="frames of a recording")
    parser.add_argument("--repeats", type=int, default=60, help="frames of each size")
    args = parser.parse_args()
    warn_if_busy()
    result: dict[str, Any] = {"machine": describe()}
    times: dict[tuple[int, int], dict[str, list[float]]] = {s: defaultdict(list) for s in SIZES}
    with Segmenter(args.model, "cpu", args.precision) as segmenter:
        network, classes = segmenter.info.input_size, len(segmenter.labels)
        result["precision"] = segmenter.info.precision
        contents = {size: [_serialised(f) for f in read_frames(args.input, size)] for size in SIZES}
        for repeat in range(args.repeats + 2):
            for size in SIZES:
                frames = contents[size]
                measure(segmenter, frames[repeat % len(frames)], times[size])
    print(in_words(result["machine"]), file=sys.stderr)
    for size in SIZES:
        medians = {step: statistics.median(times[size][step][2:]) for step in STEPS}
        others = sum(medians.values()) - medians["network"]
        name = f"{size[1]}x{size[0]}"
        result[name] = {
            "ms": {step: round(ms, 3) for step, ms in medians.items()},
            "all_but_network_of_frame": round(others / sum(medians.values()), 4),
            "labels_of_network": round(medians["labels"] / medians["network"], 4),
        }
        print(f"\n{name}, network {network[1]}x{network[0]} {result['precision']}", file=sys.stderr)
        for step, what in STEPS.items():
            moved = moved_mb(step, size, network, classes)
            line = f"{step:21}{moved:7.2f} MB {medians[step]:7.3f} ms  {what}"
            print(line, file=sys.stderr)
        share = 100 * result[name]["all_but_network_of_frame"]
        print(f"all but the network: {others:.2f} ms, {share:.1f} % of the frame", file=sys.stderr)
    print(json.dumps(result))
    return 0


def _serialised(frame: np.ndarray) -> bytes:
    message = Image()
    fill_image(message, frame, "bgr8")
    return bytes(serialize_message(message))


if __name__ == "__main__":
    sys.exit(main())
