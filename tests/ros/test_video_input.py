"""H.264 and H.265 packets as images.

ffmpeg_image_transport_msgs and foxglove_msgs are on no package index: in their place stand objects with
the fields of their messages.
"""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Header

from deeplab_rt.camera.encodings import stamp_ns_of
from deeplab_rt.errors import FrameError
from deeplab_rt.models import Model
from deeplab_rt.ros.camera import Camera
from deeplab_rt.ros.inputs import CameraInputs
from deeplab_rt.ros.parameters import Settings
from deeplab_rt.ros.video_input import VideoInput
from deeplab_rt.segmenter import Segmenter
from deeplab_rt.worker import InferenceWorker
from tests.ros.peer import Peer, stamp_of, wait_for

SECOND = 1_000_000_000


def encode(codec: str, images: list[np.ndarray], key_every: int) -> list[tuple[bytes, bool]]:
    """Packets, and whether each is a key frame."""
    height, width = images[0].shape[:2]
    context = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base = Fraction(1, 30)
    context.gop_size = key_every
    context.options = {"tune": "zerolatency", "preset": "ultrafast"}
    packets = []
    for index, image in enumerate([*images, None]):
        frame = None if image is None else av.VideoFrame.from_ndarray(image, format="bgr24")
        if frame is not None:
            frame.pts = index
        packets += [(bytes(packet), packet.is_keyframe) for packet in context.encode(frame)]
    return packets


def ffmpeg_packet(data: bytes, key: bool, stamp: int) -> Any:
    header = Header(stamp=Time(sec=stamp), frame_id="front_optical")
    return SimpleNamespace(header=header, encoding="libx264", flags=int(key), data=data)


def compressed_video(data: bytes, stamp: int, format: str) -> Any:
    return SimpleNamespace(
        timestamp=Time(sec=stamp), frame_id="front_optical", format=format, data=data
    )


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """Grey images, each brighter than the one before."""
    return [np.full((48, 64, 3), 20 * index, np.uint8) for index in range(10)]


@pytest.mark.parametrize(("codec", "format"), [("libx264", "h264"), ("libx265", "h265")])
def test_frames_carry_the_header_of_their_packet(
    codec: str, format: str, images: list[np.ndarray]
) -> None:
    try:
        packets = encode(codec, images, 5)
    except av.error.FFmpegError:
        pytest.skip(f"PyAV has no {codec}")
    video = VideoInput()
    got = []
    for index, (data, _) in enumerate(packets):
        got += video.decode(compressed_video(data, index, format), float(index))
    assert [stamp_ns_of(header) for (header, _), _ in got] == [i * SECOND for i in range(len(got))]
    assert [since for (_, since), _ in got] == [float(i) for i in range(len(got))]
    assert len(got) + video.close() == len(packets) == 10
    for index, (_, image) in enumerate(got):
        assert not isinstance(image, FrameError)
        assert abs(float(image.mean()) - 20 * index) < 6


def test_stream_joined_in_the_middle_waits_for_its_key_frame(
    peer: Peer,
    palette_model: Model,
    painted: tuple[np.ndarray, np.ndarray],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Through a camera of the node: what is waited for is said, and every frame is counted."""
    packets = encode("libx264", [cv2.resize(painted[0], (128, 96))] * 12, 4)
    assert [key for _, key in packets[2:6]] == [False, False, True, False]
    node = LifecycleNode("segmenter", context=peer.context)
    worker = InferenceWorker(1, lambda: None)
    try:
        worker.open(lambda: Segmenter(palette_model, "cpu"))
        settings = Settings()
        camera = Camera(node, 0, "", worker, lambda: settings)
        node.trigger_configure()
        camera.activate(Nowhere(), None)
        node.trigger_activate()
        camera.inputs = CameraInputs(
            node,
            ("image", "camera_info"),
            "raw",
            True,
            camera.on_image,
            lambda number: None,
            lambda line: None,
        )
        camera.take_video()
        mask = "/segmenter/label_mask"
        peer.listen(mask)
        wait_for(lambda: node.count_subscribers(mask), "subscriber")
        for index, (data, key) in enumerate(packets[2:], 2):
            camera.on_image(ffmpeg_packet(data, key, 100 + index))
            assert worker.wait_idle(10)
            wait_for(lambda: balanced(camera), "end of the frame")
        counts = camera.stats.counts()
        assert (counts["received"], counts["bad"], counts["published"]) == (10, 2, 8)
        newest = 111 * SECOND
        wait_for(lambda: newest in map(stamp_of, list(peer.received[mask])), "the newest mask")
        assert "joined in the middle: it waits for its next key frame" in capfd.readouterr().err
        camera.stop_listening()
        camera.deactivate()
        camera.outputs.close()
    finally:
        worker.close(10)
        node.destroy_node()


class Nowhere:
    """No pose: nothing on the ground is asked for."""

    patient = False

    def find(self, header: Any) -> Any:
        raise FrameError("nowhere")

    def close(self) -> None: ...


def balanced(camera: Camera) -> bool:
    counts = camera.stats.counts()
    return counts["received"] == counts["published"] + counts["dropped"] + counts["bad"]
