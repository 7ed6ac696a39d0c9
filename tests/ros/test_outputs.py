"""What is published for a frame, and what is left out because nobody listens."""

from __future__ import annotations

from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from deeplab_rt.errors import FrameError
from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.ros.cdr import serialise_image
from deeplab_rt.ros.outputs import OUTPUTS, CameraOutputs, FrameResult, Output
from deeplab_rt.ros.parameters import Settings
from tests.ros.peer import Peer, wait_for


def result_of(labels: LabelSet) -> FrameResult:
    masks = Masks(*(np.full((4, 6), value, np.uint8) for value in (3, 255, 7)))
    frame = Frame(np.zeros((4, 6, 3), np.uint8))
    return FrameResult(Header(frame_id="front"), frame, masks, labels, None, Settings())


def test_output_is_made_only_while_somebody_listens(peer: Peer, camvid11: LabelSet) -> None:
    made: list[np.ndarray] = []

    def make(result: FrameResult) -> bytes:
        made.append(result.masks.drivable)
        return serialise_image(result.header, result.masks.drivable, "mono8")

    def fail(result: FrameResult) -> Any:
        raise FrameError("it cannot be made")

    outputs = (
        Output("drivable_mask", Image, make),
        Output("broken", Image, fail),
        Output("unwanted", Image, make, lambda settings: settings.publish_grid),
    )
    node = LifecycleNode("segmenter", context=peer.context)
    try:
        camera = CameraOutputs(node, "", lambda line: None, outputs)
        node.trigger_configure()
        node.trigger_activate()
        camera.activate(Settings())
        result = result_of(camvid11)
        assert camera.publish(result, "masks") == []
        assert made == []
        topics = ["/segmenter/broken", "/segmenter/drivable_mask"]
        for topic in topics:
            peer.listen(topic)
        errors: list[FrameError] = []

        def published() -> bool:
            errors.extend(camera.publish(result, "masks"))
            return bool(errors and peer.received[topics[1]])

        wait_for(published, "the mask, in spite of the other output")
        assert str(errors[0]) == "it cannot be made"
        assert made[0] is result.masks.drivable
        message = peer.received[topics[1]][0]
        assert (message.header.frame_id, message.encoding) == ("front", "mono8")
        assert (message.height, message.width, message.step) == (4, 6, 6)
        assert bytes(message.data) == result.masks.drivable.tobytes()
        assert not peer.node.count_publishers("/segmenter/unwanted")
        camera.close()
    finally:
        node.destroy_node()


def test_outputs_are_named_once() -> None:
    names = [output.name for output in OUTPUTS]
    assert len(set(names)) == len(names)
