"""Three cameras on one engine: is any of them starved?

``python -m benchmarks.three_cameras`` runs three cameras of 640x480 at 10 Hz, the node and a
consumer, each a process, and prints the rate in and out, the drops and the latency of each camera.
"""

from __future__ import annotations

import argparse
import json
import sys

from deeplab_rt.bench.machine import describe, warn_if_busy
from deeplab_rt.models import DEFAULT_MODEL
from deeplab_rt.ros.session import local_session

CAMERAS = ("front", "left", "right")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=10.0, help="of each camera, Hz")
    parser.add_argument("--size", default="640x480")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    args = parser.parse_args()
    warn_if_busy()
    machine = describe()
    camera = {"rate": args.rate, "size": args.size, "frames": round(args.seconds * args.rate)}
    with local_session(camera, {"model": args.model}, CAMERAS, keep_masks=False) as session:
        session.run()
        measurements = session.probe.measurements
    results = {name: one.summary() for name, one in measurements.items()}
    for name, result in results.items():
        latency = result["latency_ms"]
        print(
            f"{name:6} {result['rate_in_hz']:6.2f} Hz in, {result['rate_out_hz']:6.2f} Hz out, "
            f"{result['dropped']} dropped, latency p50 {latency['p50']:.1f} p99 "
            f"{latency['p99']:.1f} ms",
            file=sys.stderr,
        )
    engine = measurements[CAMERAS[0]].engine
    print(json.dumps({"machine": machine, "engine": engine, "cameras": results}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
