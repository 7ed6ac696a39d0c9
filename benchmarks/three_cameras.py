"""Three cameras on one engine: is any of them starved?

``python -m benchmarks.three_cameras`` runs three cameras of 640x480 at 10 Hz, the node and a
listener, each a process, and prints the rate in and out, the drops and the latency of each camera.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.rig import Listener, camera, logs, percentiles, segmenter
from deeplab_rt.bench.machine import describe, warn_if_busy
from deeplab_rt.models import DEFAULT_MODEL
from deeplab_rt.ros.session import private_network


def measure(model: str, names: list[str], rate: float, size: str, seconds: float) -> dict[str, Any]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(private_network())
        listener = stack.enter_context(Listener())
        node = {"model": model, "cameras": json.dumps(names)}
        stack.enter_context(segmenter(node, folder / "node.log"))
        arrivals = {name: listener.listen(f"/deeplab/{name}/label_mask") for name in names}
        for name in names:
            parameters = {"rate": rate, "size": size, "wait_for_subscriber": "true"}
            stack.enter_context(camera(parameters, folder / f"{name}.log", f"/{name}"))
        if not listener.spin_until(lambda: all(arrivals.values()), 120):
            raise SystemExit("no mask came\n" + logs(folder))
        listener.spin_for(2.0)
        for taken in arrivals.values():
            taken.clear()
        before = {name: dict(listener.statuses[f"deeplab: {name}"]) for name in names}
        listener.spin_for(seconds)
        result = {}
        for name in names:
            after = listener.statuses[f"deeplab: {name}"]
            taken = arrivals[name]
            period = (taken[-1][1] - taken[0][1]) / 1e9
            result[name] = {
                "rate_out_hz": round((len(taken) - 1) / period, 2),
                "dropped": int(after["dropped"]) - int(before[name]["dropped"]),
                "latency_ms": percentiles([(a - s) / 1e6 for s, a in taken]),
            }
        return {"engine": listener.statuses["deeplab: engine"], "cameras": result}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=10.0, help="of each camera, Hz")
    parser.add_argument("--size", default="640x480")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    args = parser.parse_args()
    warn_if_busy()
    machine = describe()
    measured = measure(args.model, ["front", "left", "right"], args.rate, args.size, args.seconds)
    for name, camera_result in measured["cameras"].items():
        share = 100 * camera_result["rate_out_hz"] / args.rate
        latency = camera_result["latency_ms"]
        print(
            f"{name:6} {camera_result['rate_out_hz']:6.2f} Hz out ({share:.0f} % of {args.rate:g}), "
            f"{camera_result['dropped']} dropped, latency p50 {latency['p50']:.1f} "
            f"p99 {latency['p99']:.1f} ms",
            file=sys.stderr,
        )
    print(json.dumps({"machine": machine, "seconds": args.seconds, **measured}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
