"""What the node listens to, and what it says while nothing comes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage

from deeplab_rt.errors import StreamError
from deeplab_rt.models import Model
from deeplab_rt.ros.inputs import CameraInputs, image_topic, message_type, similar_topics
from tests.ros.peer import NodeProcess, Peer, node_arguments, wait_for


@pytest.mark.parametrize(
    ("remapped", "transport", "topic", "taken"),
    [
        ("/cam/image_raw", "raw", "/cam/image_raw", "raw"),
        ("/cam/image_raw", "compressed", "/cam/image_raw/compressed", "compressed"),
        ("/cam/image_raw/compressed", "compressed", "/cam/image_raw/compressed", "compressed"),
        ("/cam/image_raw/compressed", "raw", "/cam/image_raw/compressed", "compressed"),
        ("/cam/image_raw", "ffmpeg", "/cam/image_raw/ffmpeg", "ffmpeg"),
        ("/cam/image_raw/foxglove", "raw", "/cam/image_raw/foxglove", "foxglove"),
        ("/raw", "raw", "/raw", "raw"),
    ],
)
def test_topic_and_transport_of_a_remapping(
    remapped: str, transport: str, topic: str, taken: str
) -> None:
    assert image_topic(remapped, transport) == (topic, taken)


def test_messages_that_are_not_installed_are_named() -> None:
    assert message_type("compressed") is CompressedImage
    try:
        import ffmpeg_image_transport_msgs.msg  # noqa: F401
    except ImportError:
        with pytest.raises(StreamError, match="apt install ros-.*-ffmpeg-image-transport-msgs"):
            message_type("ffmpeg")


def test_similar_topics_are_of_images_and_the_likeliest_first() -> None:
    graph = [
        ("/image", ["sensor_msgs/msg/Image"]),
        ("/camera/image_raw", ["sensor_msgs/msg/Image"]),
        ("/camera/image_raw/compressed", ["sensor_msgs/msg/CompressedImage"]),
        ("/camera/camera_info", ["sensor_msgs/msg/CameraInfo"]),
        ("/rear/depth", ["sensor_msgs/msg/Image"]),
    ]
    found = similar_topics("/camera/image", graph)
    assert found[0] == "/camera/image_raw (Image)"
    assert sorted(found) == [
        "/camera/image_raw (Image)",
        "/camera/image_raw/compressed (CompressedImage)",
        "/image (Image)",
        "/rear/depth (Image)",
    ]
    assert similar_topics("/image", graph[:1]) == []


@pytest.fixture
def inputs(peer: Peer) -> Iterator[CameraInputs]:
    node = LifecycleNode("segmenter", context=peer.context)
    made = CameraInputs(
        node,
        ("image", "camera_info"),
        "raw",
        True,
        lambda message: None,
        lambda number: None,
        lambda line: None,
    )
    yield made
    made.close()
    node.destroy_node()


def test_what_is_listened_to_is_said(inputs: CameraInputs) -> None:
    assert inputs.description == (
        "listening to /image (sensor_msgs/msg/Image, reliable, volatile) and /camera_info"
    )


def test_silence_names_what_is_there_instead(peer: Peer, inputs: CameraInputs) -> None:
    def says(text: str) -> None:
        wait_for(lambda: text in inputs.why_silent(), f"{text!r} in {inputs.why_silent()!r}")

    assert inputs.why_silent().startswith(" on /image: nobody publishes it")
    peer.offer("/cam/image_raw")
    says("on /image: nobody publishes it; image topics here: /cam/image_raw (Image)")
    peer.offer("/image", reliable=False)
    says("/peer offers best effort, volatile, the node asks for reliable, volatile: see image_qos")
    peer.offer("/image")
    says("/peer publishes it and sends nothing that arrives")
    driver = Peer("driver")
    try:
        driver.offer("/image", CompressedImage)
        says("/driver publishes sensor_msgs/msg/CompressedImage there, not sensor_msgs/msg/Image")
    finally:
        driver.close()


def test_node_says_what_it_listens_to_and_each_change_of_its_health_once(
    palette_model: Model, tmp_path: Path, peer: Peer, painted: tuple[np.ndarray, np.ndarray]
) -> None:
    arguments = node_arguments(palette_model, autostart="true")
    with NodeProcess(tmp_path / "log", *arguments) as node:
        node.wait_for_line("listening to /image (sensor_msgs/msg/Image, reliable, volatile)")
        node.wait_for_line("deeplab: camera: OK -> ERROR: no frame for")
        node.wait_for_line("on /image: nobody publishes it")
        peer.listen("/deeplab/label_mask")

        def recovered() -> bool:
            peer.send(painted[0], time.time_ns())
            time.sleep(0.05)  # a camera of 20 Hz
            return "deeplab: camera: ERROR -> OK: ok" in node.output

        wait_for(recovered, "recovery")
        assert node.output.count("OK -> ERROR") == 1
        node.stop()
