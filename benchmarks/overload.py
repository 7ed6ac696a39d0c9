"""Four times more frames than the machine can segment: does latency grow, or memory, or a count lie?

``python -m benchmarks.overload`` first measures how many masks a second the node makes beside a
camera that is faster than it, then offers four times as many frames for five minutes, and prints
latency against the network's time, resident memory over time, and the node's own counts, which must
add up: in = out + dropped + bad.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np

from benchmarks.node_memory import resident_mb
from deeplab_rt.bench.machine import describe, warn_if_busy
from deeplab_rt.models import DEFAULT_MODEL
from deeplab_rt.ros.session import local_session


def run(node: dict[str, object], rate: float, size: str, seconds: float) -> dict[str, Any]:
    """Offer frames at a rate for so long."""
    camera = {"rate": rate, "size": size, "frames": round(rate * seconds)}
    memory: list[float] = []
    next_sample = time.monotonic()
    with local_session(camera, node, keep_masks=False) as session:
        pid = session.segmenter.process.pid

        def sample(masks: int) -> None:
            nonlocal next_sample
            if masks and time.monotonic() >= next_sample:
                next_sample = time.monotonic() + seconds / 10
                memory.append(round(sum(resident_mb(pid).values()), 1))

        session.run(sample)
        counts = session.probe.settled_counts()
        measurement = session.probe.measurement
    latencies = [(arrival - stamp) / 1e6 for stamp, arrival in measurement.answered]
    third = len(latencies) // 3
    summary = measurement.summary()
    return {
        "offered_hz": rate,
        "rate_in_hz": summary["rate_in_hz"],
        "rate_out_hz": summary["rate_out_hz"],
        "latency_ms": summary["latency_ms"],
        "latency_p50_first_third_ms": round(float(np.median(latencies[:third])), 2),
        "latency_p50_last_third_ms": round(float(np.median(latencies[-third:])), 2),
        "network_ms": summary["node_ms"]["network"],
        "memory_mb": memory,
        "counts": counts,
        "counts_add_up": counts["received"]
        == counts["published"] + counts["dropped"] + counts["bad"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--factor", type=float, default=4.0)
    parser.add_argument("--size", default="640x480", help="of the frames")
    parser.add_argument("--input-size", default="", help="of the network, to make it slower")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    args = parser.parse_args()
    warn_if_busy()
    machine = describe()
    node: dict[str, object] = {"model": args.model}
    if args.input_size:
        node["input_size"] = args.input_size
    capacity = run(node, 200.0, args.size, 8.0)["rate_out_hz"]
    rate = float(round(args.factor * capacity))
    result = run(node, rate, args.size, args.seconds)
    latency, network = result["latency_ms"], result["network_ms"]
    print(
        f"{capacity:.1f} Hz can be segmented beside a camera; offered {rate:g} Hz, in "
        f"{result['rate_in_hz']:.1f} Hz, out {result['rate_out_hz']:.1f} Hz; latency p50 "
        f"{latency['p50']:.1f} p99 {latency['p99']:.1f} ms, network p50 {network['p50']:.1f} p99 "
        f"{network['p99']:.1f} ms; memory {result['memory_mb'][0]:.0f} to "
        f"{result['memory_mb'][-1]:.0f} MB; counts {result['counts']}"
        f"{'' if result['counts_add_up'] else ' DO NOT ADD UP'}",
        file=sys.stderr,
    )
    print(json.dumps({"machine": machine, "capacity_hz": capacity, **result}))
    return 0 if result["counts_add_up"] else 1


if __name__ == "__main__":
    sys.exit(main())
