"""Rate, drops and latency of the node at a camera's rate, each process on the same machine.

``python -m benchmarks.node_rate`` publishes 640x480 colour frames at 30 Hz for 60 s and prints, per
run and over all runs, masks a second, drops, capture-to-mask latency, and the share of the frame's
time that the node spends around the network.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from deeplab_rt.bench.machine import describe, warn_if_busy
from deeplab_rt.commands import add_model_arguments
from deeplab_rt.errors import DeeplabError
from deeplab_rt.ros.session import local_session, node_parameters

AROUND = ("decode", "preprocess", "labels", "publish")


def measure(seconds: float, rate: float, size: str, node: dict[str, Any]) -> dict[str, Any]:
    camera = {"rate": rate, "size": size, "frames": round(seconds * rate)}
    with local_session(camera, node, keep_masks=False) as running:
        running.run()
        measurement = running.probe.measurement
    summary = measurement.summary()
    stages = {stage: times["p50"] for stage, times in summary["node_ms"].items()}
    around = sum(stages[stage] for stage in AROUND)
    summary["around_the_network"] = {
        "ms": round(around, 2),
        "percent": round(100 * around / (around + stages["network"]), 1),
    }
    return {**summary, "engine": measurement.engine}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of one run")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--rate", type=float, default=30.0, help="frames a second")
    parser.add_argument("--frame", default="640x480", help="size of the frames")
    add_model_arguments(parser)
    args = parser.parse_args()
    node = node_parameters(args.model, args.backend, args.precision, args.size)
    warn_if_busy()
    result: dict[str, Any] = {"machine": describe(), "frame": args.frame, "runs": []}
    for _ in range(args.runs):
        try:
            run = measure(args.seconds, args.rate, args.frame, node)
        except DeeplabError as error:
            print(f"node_rate: {error}", file=sys.stderr)
            return 1
        result["runs"].append(run)
        latency, around = run["latency_ms"], run["around_the_network"]
        print(
            f"in {run['rate_in_hz']:.1f} Hz, out {run['rate_out_hz']:.1f} Hz, "
            f"{run['dropped']} of {run['frames']} dropped ({run['dropped_percent']:.2f} %), latency "
            f"p50 {latency['p50']:.1f} p99 {latency['p99']:.1f} max {latency['max']:.1f} ms; around "
            f"the network {around['ms']:.2f} ms ({around['percent']:.0f} %)",
            file=sys.stderr,
        )
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
