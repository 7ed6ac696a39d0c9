"""What viewers of the page cost the segmentation: frames a second with none, one and ten of them.

The shipped street is segmented as fast as it goes and written to the page. Rounds are interleaved, so
that what else the machine does is shared. The viewers are a process of their own (they would be other
machines) at the lowest priority; they answer for every frame and decode none::

    python -m benchmarks.page_clients --rounds 5 --seconds 3
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import time

COUNTS = (0, 1, 10)


async def _view(url: str) -> None:
    """One page that is open until it is closed."""
    import aiohttp

    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}ws") as socket:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                await socket.send_str('{"do": "ack"}')


async def _watch(url: str, count: int) -> None:
    await asyncio.gather(*(_view(url) for _ in range(count)))


def measure(rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """Number of viewers -> median frames a second, frames encoded a second, ratio to none."""
    from deeplab_rt.segmenter import Segmenter
    from deeplab_rt.streams.page import Access, PageView
    from deeplab_rt.streams.sources import open_source
    from deeplab_rt.streams.stats import RunStats

    rates: dict[int, list[float]] = {count: [] for count in COUNTS}
    encoded: dict[int, list[float]] = {count: [] for count in COUNTS}
    with Segmenter() as segmenter, open_source("street") as source:
        images = list(itertools.islice(source, 60))
        view = PageView(segmenter.labels, RunStats(source), Access(port=0))
        for _ in range(rounds):
            for count in COUNTS:
                command = [sys.executable, "-m", "benchmarks.page_clients", "--watch", view.url]
                viewers = subprocess.Popen(
                    [*command, "--count", str(count)], preexec_fn=lambda: os.nice(19)
                )
                while view.tick()["viewers"] != count:
                    time.sleep(0.05)
                begun, before, frames = time.perf_counter(), view.encoded, 0
                while time.perf_counter() - begun < seconds:
                    frame = images[frames % len(images)]
                    view.write(frame, segmenter.segment(frame))
                    frames += 1
                elapsed = time.perf_counter() - begun
                rates[count].append(frames / elapsed)
                encoded[count].append((view.encoded - before) / elapsed)
                viewers.terminate()
                viewers.wait()
                while view.tick()["viewers"]:
                    time.sleep(0.05)
        view.close()
    alone = statistics.median(rates[0])
    return {
        str(count): {
            "fps": round(statistics.median(rates[count]), 1),
            "encoded_fps": round(statistics.median(encoded[count]), 1),
            "ratio": round(statistics.median(rates[count]) / alone, 3),
        }
        for count in COUNTS
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--watch", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.watch:
        asyncio.run(_watch(args.watch, args.count))
    else:
        print(json.dumps(measure(args.rounds, args.seconds), indent=1))


if __name__ == "__main__":
    main()
