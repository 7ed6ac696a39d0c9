"""Make the image of the README: ``python -m tools.demo_image``.

One frame of the shipped drive beside its overlay, by the default model on the CPU.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from deeplab_rt import Segmenter
from deeplab_rt.models import DEFAULT_MODEL
from deeplab_rt.streams.sources import open_source

FRAME = 205
IMAGE = Path(__file__).resolve().parent.parent / "docs" / "images" / "demo.jpg"


def main() -> None:
    """Parse the command line and write the image."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo_image", description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--frame", type=int, default=FRAME, help="index in the shipped drive")
    parser.add_argument("-o", "--output", type=Path, default=IMAGE)
    args = parser.parse_args()
    with open_source("street") as drive, Segmenter(args.model, "cpu") as segmenter:
        frame = next(islice(drive, args.frame, None))
        masks = segmenter.segment(frame)
    both = np.hstack([frame.bgr, masks.overlay(frame)])
    if not cv2.imwrite(str(args.output), both, [cv2.IMWRITE_JPEG_QUALITY, 88]):
        raise SystemExit(f"{args.output}: cannot be written")


if __name__ == "__main__":
    main()
