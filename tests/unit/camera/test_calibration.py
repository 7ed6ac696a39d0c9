"""Calibration at another image size, against points projected by the full sensor."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from deeplab_rt.camera.calibration import crop_of, fill_camera_info, read_calibration
from deeplab_rt.errors import FrameError, StreamError
from deeplab_rt.streams.street import CALIBRATION, FOLDER

K = np.array([[900.0, 0, 700.2], [0, 910.0, 401.7], [0, 0, 1]])


def info_of(**roi: int) -> Any:
    region = {"x_offset": 0, "y_offset": 0, "width": 0, "height": 0, **roi}
    return SimpleNamespace(
        width=1280,
        height=800,
        k=K.ravel(),
        p=np.hstack([K, [[-90.0], [0], [0]]]).ravel(),
        d=[0.1, 0.0, 0.0, 0.0, 0.0],
        r=np.eye(3).ravel(),
        distortion_model="plumb_bob",
        roi=SimpleNamespace(**region),
    )


def to_image(sensor: np.ndarray, left: float, top: float, scale_x: float, scale_y: float) -> Any:
    """Where a sensor position lies in the cut-out and scaled image, by the edges of the pixels."""
    x = (sensor[0] + 0.5 - left) * scale_x - 0.5
    y = (sensor[1] + 0.5 - top) * scale_y - 0.5
    return np.array([x, y])


@pytest.mark.parametrize(
    ("roi", "size", "crop"),
    [
        ({}, (800, 1280), (0, 0, 1, 1)),
        ({}, (400, 640), (0, 0, 0.5, 0.5)),  # binned, or resized
        ({}, (480, 640), (0, 0, 0.5, 0.6)),  # squeezed to the network's size
        (
            {"x_offset": 100, "y_offset": 40, "width": 640, "height": 480},
            (480, 640),
            (100, 40, 1, 1),
        ),
        (
            {"x_offset": 100, "y_offset": 40, "width": 640, "height": 480},
            (240, 320),
            (100, 40, 0.5, 0.5),
        ),
    ],
)
def test_points_fall_where_they_do_in_the_image(
    roi: dict[str, int], size: tuple[int, int], crop: tuple[float, float, float, float]
) -> None:
    target = SimpleNamespace()
    info = info_of(**roi)
    fill_camera_info(target, info, size)
    assert (target.height, target.width) == size
    assert (target.distortion_model, target.d) == ("plumb_bob", info.d)
    point = np.array([1.3, -0.4, 7.0])
    for matrix, full, homogeneous in (
        (target.k.reshape(3, 3), K, point),
        (target.p.reshape(3, 4), info.p.reshape(3, 4), np.append(point, 1)),
    ):
        x, y, z = full @ homogeneous
        expected = to_image(np.array([x / z, y / z]), *crop)
        u, v, w = matrix @ homogeneous
        assert np.allclose([u / w, v / w], expected)


def test_camera_that_is_not_calibrated() -> None:
    info = info_of()
    info.k = np.zeros(9)
    with pytest.raises(FrameError, match="1280x800 with focal length 0: the camera is not"):
        crop_of(info, (480, 640))
    info = info_of()
    info.width = 0
    with pytest.raises(FrameError, match="not calibrated"):
        crop_of(info, (480, 640))


def test_a_calibration_file_is_read(tmp_path: Path) -> None:
    info = SimpleNamespace()
    read_calibration(FOLDER / CALIBRATION, info)
    assert (info.width, info.height, info.distortion_model) == (640, 480, "plumb_bob")
    assert info.k[0] == 544 and info.d == [0.0] * 5 and len(info.p) == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "- 1", "not a calibration"),
        (lambda text: "{", "not a YAML file"),
        (lambda text: text.replace("camera_matrix", "other"), "KeyError 'camera_matrix'"),
        (lambda text: text.replace("544.0", ".nan"), "camera_matrix has 9 finite numbers"),
        (lambda text: text.replace("544.0, ", "", 1), "camera_matrix has 8 finite numbers"),
        (lambda text: text.replace("640", ".inf"), "not a calibration"),
    ],
)
def test_what_is_no_calibration_is_told(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "camera.yaml"
    path.write_text(change((FOLDER / CALIBRATION).read_text()))
    with pytest.raises(StreamError, match=f"camera.yaml: .*{message}"):
        read_calibration(path, SimpleNamespace())
