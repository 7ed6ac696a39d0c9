"""The recording that the package ships: ten seconds of a rendered street, with its labels.

``tools/street`` renders it. It is read as any other video: ``street`` names it wherever an input is
asked for, unless a file or a folder of that name is there.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

STREET = "street"
LABEL_SET = "camvid11"
FOLDER = Path(__file__).resolve().parent.parent / "data" / "street"
VIDEO, LABELS, CALIBRATION = "drive.mp4", "labels.npz", "camera_info.yaml"


def is_street(uri: str | Path) -> bool:
    """Whether an input names the shipped recording."""
    return str(uri) == STREET and not Path(uri).exists()


@cache
def street_labels() -> dict[int, np.ndarray]:
    """The truth: frame index -> uint8 [480, 640] label ids of :data:`LABEL_SET`, of every fifth frame."""
    with np.load(FOLDER / LABELS) as content:
        frames, labels = content["frames"], content["labels"]
    return {int(frame): one for frame, one in zip(frames, labels, strict=True)}
