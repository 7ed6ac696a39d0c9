"""What the network could take at least on GPUs: computed from published peaks, not measured.

``python -m benchmarks.network_bounds`` prints the table of docs/performance.md.
"""

from __future__ import annotations

import argparse
import sys

from deeplab_rt.bench.bounds import DEVICES, table
from deeplab_rt.bench.roofline import profile
from deeplab_rt.models import DEFAULT_MODEL, load_model


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    model = load_model(parser.parse_args().model)
    work = profile(model, "fp32", repeats=1)  # for its layers; their times are not used
    height, width = model.input_size
    moved = sum(layer.bytes for layer in work.layers)
    print(
        f"{model.name} at {width}x{height}: {work.macs / 1e9:.2f} GMAC; layer by layer "
        f"{moved / 2e6:.0f} MB in fp16, {moved / 4e6:.0f} MB in int8\n\n{table(work)}\n"
    )
    for device in DEVICES:
        peaks = ", ".join(f"{name} {value:g}" for name, value in device.tera_ops.items())
        print(f"- {device.name}: {peaks} TOPS, {device.gb_s:g} GB/s. {device.source}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
