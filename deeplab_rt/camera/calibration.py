"""A camera's calibration at another image size, from ``sensor_msgs/CameraInfo``.

Pure: imports nothing of ROS. Fields as
https://docs.ros.org/en/kilted/p/sensor_msgs/msg/CameraInfo.html defines them; pixel centres lie at
whole numbers, so that the outer edge of the first pixel is at -0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_rt.errors import FrameError, StreamError
from deeplab_rt.yaml_files import load_yaml


@dataclass(frozen=True)
class Crop:
    """How the calibrated sensor became an image of another size: cut out, then scaled.

    ``x_image = (x_sensor + 0.5 - left) * scale_x - 0.5``, and likewise y.
    """

    left: float
    top: float
    scale_x: float
    scale_y: float

    def apply(self, matrix: Any, columns: int) -> np.ndarray:
        """A row-major 3x3 or 3x4 projection matrix of the sensor, for the image. float64 [3, columns]."""
        matrix = np.array(matrix, np.float64).reshape(3, columns)
        shift_x = (0.5 - self.left) * self.scale_x - 0.5
        shift_y = (0.5 - self.top) * self.scale_y - 0.5
        change = np.array([[self.scale_x, 0, shift_x], [0, self.scale_y, shift_y], [0, 0, 1]])
        return np.asarray(change @ matrix)


def crop_of(info: Any, size: tuple[int, int]) -> Crop:
    """How the image of ``size`` (height, width) came from the sensor that ``info`` describes.

    The region of interest and then the whole image are taken to fill it; binning needs no attention
    of its own, being a scale.

    Raises:
        FrameError: the camera is not calibrated (no size or focal length).
    """
    width, height = info.roi.width or info.width, info.roi.height or info.height
    sound = np.isfinite(info.k).all() and info.k[0] > 0 and info.k[4] > 0
    if not width or not height or not sound:
        raise FrameError(
            f"camera_info of {info.width}x{info.height} with focal length {info.k[0]:g}: the camera "
            "is not calibrated"
        )
    offset = (info.roi.x_offset, info.roi.y_offset) if info.roi.width else (0, 0)
    return Crop(float(offset[0]), float(offset[1]), size[1] / width, size[0] / height)


def fill_camera_info(target: Any, info: Any, size: tuple[int, int]) -> None:
    """Fill a CameraInfo, all but its header, with ``info`` brought to images of ``size``.

    Args:
        target: the message.
        info: the camera's own.
        size: (height, width) in pixels.

    Raises:
        FrameError: the camera is not calibrated.
    """
    crop = crop_of(info, size)
    target.height, target.width = size
    target.distortion_model, target.d, target.r = info.distortion_model, info.d, info.r
    target.k = crop.apply(info.k, 3).ravel()
    target.p = crop.apply(info.p, 4).ravel()


_MATRICES = {
    "d": ("distortion_coefficients", None),
    "k": ("camera_matrix", 9),
    "r": ("rectification_matrix", 9),
    "p": ("projection_matrix", 12),
}


def read_calibration(path: Path, target: Any) -> None:
    """Fill a CameraInfo, all but its header, from a file as camera_calibration writes it.

    Args:
        path: YAML with ``image_width``, ``image_height``, ``distortion_model``, ``camera_matrix``,
            ``distortion_coefficients``, ``rectification_matrix`` and ``projection_matrix``.
        target: the message.

    Raises:
        StreamError: the file cannot be read or is no calibration.
    """
    content = load_yaml(path, StreamError)
    try:
        target.width, target.height = int(content["image_width"]), int(content["image_height"])
        target.distortion_model = str(content["distortion_model"])
        for field, (name, length) in _MATRICES.items():
            values = [float(value) for value in content[name]["data"]]
            if length not in (None, len(values)) or not np.isfinite(values).all():
                raise ValueError(f"{name} has {len(values)} finite numbers")
            setattr(target, field, values)
    except (AssertionError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise StreamError(
            f"{path}: not a calibration as camera_calibration writes it: "
            f"{' '.join(f'{type(error).__name__} {error}'.split())}"
        ) from None
