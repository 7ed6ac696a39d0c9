"""Render the drive that the package ships: ``python -m tools.street``.

Writes ``drive.mp4`` (H.264), ``labels.npz`` (the label of every pixel of every fifth frame, before
compression) and ``camera_info.yaml`` (the exact calibration, as camera_calibration writes it).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import av
import numpy as np
import yaml

from deeplab_rt.streams import street as shipped
from tools.street.canvas import Camera
from tools.street.street import Street

SEED = 6
RATE = 30
EVERY = 5
"""One frame in so many has its labels stored."""


def camera_info(camera: Camera) -> dict[str, Any]:
    """The camera's calibration in the layout of camera_calibration_parsers."""

    def matrix(values: np.ndarray) -> dict[str, Any]:
        rows, cols = np.atleast_2d(values).shape
        return {"rows": rows, "cols": cols, "data": [round(float(v), 6) for v in values.ravel()]}

    projection = np.column_stack([camera.matrix, np.zeros(3)])
    return {
        "image_width": camera.width,
        "image_height": camera.height,
        "camera_name": shipped.STREET,
        "camera_matrix": matrix(camera.matrix),
        "distortion_model": "plumb_bob",
        "distortion_coefficients": matrix(np.zeros(5)),
        "rectification_matrix": matrix(np.eye(3)),
        "projection_matrix": matrix(projection),
    }


def write(folder: Path, street: Street, frames: int) -> None:
    """Render the drive into a folder, over what is there."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = []
    with av.open(str(folder / shipped.VIDEO), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height = street.camera.width, street.camera.height
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "26", "preset": "slow", "threads": "1"}
        for index in range(frames):
            image, truth = street.render(index)
            if index % EVERY == 0:
                labels.append(truth)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    indices = np.arange(0, frames, EVERY, dtype=np.int32)
    np.savez_compressed(folder / shipped.LABELS, frames=indices, labels=np.stack(labels))
    text = yaml.safe_dump(camera_info(street.camera), sort_keys=False, default_flow_style=None)
    (folder / shipped.CALIBRATION).write_text(text)


def main() -> None:
    """Parse the command line and render."""
    parser = argparse.ArgumentParser(prog="python -m tools.street", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=shipped.FOLDER, metavar="DIR")
    parser.add_argument("--seed", type=int, default=SEED, help="another seed is another street")
    parser.add_argument("--frames", type=int, default=300)
    args = parser.parse_args()
    write(args.output, Street(seed=args.seed, fps=RATE), args.frames)


if __name__ == "__main__":
    main()
