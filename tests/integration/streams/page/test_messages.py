"""The messages between page and server."""

from __future__ import annotations

import json
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_rt.frame import Frame
from deeplab_rt.masks import Masks
from deeplab_rt.streams.page.messages import MAX_SIDE, Command, frame_message, parse_command

sides = st.integers(1, 90)


def unpack(message: bytes) -> tuple[dict, np.ndarray, np.ndarray, np.ndarray]:
    """What the page makes of a frame message: header, image, labels, confidence."""
    (length,) = struct.unpack_from("<I", message)
    header = json.loads(message[4 : 4 + length])
    image_end = 4 + length + header["image"]
    labels_end = image_end + header["labels"][2]
    assert len(message) == labels_end + header["confidence"][2]
    image = cv2.imdecode(np.frombuffer(message[4 + length : image_end], np.uint8), cv2.IMREAD_COLOR)

    def plane(data: bytes, shape: list[int]) -> np.ndarray:
        return np.frombuffer(zlib.decompress(data, -15), np.uint8).reshape(shape[1], shape[0])

    labels = plane(message[image_end:labels_end], header["labels"])
    return header, image, labels, plane(message[labels_end:], header["confidence"])


@given(
    frame_size=st.tuples(sides, sides), mask_size=st.tuples(sides, sides), seed=st.integers(0, 99)
)
def test_a_frame_comes_out_as_it_went_in(
    frame_size: tuple[int, int], mask_size: tuple[int, int], seed: int
) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 255, mask_size, np.uint8)
    frame = Frame(np.full((*frame_size, 3), (10, 90, 200), np.uint8), 7, name="drive")
    confidence = random.integers(0, 255, mask_size, np.uint8)
    message = frame_message(frame, Masks(labels, labels, labels, confidence), {"frames": 3})
    header, image, sent, certain = unpack(message)
    assert (header["index"], header["name"], header["frames"]) == (7, "drive", 3)
    assert image.shape[:2] == frame_size == (header["height"], header["width"])
    assert np.abs(image.astype(int) - (10, 90, 200)).max() < 12
    assert 0 < certain.size <= sent.size
    if max(mask_size) <= max(frame_size):
        assert np.array_equal(sent, labels)
    else:
        assert sent.shape == frame_size and set(sent.ravel()) <= set(labels.ravel())


def test_a_large_frame_is_made_smaller_and_its_labels_are_not_blended() -> None:
    labels = np.where(np.indices((1500, 3000)).sum(0) % 2 == 0, 1, 9).astype(np.uint8)
    message = frame_message(
        Frame(np.zeros((1500, 3000, 3), np.uint8)), Masks(labels, labels, labels), {}
    )
    header, image, sent, confidence = unpack(message)
    assert image.shape == (MAX_SIDE // 2, MAX_SIDE, 3) and sent.shape == image.shape[:2]
    assert (
        set(np.unique(sent)) <= {1, 9}
        and confidence.size == 0
        and header["confidence"][:2] == [0, 0]
    )


def test_rgb_frames_keep_their_colours() -> None:
    empty = np.zeros((32, 32), np.uint8)
    frame = Frame(np.full((32, 32, 3), (250, 0, 0), np.uint8), channels="rgb")
    _, image, _, _ = unpack(frame_message(frame, Masks(empty, empty, empty), {}))
    assert image[16, 16, 2] > 230 and image[16, 16, 0] < 20


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ('{"do": "ack"}', Command("ack")),
        ('{"do": "seek", "value": 12}', Command("seek", 12)),
        ('{"do": "step", "value": -1}', Command("step", -1)),
        ('{"do": "pause", "value": 0}', Command("pause")),
        ('{"do": "watch", "value": 1}', Command("watch", 1)),
        ('{"do": "watch", "value": 2}', None),
        ('{"do": "seek", "value": -1}', None),
        ('{"do": "seek", "value": 1.5}', None),
        ('{"do": "seek", "value": true}', None),
        ('{"do": "rm"}', None),
        ('{"do": ["ack"]}', None),
        ("[" * 1000, None),
        ('{"do": "ack", "value": ' + 2000 * "1" + "}", None),
    ],
)
def test_commands(text: str, command: Command | None) -> None:
    assert parse_command(text) == command


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
actions = st.sampled_from(["ack", "watch", "pause", "play", "step", "seek", "quit"])


@given(
    st.text()
    | json_values.map(json.dumps)
    | st.fixed_dictionaries({"do": actions | json_values, "value": json_values}).map(json.dumps)
)
def test_whatever_comes_is_a_command_in_bounds_or_none(text: str) -> None:
    command = parse_command(text)
    assert command is None or abs(command.value) <= 2**53
