"""Serialised images against rclpy's own serialisation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy")

from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image

from deeplab_rt.camera.encodings import fill_image
from deeplab_rt.ros.cdr import serialise_image


@settings(max_examples=60, deadline=None)
@given(
    frame_id=st.text(st.characters(min_codepoint=32, max_codepoint=0x24F), max_size=9),
    stamp=st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(0, 10**9 - 1)),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    channels=st.sampled_from([None, 3]),
)
def test_as_long_as_rclpys_own_and_read_back_as_the_same_message(
    frame_id: str, stamp: tuple[int, int], shape: tuple[int, int], channels: int | None
) -> None:
    full = shape if channels is None else (*shape, channels)
    picture = np.random.default_rng(0).integers(0, 256, full, np.uint8)
    encoding = "mono8" if channels is None else "bgr8"
    message = Image()
    message.header.frame_id = frame_id
    message.header.stamp.sec, message.header.stamp.nanosec = stamp
    fill_image(message, picture, encoding)
    content = serialise_image(message.header, picture, encoding)
    # Byte by byte they may differ: what fills the gap after a string is not initialised.
    assert len(content) == len(bytes(serialize_message(message)))
    assert deserialize_message(content, Image) == message


def test_a_strided_mask_is_copied_in_order() -> None:
    mask = np.arange(48, dtype=np.uint8).reshape(4, 12)[:, ::2]
    message = deserialize_message(serialise_image(Image().header, mask, "mono8"), Image)
    assert (message.height, message.width, message.step) == (4, 6, 6)
    assert bytes(message.data) == mask.tobytes()
