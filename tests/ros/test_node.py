"""The node over real DDS, in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deeplab_rt.labels import LabelSet
from deeplab_rt.model_store import Model
from tests.ros.peer import NodeProcess, Peer

MASK = "/deeplab/label_mask"
SECOND = 1_000_000_000


def node_arguments(model: Model, **parameters: object) -> list[str]:
    values = {"model": model.directory, "backend": "cpu", **parameters}
    return [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]


@pytest.fixture
def node(palette_model: Model, tmp_path: Path) -> Iterator[NodeProcess]:
    """An unconfigured node."""
    with NodeProcess(tmp_path / "node.log", *node_arguments(palette_model)) as node:
        yield node


@pytest.fixture
def active(palette_model: Model, tmp_path: Path, peer: Peer) -> Iterator[NodeProcess]:
    """An active node that listens to /image, the peer listening to its label masks."""
    arguments = node_arguments(palette_model, autostart="true")
    peer.listen(MASK)
    with NodeProcess(tmp_path / "node.log", *arguments) as node:
        peer.publisher("/image")
        peer.connected(MASK)
        yield node


def test_masks_carry_the_stamp_and_frame_of_their_image(
    active: NodeProcess, peer: Peer, painted: tuple[np.ndarray, np.ndarray], camvid11: LabelSet
) -> None:
    frame, _ = painted
    topics = {name: f"/deeplab/{name}" for name in ("drivable_mask", "object_mask")}
    for topic in topics.values():
        peer.listen(topic)
        peer.connected(topic)
    time.sleep(0.5)
    for index in range(3):
        peer.send(frame, 7 * SECOND + index)
        peer.masks(MASK, index + 1)
    labels = peer.masks(MASK)[0][1]
    for topic, lut in (
        ("drivable_mask", camvid11.drivable_lut),
        ("object_mask", camvid11.objects_lut),
    ):
        masks = peer.masks(topics[topic], 3)
        assert [stamp for stamp, _ in masks] == [7 * SECOND + i for i in range(3)]
        assert np.array_equal(masks[0][1], lut[labels])
    message = peer.received[MASK][0]
    assert (message.header.frame_id, message.encoding) == ("front_camera", "mono8")
    assert labels.shape == frame.shape[:2]
    assert labels[80, 64] == camvid11.index("road") + 1
