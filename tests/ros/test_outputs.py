"""What is published for a frame, and what is left out because nobody listens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Header

from deeplab_rt.masks import Masks
from deeplab_rt.ros import outputs
from tests.ros.peer import Peer, wait_for


def test_a_mask_that_nobody_listens_to_is_not_serialised(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[np.ndarray] = []
    serialise = outputs.serialise_image

    def counted(header: Any, image: np.ndarray, encoding: str) -> bytes:
        made.append(image)
        return serialise(header, image, encoding)

    monkeypatch.setattr(outputs, "serialise_image", counted)
    node = LifecycleNode("segmenter", context=peer.context)
    try:
        camera = outputs.CameraOutputs(node, "", lambda line: None)
        node.trigger_configure()
        node.trigger_activate()
        masks = Masks(*(np.full((4, 6), value, np.uint8) for value in (3, 255, 7)))
        header = Header(frame_id="front")
        camera.publish_masks(masks, header, None)
        assert made == []
        topic = "/segmenter/drivable_mask"
        peer.listen(topic)
        publisher = camera._images["drivable_mask"]
        wait_for(lambda: publisher.get_subscription_count() == 1, "a subscriber")
        camera.publish_masks(masks, header, None)
        assert len(made) == 1
        assert made[0] is masks.drivable
        wait_for(lambda: len(peer.received[topic]) == 1, "the mask")
        (message,) = peer.received[topic]
        assert (message.header.frame_id, message.encoding) == ("front", "mono8")
        assert (message.height, message.width, message.step) == (4, 6, 6)
        assert bytes(message.data) == masks.drivable.tobytes()
        camera.close()
    finally:
        node.destroy_node()
