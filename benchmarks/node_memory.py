"""Resident memory of the node's process while it segments 640x480 at 30 Hz.

``python -m benchmarks.node_memory`` samples it for ten minutes and prints the largest value, what it is
made of, and the mean of each minute, in which growth would show.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path

from deeplab_rt.bench.machine import describe, warn_if_busy
from deeplab_rt.commands import add_model_arguments
from deeplab_rt.ros.session import local_session, node_parameters

EVERY_S = 2.0


KINDS = ("RssAnon", "RssFile", "RssShmem")


def resident_mb(pid: int) -> dict[str, float]:
    """Resident memory of a process in MB (10^6 bytes): its own, of files (libraries, the model), and
    shared (the segments through which DDS passes images).
    """
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    found = {line[0].rstrip(":"): line[1] for line in lines if len(line) > 1}
    return {kind: int(found[kind]) * 1024 / 1e6 for kind in KINDS}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=30.0)
    add_model_arguments(parser)
    args = parser.parse_args()
    node = node_parameters(args.model, args.backend, args.precision, args.size)
    warn_if_busy()
    samples: list[tuple[float, dict[str, float]]] = []
    frames = round(60 * args.minutes * args.rate)
    camera = {"rate": args.rate, "size": "640x480", "frames": frames}
    with local_session(camera, node, keep_masks=False) as running:
        pid = running.segmenter.process.pid
        started = time.monotonic()

        def sample(masks: int) -> None:
            now = time.monotonic() - started
            if masks and (not samples or now - samples[-1][0] >= EVERY_S):
                samples.append((now, resident_mb(pid)))

        running.run(sample)
        summary = running.probe.measurement.summary()
    totals = [sum(parts.values()) for _, parts in samples]
    minutes: dict[int, list[dict[str, float]]] = defaultdict(list)
    for at, parts in samples:
        minutes[int(at // 60)].append(parts)
    means = {
        kind: [round(statistics.mean(parts[kind] for parts in m), 1) for m in minutes.values()]
        for kind in KINDS
    }
    result = {
        "machine": describe(),
        "minutes": args.minutes,
        "masks": summary["masks"],
        "dropped_percent": summary["dropped_percent"],
        "largest_mb": round(max(totals), 1),
        "at_the_end_mb": {kind: round(mb, 1) for kind, mb in samples[-1][1].items()},
        "mean_of_each_minute_mb": means,
    }
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
