"""What ROS costs per frame, against the network's time, at 640x480 and at 1920x1080.

``python -m benchmarks.ros_overhead`` measures in two ways. In the running node, a camera and a
consumer beside it: the node's own stages. And in this process alone, each step by itself: take a
message apart (deserialise), make it an array, fill and serialise three masks. The two sizes take
turns.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image

from deeplab_rt.bench.machine import describe, warn_if_busy
from deeplab_rt.camera.encodings import decode_image, fill_image
from deeplab_rt.frame import Size
from deeplab_rt.models import DEFAULT_MODEL
from deeplab_rt.ros.cdr import serialise_image
from deeplab_rt.ros.session import local_session

SIZES = ("640x480", "1920x1080")
STAGES = ("transport", "wait", "decode", "preprocess", "network", "labels", "publish", "latency")


def running(model: str, size: str, rate: float, seconds: float) -> dict[str, float]:
    """p50 of the node's stages in ms, with a camera of that size."""
    camera = {"rate": rate, "size": size, "frames": round(rate * seconds)}
    with local_session(camera, {"model": model}, keep_masks=False) as session:
        session.run()
        stages = session.probe.measurement.summary()["node_ms"]
    return {stage: stages[stage]["p50"] for stage in STAGES}


def alone(size: str, repeats: int) -> dict[str, float]:
    """Median of each step in ms, in this process."""
    height, width = Size.parse(size)
    message = Image()
    fill_image(message, np.zeros((height, width, 3), np.uint8), "bgr8")
    content = serialize_message(message)
    mask = np.zeros((height, width), np.uint8)

    def publish() -> None:
        for _ in range(3):
            serialise_image(message.header, mask, "mono8")

    return {
        "deserialise": _median(lambda: deserialize_message(content, Image), repeats),
        "convert": _median(lambda: decode_image(message), repeats),
        "three masks": _median(publish, repeats),
    }


def _median(step: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - started))
    return round(float(np.median(times)), 4)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each run")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--rate", type=float, default=15.0, help="frames a second")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    args = parser.parse_args()
    warn_if_busy()
    machine = describe()
    runs: dict[str, list[dict[str, float]]] = {size: [] for size in SIZES}
    steps = {}
    for _ in range(args.runs):
        for size in SIZES:
            runs[size].append(running(args.model, size, args.rate, args.seconds))
    result: dict[str, Any] = {"machine": machine, "rate_hz": args.rate}
    for size in SIZES:
        steps[size] = alone(size, 200)
        stages = {s: round(float(np.median([run[s] for run in runs[size]])), 3) for s in STAGES}
        ros = sum(steps[size].values())
        share = 100 * ros / stages["network"]
        result[size] = {
            "node_p50_ms": stages,
            "alone_ms": steps[size],
            "ros_ms": round(ros, 3),
            "ros_percent_of_network": round(share, 1),
        }
        line = ", ".join(f"{name} {ms:.2f}" for name, ms in {**stages, **steps[size]}.items())
        print(f"{size}: {line} ms; ROS {ros:.2f} ms, {share:.0f} % of the network", file=sys.stderr)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
