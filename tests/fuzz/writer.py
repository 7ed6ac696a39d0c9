"""A process that writes masks until it is killed: ``python -m tests.fuzz.writer OUTPUT``.

It says on stdout which frame has been written, when it has been: ``INDEX SECONDS`` of the monotonic
clock, which all processes of a machine share.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet, load_label_set
from deeplab_rt.masks import Masks

PERIOD_S = 0.02
LONGEST_S = 120.0  # if nobody kills it
SIZE = (240, 320)


def sink(path: Path, labels: LabelSet) -> Any:
    """What writes an output of this name: a bag, a video, or a folder of PNG files."""
    from deeplab_rt.streams.bag_writer import BagSink
    from deeplab_rt.streams.overlay_video import OverlayVideo
    from deeplab_rt.streams.png import PngSink

    if path.suffix in (".mp4", ".mkv", ".mov"):
        return OverlayVideo(path, labels, overwrite=True)
    if path.name == "masks":
        return PngSink(path, labels, overwrite=True)
    return BagSink(path, labels, overwrite=True, with_frames=path.name.startswith("recorded"))


def main(path: Path) -> None:
    """Write frames of noise, which no encoder makes small."""
    labels = load_label_set("camvid11")
    output = sink(path, labels)
    rng = np.random.default_rng(0)
    end = time.monotonic() + LONGEST_S
    index = 0
    while time.monotonic() < end:
        ids = rng.integers(1, 12, SIZE).astype(np.uint8)
        image = np.ascontiguousarray(labels.palette[ids])
        masks = Masks(ids, labels.drivable_lut[ids], labels.objects_lut[ids], label_set=labels)
        output.write(Frame(image, index, index * 20_000_000, "camera"), masks)
        print(index, time.monotonic(), flush=True)
        index += 1
        time.sleep(PERIOD_S)
    output.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
