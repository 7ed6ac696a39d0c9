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
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.rig import Listener, camera, logs, percentiles, resident_mb, segmenter
from deeplab_rt.bench.machine import describe, warn_if_busy
from deeplab_rt.models import DEFAULT_MODEL
from deeplab_rt.ros.session import private_network

STATUS = "deeplab: camera"


def run(
    node: dict[str, object], rate: float, size: str, seconds: float, folder: Path
) -> dict[str, Any]:
    """Offer frames at a rate for so long."""
    with ExitStack() as stack:
        listener = stack.enter_context(Listener())
        process = stack.enter_context(segmenter(node, folder / "node.log"))
        arrivals = listener.listen("/deeplab/label_mask")
        parameters = {"rate": rate, "size": size, "wait_for_subscriber": "true"}
        source = ExitStack()
        stack.enter_context(source)
        source.enter_context(camera(parameters, folder / "camera.log"))
        if not listener.spin_until(lambda: bool(arrivals), 60):
            raise SystemExit("no mask came\n" + logs(folder))
        listener.spin_for(3.0)
        arrivals.clear()
        first = dict(listener.statuses[STATUS])
        memory = [resident_mb(process.pid)]
        for _ in range(10):
            listener.spin_for(seconds / 10)
            memory.append(resident_mb(process.pid))
        last = dict(listener.statuses[STATUS])
        latencies = [(arrival - stamp) / 1e6 for stamp, arrival in arrivals]
        thirds = [latencies[: len(latencies) // 3], latencies[-(len(latencies) // 3) :]]
        source.close()  # the camera ends, and what is on its way arrives
        counts = listener.settle(STATUS)
        return {
            "offered_hz": rate,
            "rate_in_hz": round((int(last["received"]) - int(first["received"])) / seconds, 1),
            "rate_out_hz": round(len(arrivals) / seconds, 1),
            "latency_ms": percentiles(latencies),
            "latency_first_third_ms": percentiles(thirds[0]),
            "latency_last_third_ms": percentiles(thirds[1]),
            "network_ms": {p: float(last[f"network {p} (ms)"]) for p in ("p50", "p99")},
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
    with tempfile.TemporaryDirectory() as folder, private_network():
        capacity = run(node, 200.0, args.size, 8.0, Path(folder))["rate_out_hz"]
        rate = float(round(args.factor * capacity))
        result = run(node, rate, args.size, args.seconds, Path(folder))
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
