"""Resident memory of the node's process while it segments 640x480 at 30 Hz.

``python -m benchmarks.node_memory`` samples it for ten minutes and prints the largest value and how
much it grew from the first to the last minute.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

from benchmarks.machine import describe, warn_if_busy
from deeplab_rt.commands import add_model_arguments
from deeplab_rt.ros.drive import drive, node_parameters

EVERY_S = 2.0


def resident_mb(pid: int) -> float:
    """VmRSS of a process in MB (10^6 bytes), shared pages such as DDS segments included."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f"process {pid} has no VmRSS")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=30.0)
    add_model_arguments(parser)
    args = parser.parse_args()
    node = node_parameters(args.model, args.backend, args.precision, args.size)
    warn_if_busy()
    samples: list[tuple[float, float]] = []
    frames = round(60 * args.minutes * args.rate)
    camera = {"rate": args.rate, "size": "640x480", "frames": frames}
    with drive(camera, node, keep_masks=False) as running:
        pid = running.segmenter.process.pid
        started = time.monotonic()

        def sample(masks: int) -> None:
            now = time.monotonic() - started
            if masks and (not samples or now - samples[-1][0] >= EVERY_S):
                samples.append((now, resident_mb(pid)))

        running.run(sample)
        summary = running.recorder.measurement.summary()
    window = min(60.0, samples[-1][0] / 4)
    # The beginning, in which buffers are made, is not growth: the first ten seconds are left out.
    settled = [(at, mb) for at, mb in samples if at - samples[0][0] >= 10] or samples
    first = statistics.mean(mb for at, mb in settled if at <= settled[0][0] + window)
    last = statistics.mean(mb for at, mb in settled if at >= settled[-1][0] - window)
    result = {
        "machine": describe(),
        "minutes": args.minutes,
        "masks": summary["masks"],
        "dropped_percent": summary["dropped_percent"],
        "largest_mb": round(max(mb for _, mb in samples), 1),
        "first_minute_mb": round(first, 1),
        "last_minute_mb": round(last, 1),
        "growth_mb": round(last - first, 1),
    }
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
