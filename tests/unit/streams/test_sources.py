"""Which source an input is."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import pytest

from deeplab_rt.errors import StreamError
from deeplab_rt.streams.bag_reader import BagImages
from deeplab_rt.streams.folder import ImageFolder
from deeplab_rt.streams.live_camera import LiveCamera, is_camera
from deeplab_rt.streams.sources import open_recording, open_source
from deeplab_rt.streams.video import VideoFile
from tests.unit.streams.media import (
    HttpCamera,
    numbered,
    numbered_messages,
    write_bag,
    write_video,
)


def write_images(folder: Path, count: int) -> Path:
    folder.mkdir()
    for index in range(count):
        cv2.imwrite(str(folder / f"{index}.png"), numbered(index))
    return folder


def test_an_input_is_opened_by_what_it_is(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", {"/image": numbered_messages(2)})
    video = write_video(tmp_path / "drive.mp4", 2)
    images = write_images(tmp_path / "images", 2)
    with HttpCamera() as camera:
        expected = {
            str(bag): BagImages,
            str(bag / "bag.mcap"): BagImages,
            str(video): VideoFile,
            str(images): ImageFolder,
            str(images / "0.png"): ImageFolder,
            camera.url: LiveCamera,
        }
        for uri, kind in expected.items():
            with open_source(uri) as source:
                assert type(source) is kind and source.live == (kind is LiveCamera)


@pytest.mark.parametrize("uri", ["0", "/dev/video2", "rtsp://host/stream", "http://host:80/x.mjpg"])
def test_names_of_cameras(uri: str) -> None:
    assert is_camera(uri)


@pytest.mark.parametrize("uri", ["drive.mp4", "./0", "folder/dev/video", "C0001.mp4"])
def test_names_that_are_no_cameras(uri: str) -> None:
    assert not is_camera(uri)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        StreamError, match="no such input; expected a bag, a video, an image folder"
    ):
        open_source(tmp_path / "nope")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "secret"
    folder.mkdir(mode=0)
    with pytest.raises(StreamError, match="cannot be read: Permission denied"):
        open_source(folder)


def test_a_camera_is_no_recording() -> None:
    with HttpCamera() as camera, pytest.raises(StreamError, match="webcam --device http"):
        open_recording(camera.url)


def test_names_that_no_system_takes_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe.mp4")
    names = ["~nouser/drive.mp4", "x" * 300, str(tmp_path / "loop"), "nul\0.mp4"]
    names += ["/dev/zero/x", str(tmp_path / "pipe.mp4"), "99999999999999999999"]
    for name in names:
        with pytest.raises(StreamError) as caught:
            open_source(name)
        assert "\n" not in str(caught.value)
