"""The camera node, as a process of its own, heard over DDS."""

from __future__ import annotations

import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo

from deeplab_rt.camera.encodings import decode_image
from deeplab_rt.ros.session import NodeProcess, NodeProcessError
from deeplab_rt.streams.sources import open_source
from tests.ros.peer import PATIENCE, Peer, stamp_of, wait_for

MODULE = "deeplab_rt.ros.camera_node"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures of one grey each: 40, 120, 200."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, gray in enumerate((40, 120, 200)):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((48, 64, 3), gray, np.uint8))
    return folder


def lines(camera: NodeProcess) -> list[str]:
    """What it said, but for the middleware's own remarks."""
    return [line for line in camera.log.read_text().splitlines() if "rmw_" not in line]


def test_the_street_with_its_exact_calibration(peer: Peer, tmp_path: Path) -> None:
    peer.listen("/image")
    peer.listen("/camera_info", CameraInfo)
    log = tmp_path / "log.csv"
    parameters = {"size": "320x240", "frames": 5, "wait_for_subscriber": True, "log": str(log)}
    with NodeProcess(MODULE, parameters, tmp_path) as camera:
        images, infos = peer.received["/image"], peer.received["/camera_info"]
        wait_for(lambda: len(images) == 5 and len(infos) == 5, "five frames")
        assert camera.process.wait(PATIENCE) == 0
    with open_source("street") as source:
        for frame, message in zip(source, images, strict=False):
            image, channels = decode_image(message)
            assert channels == "bgr" and message.header.frame_id == "camera"
            assert np.array_equal(image, cv2.resize(frame.image, (320, 240)))
    # Half of the drive's own 544 and (319.5, 239.5), pixel centres at whole numbers.
    assert np.allclose(infos[0].k, [272, 0, 159.5, 0, 272, 119.5, 0, 0, 1])
    assert (infos[0].width, infos[0].height) == (320, 240)
    stamps = [stamp_of(message) for message in images]
    assert stamps == [stamp_of(info) for info in infos] == sorted(set(stamps))
    assert log.read_text() == "".join(f"{i},{stamp}\n" for i, stamp in enumerate(stamps))


@pytest.mark.parametrize("preload", [False, True])
def test_a_recording_begins_anew(peer: Peer, pictures: Path, tmp_path: Path, preload: bool) -> None:
    peer.listen("/image")
    parameters = {"input": str(pictures), "rate": 20.0, "frames": 7, "preload": preload}
    with NodeProcess(MODULE, {**parameters, "wait_for_subscriber": True}, tmp_path) as camera:
        wait_for(lambda: len(peer.received["/image"]) == 7, "seven frames")
        assert camera.process.wait(PATIENCE) == 0
    grays = [int(decode_image(message)[0][0, 0, 0]) for message in peer.received["/image"]]
    assert grays == [40, 120, 200, 40, 120, 200, 40]


def test_a_recording_ends_where_it_may_not_begin_anew(
    peer: Peer, pictures: Path, tmp_path: Path
) -> None:
    peer.listen("/image")
    peer.listen("/camera_info", CameraInfo)
    parameters = {"input": str(pictures), "loop": False, "wait_for_subscriber": True}
    with NodeProcess(MODULE, parameters, tmp_path) as camera:
        assert camera.process.wait(PATIENCE) == 0
    assert len(peer.received["/image"]) == 3
    # Nothing is known of this camera: a matrix of zeros says so.
    assert not np.any(peer.received["/camera_info"][0].k)


def test_it_ends_on_a_signal(peer: Peer, pictures: Path, tmp_path: Path) -> None:
    peer.listen("/image")
    with NodeProcess(MODULE, {"input": str(pictures)}, tmp_path) as camera:
        wait_for(lambda: peer.received["/image"], "a frame")
        camera.process.send_signal(signal.SIGINT)
        assert camera.process.wait(PATIENCE) == 0
    assert len(lines(camera)) == 1  # what it publishes, and nothing of its end


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"input": "/no/such.mp4"}, "camera_node: /no/such.mp4: no such input"),
        ({"rate": -1.0}, "camera_node: parameter rate is -1.0, expected 0 to 1000"),
        ({"rate": float("nan")}, "camera_node: parameter rate is nan, expected 0 to 1000"),
        ({"rate": float("inf")}, "camera_node: parameter rate is inf, expected 0 to 1000"),
        ({"frames": -3}, "camera_node: parameter frames is -3, expected 0 to"),
        ({"calibration": "/no/such.yaml"}, "camera_node: /no/such.yaml: cannot be read"),
        ({"size": "big"}, "camera_node: parameter size: 'big' is not a size; expected WxH"),
    ],
)
def test_what_cannot_be_opened_is_one_line(
    tmp_path: Path, parameters: dict[str, str | float], message: str
) -> None:
    with NodeProcess(MODULE, parameters, tmp_path) as camera:
        assert camera.process.wait(PATIENCE) == 1
        assert len(lines(camera)) == 1 and lines(camera)[0].startswith(message)
        with pytest.raises(NodeProcessError, match="camera_node has ended"):
            camera.check()
