"""From the start of the node's process to its first mask, a camera already publishing.

``python -m benchmarks.startup``. The first run starts with an empty cache of compiled models, the
others find what it left.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from deeplab_rt.bench.machine import describe, warn_if_busy
from deeplab_rt.commands import add_model_arguments
from deeplab_rt.ros.latency_probe import LatencyProbe
from deeplab_rt.ros.session import NodeProcess, node_parameters, private_network

PATIENCE_S = 60.0


def first_mask_s(node: dict[str, object], folder: Path) -> float:
    """Seconds from the start of the process to the first mask received from it."""
    with LatencyProbe(keep_masks=False) as probe:
        arrivals = probe.measurement.arrivals
        with NodeProcess("deeplab_rt.ros.node", {**node, "autostart": True}, folder) as segmenter:

            def done() -> bool:
                segmenter.check()
                return bool(arrivals)

            if not probe.spin_until(done, PATIENCE_S):
                raise segmenter.error(f"gave no mask within {PATIENCE_S:g} s")
            return min(arrivals.values()) / 1e9 - segmenter.started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    add_model_arguments(parser)
    args = parser.parse_args()
    node = node_parameters(args.model, args.backend, args.precision, args.size)
    warn_if_busy()
    seconds = []
    with tempfile.TemporaryDirectory() as folder, private_network():
        os.environ["DEEPLAB_RT_CACHE"] = str(Path(folder) / "cache")
        camera = {"rate": 30.0, "preload": True}
        with NodeProcess("deeplab_rt.ros.camera_node", camera, Path(folder)) as publisher:
            # The log says when publishing begins.
            while "Hz" not in publisher.output:
                publisher.check()
                time.sleep(0.1)
            for run in range(args.runs + 1):
                seconds.append(first_mask_s(node, Path(folder)))
                cache = "empty cache" if run == 0 else "warm"
                print(f"{cache}: {seconds[-1]:.2f} s", file=sys.stderr)
    result = {
        "machine": describe(),
        "empty_cache_s": round(seconds[0], 2),
        "warm_s": {
            "median": round(statistics.median(seconds[1:]), 2),
            "min": round(min(seconds[1:]), 2),
            "max": round(max(seconds[1:]), 2),
        },
    }
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
