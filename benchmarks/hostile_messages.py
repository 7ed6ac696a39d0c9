"""Fuzz the image subscriptions with random, truncated, mislabelled and hostile messages.

``python -m benchmarks.hostile_messages`` sends bad images to the node, raw ones and compressed ones,
a good frame after every hundred, and prints how many masks came for bad frames (none must), whether
every good frame was served, how long that took, and whether the node counted every bad one.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from array import array
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image

from deeplab_rt.bench.machine import describe, warn_if_busy
from deeplab_rt.camera.encodings import ENCODINGS, fill_image
from deeplab_rt.models import DEFAULT_MODEL
from deeplab_rt.ros.latency_probe import LatencyProbe
from deeplab_rt.ros.session import NodeProcess, private_network

EVERY = 100  # bad messages between two good frames
GAP_S = 0.001
PATIENCE_S = 60.0
LIMITS = (0, 1, 2, 3, 479, 481, 65535, 2**31 - 1, 2**31, 2**32 - 1)


def bad_image(rng: random.Random, good: Image) -> Image | bytes:
    """An image that no field-respecting reader can take, or a message that is none."""
    message = Image(header=good.header, height=480, width=640, encoding="bgr8", step=1920)
    kind = rng.randrange(7)
    if kind == 0:  # fields at their limits, nothing behind them
        message.height, message.width, message.step = (rng.choice(LIMITS) for _ in range(3))
    elif kind == 1:  # cut off
        message.data = good.data[: rng.randrange(len(good.data))]
    elif kind == 2:  # labelled as more than there is
        message.encoding = rng.choice(["bgra8", "rgba8"])
        message.data = good.data
    elif kind == 3:  # unknown, long, or not of this world
        letters = "\0\n%s{}\\ bgr8" + "ä" * 3
        message.encoding = "".join(rng.choices(letters, k=rng.choice([0, 3, 4000])))
        message.data = good.data[:1000]
    elif kind == 4:
        message.encoding = rng.choice(ENCODINGS)
        message.height, message.width = rng.choice(LIMITS[6:]), rng.choice(LIMITS[6:])
        message.step = (message.width * 8) % 2**32
    elif kind == 5:  # sound, but for a row that is too long
        message.step = rng.randrange(1920)
        message.data = good.data
    else:  # a message that ends in the middle
        content = serialize_message(good)
        return bytes(content[: rng.randrange(4, 2000)])
    return message


def bad_compressed(rng: random.Random, good: CompressedImage) -> CompressedImage | bytes:
    """Data that are no JPEG or PNG, or half of one, or one of a size that nobody sends."""
    message = CompressedImage(
        header=good.header, format=rng.choice(["jpeg", "png", "", "x" * 3000])
    )
    content = bytes(good.data)
    kind = rng.randrange(5)
    if kind == 0:
        content = rng.randbytes(rng.randrange(3000))
    elif kind == 1:
        content = content[: rng.randrange(len(content) - 2)]
    elif kind == 2:
        content = b"\xff\xd8\xff" + rng.randbytes(rng.randrange(3000)).replace(b"\xff", b"\0")
    elif kind == 3:  # a PNG that claims 60000 x 60000 pixels
        bomb = bytearray(cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes())
        bomb[16:24] = (60_000).to_bytes(4, "big") * 2
        content = bytes(bomb)
    else:
        return bytes(serialize_message(good)[: rng.randrange(4, 2000)])
    message.data = array("B", content)
    return message


def stamp(message: Any, nanoseconds: int) -> Any:
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(nanoseconds, 10**9)
    return message


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(milliseconds, [50, 99])
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2)}


def measure(model: str, transport: str, count: int, seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    picture = np.random.default_rng(seed).integers(0, 256, (480, 640, 3), np.uint8)
    good: Any = Image()
    fill_image(good, picture, "bgr8")
    topic, make = "/image", bad_image
    if transport == "compressed":
        good = CompressedImage(format="jpeg")
        good.data = array("B", cv2.imencode(".jpg", picture)[1].tobytes())
        topic, make = "/image/compressed", bad_compressed  # type: ignore[assignment]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(private_network())
        probe = stack.enter_context(LatencyProbe(keep_masks=False))
        node: dict[str, object] = {"model": model, "image_transport": transport, "autostart": True}
        # So deep that none is lost before the node sees it: all are to be counted.
        node |= {"image_qos": "reliable", f"qos_overrides.{topic}.subscription.depth": 1000}
        segmenter = stack.enter_context(NodeProcess("deeplab_rt.ros.node", node, folder))
        arrivals = probe.measurement.arrivals
        profile = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
        publisher = probe.node.create_publisher(type(good), topic, profile)
        if not probe.spin_until(lambda: publisher.get_subscription_count() > 0, PATIENCE_S):
            raise segmenter.error("does not subscribe")
        probe.spin_for(1.0)

        def serve() -> float:
            """Milliseconds from the publication of a good frame to its mask; inf if none came."""
            now = time.time_ns()
            publisher.publish(stamp(good, now))
            came = probe.spin_until(lambda: now in arrivals, 5.0)
            return (arrivals[now] - now) / 1e6 if came else float("inf")

        calm = [serve() for _ in range(50)]
        before = probe.settled_counts()
        bad_stamps, after_bad, whole = set(), [], 0
        for number in range(count):
            message = make(rng, good)
            if not isinstance(message, bytes):
                bad_stamps.add(number + 1)
                whole += 1
                stamp(message, number + 1)
            publisher.publish(message)
            probe.spin_for(GAP_S)
            if number % EVERY == EVERY - 1:
                after_bad.append(serve())
        after = probe.settled_counts()
        lied = bad_stamps & set(arrivals)
        return {
            "messages": count,
            "of_which_not_even_messages": count - whole,
            "masks_for_bad_frames": len(lied),
            "counted_bad": after["bad"] - before["bad"],
            "counted_lost": after["lost"] - before["lost"],
            "good_frames": len(after_bad),
            "good_frames_served": sum(latency < float("inf") for latency in after_bad),
            "calm_ms": percentiles(calm),
            "after_bad_ms": percentiles([v for v in after_bad if v < float("inf")] or [-1.0]),
            "node_lives": segmenter.process.poll() is None,
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=5000, help="of each transport")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    args = parser.parse_args()
    warn_if_busy()
    result: dict[str, Any] = {"machine": describe()}
    for transport in ("raw", "compressed"):
        run = measure(args.model, transport, args.messages, args.seed)
        result[transport] = run
        print(
            f"{transport}: {run['messages']} bad messages, {run['masks_for_bad_frames']} masks "
            f"for them; {run['good_frames_served']} of {run['good_frames']} good frames served, "
            f"p50 {run['after_bad_ms']['p50']:.1f} p99 {run['after_bad_ms']['p99']:.1f} ms (in "
            f"calm p50 {run['calm_ms']['p50']:.1f} p99 {run['calm_ms']['p99']:.1f} ms); node "
            f"{'lives' if run['node_lives'] else 'HAS DIED'}",
            file=sys.stderr,
        )
    print(json.dumps(result))
    return 0 if all(result[t]["node_lives"] for t in ("raw", "compressed")) else 1


if __name__ == "__main__":
    sys.exit(main())
