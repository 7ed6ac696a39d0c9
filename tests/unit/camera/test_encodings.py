"""ROS images to arrays and back: every encoding against OpenCV, and fields that do not fit."""

from __future__ import annotations

from array import array
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_rt.camera.encodings import (
    ENCODINGS,
    check_message,
    decode_compressed,
    decode_image,
    decode_message,
    fill_image,
)
from deeplab_rt.errors import FrameError

PATTERNS = {  # which colour (0 blue, 1 green, 2 red) lies at [row % 2][column % 2]
    "bayer_rggb8": ((2, 1), (1, 0)),
    "bayer_bggr8": ((0, 1), (1, 2)),
    "bayer_gbrg8": ((1, 0), (2, 1)),
    "bayer_grbg8": ((1, 2), (0, 1)),
}


def message(data: Any, height: int, width: int, encoding: str, step: int, big: int = 0) -> Any:
    return SimpleNamespace(
        data=data, height=height, width=width, encoding=encoding, step=step, is_bigendian=big
    )


def pack(rows: np.ndarray, height: int, width: int, encoding: str, padding: int, big: int) -> Any:
    """A message of uint8 rows [N, bytes], each followed by ``padding`` bytes of rubbish."""
    padded = np.full((rows.shape[0], rows.shape[1] + padding), 0xA5, np.uint8)
    padded[:, : rows.shape[1]] = rows
    return message(padded.tobytes(), height, width, encoding, padded.shape[1], big)


def encode(encoding: str, random: np.random.Generator, height: int, width: int, big: int) -> Any:
    """Random rows in an encoding, and what OpenCV makes of them: (rows, picture, channels)."""

    def noise(*shape: int) -> np.ndarray:
        return random.integers(0, 256, shape, np.uint8)

    if encoding in ("bgr8", "8UC3", "rgb8"):
        image = noise(height, width, 3)
        return image.reshape(height, -1), image, "rgb" if encoding == "rgb8" else "bgr"
    if encoding in ("bgra8", "rgba8"):
        image = noise(height, width, 4)
        order = [0, 1, 2] if encoding == "bgra8" else [2, 1, 0]
        return image.reshape(height, -1), image[..., order], "bgr"
    if encoding in ("mono8", "8UC1"):
        image = noise(height, width)
        return image, np.repeat(image[..., None], 3, 2), "bgr"
    order = ">u2" if big else "<u2"
    if encoding in ("mono16", "16UC1"):
        image = random.integers(0, 1 << 16, (height, width)).astype(order)
        gray = np.rint(image / 257).astype(np.uint8)
        return image.view(np.uint8).reshape(height, -1), np.repeat(gray[..., None], 3, 2), "bgr"
    if encoding in ("bgr16", "rgb16"):
        image = random.integers(0, 1 << 16, (height, width, 3)).astype(order)
        rows = image.reshape(height, -1).view(np.uint8)
        return rows, np.rint(image / 257).astype(np.uint8), encoding[:3]
    if encoding in ("yuv422", "uyvy", "yuv422_yuy2", "yuyv"):
        image = noise(height, width, 2)
        uyvy = encoding in ("yuv422", "uyvy")
        code = cv2.COLOR_YUV2BGR_UYVY if uyvy else cv2.COLOR_YUV2BGR_YUYV
        return image.reshape(height, -1), cv2.cvtColor(image, code), "bgr"
    if encoding in ("nv12", "nv21"):
        image = noise(height * 3 // 2, width)
        code = cv2.COLOR_YUV2BGR_NV12 if encoding == "nv12" else cv2.COLOR_YUV2BGR_NV21
        return image, cv2.cvtColor(image, code), "bgr"
    # A picture of one colour: whatever the interpolation, it must come back as it was.
    color = noise(3)
    mosaic = color[np.array(PATTERNS[encoding.replace("16", "8")])]
    rows = np.tile(mosaic, (height // 2, width // 2))
    if encoding.endswith("16"):
        rows = (rows.astype(np.uint16) * 257).astype(order).view(np.uint8).reshape(height, -1)
    return rows, np.broadcast_to(color, (height, width, 3)), "bgr"


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(2, 12),
    width=st.integers(2, 12),
    padding=st.integers(0, 5),
    big=st.integers(0, 1),
    seed=st.integers(0, 1 << 30),
)
def test_every_encoding_against_opencv(
    encoding: str, height: int, width: int, padding: int, big: int, seed: int
) -> None:
    height, width = 2 * height, 2 * width
    random = np.random.default_rng(seed)
    rows, expected, channels = encode(encoding, random, height, width, big)
    image, got = decode_image(pack(rows, height, width, encoding, padding, big))
    assert image.dtype == np.uint8 and image.shape == (height, width, 3)
    assert got == channels
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("encoding", ["bgr8", "rgb8", "8UC3"])
@pytest.mark.parametrize("padding", [0, 7])
def test_three_channels_are_not_copied(encoding: str, padding: int) -> None:
    data = array("B", bytes((12 + padding) * 3))
    image, _ = decode_image(message(data, 3, 4, encoding, 12 + padding))
    data[12 + padding + 3 * 2 + 1] = 77  # row 1, column 2, channel 1
    assert image[1, 2, 1] == 77


@pytest.mark.parametrize("kind", [bytes, bytearray, lambda b: array("B", b), np.frombuffer])
def test_data_of_every_maker(kind: Any) -> None:
    content = bytes(range(12))
    data = kind(content, np.uint8) if kind is np.frombuffer else kind(content)
    image, _ = decode_image(message(data, 2, 2, "bgr8", 6))
    assert image.tobytes() == content


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"encoding": "yuv999"}, "unknown encoding 'yuv999'; known: bgr8"),
        ({"encoding": "x" * 100_000}, r"unknown encoding 'x{56}\.\.\.; known"),
        ({"encoding": b"bgr8"}, "unknown encoding"),
        ({"encoding": ""}, "unknown encoding ''"),
        ({"step": 11}, r"step 11 is smaller than a row of 4 bgr8 pixels \(12 bytes\)"),
        ({"step": 0}, "step 0 is smaller"),
        ({"data": bytes(35)}, "data of 35 bytes is shorter than 3 rows x step 12 = 36"),
        ({"data": b""}, "data of 0 bytes is shorter"),
        ({"data": [0] * 36}, "data is a list, expected a buffer of bytes"),
        ({"step": 2**32 - 1}, "shorter than 3 rows x step 4294967295"),
        ({"height": 2**32 - 1, "width": 2**32 - 1}, "expected 1 to 33554432 pixels"),
        ({"height": 0}, "image of 4x0"),
        ({"width": 0}, "image of 0x3"),
        ({"height": -3}, "expected 1 to"),
        ({"height": 1, "width": 16385, "step": 49155}, "at most 16384 a side"),
        ({"height": 3.0}, "height is 3.0, expected a whole number"),
        ({"encoding": "nv12", "height": 4, "width": 3}, "width 3: expected an even width"),
        ({"encoding": "nv21", "height": 3}, "height 3: expected an even height"),
        ({"encoding": "nv12", "height": 4, "step": 9}, "shorter than 6 rows x step 9 = 54"),
        ({"encoding": "yuyv", "width": 3}, "width 3: expected an even width"),
        ({"encoding": "bayer_rggb8", "height": 2}, "height 2: expected an even height of at least"),
    ],
)
def test_fields_that_do_not_fit(changes: dict[str, Any], text: str) -> None:
    good = {"data": bytes(36), "height": 3, "width": 4, "encoding": "bgr8", "step": 12, "big": 0}
    with pytest.raises(FrameError, match=text) as caught:
        decode_image(message(**{**good, **changes}))
    assert len(str(caught.value)) < 400


def test_bound_on_the_size() -> None:
    image = message(bytes(36), 3, 4, "bgr8", 12)
    assert decode_image(image, max_pixels=12)[0].shape == (3, 4, 3)
    with pytest.raises(FrameError, match="expected 1 to 11 pixels"):
        decode_image(image, max_pixels=11)


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_compressed(extension: str) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, 32:] = (10, 200, 90)
    data = cv2.imencode(extension, picture)[1].tobytes()
    for content in (data, data + bytes(100)):  # some cameras pad
        if extension == ".png" and content is not data:
            continue
        image, channels = decode_compressed(SimpleNamespace(data=content, format="whatever"))
        assert channels == "bgr"
        away = (slice(None), [8, 56])  # from the edge, which JPEG blurs
        tolerance = 3 if extension == ".jpg" else 0
        assert np.abs(image[away].astype(int) - picture[away]).max() <= tolerance


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_compressed_image_cut_off_anywhere(extension: str) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    data = cv2.imencode(extension, picture)[1].tobytes()
    for length in range(len(data) - 1):
        with pytest.raises(FrameError):
            decode_compressed(SimpleNamespace(data=data[:length], format="jpeg"))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", r"\(0 bytes\) is of none of the formats JPEG, PNG"),
        (b"BM" + bytes(100), "of none of the formats JPEG"),
        (bytes(12) + b"\x89PNG\r\n\x1a\n", "of none of the formats JPEG"),  # compressedDepth
        (b"\xff\xd8\xff\xe0" + bytes(200), "cut off or corrupt"),
    ],
)
def test_compressed_rubbish(data: bytes, text: str) -> None:
    with pytest.raises(FrameError, match=text):
        decode_compressed(SimpleNamespace(data=data, format="f" * 10_000))


def test_compressed_bomb_is_not_decoded() -> None:
    data = bytearray(cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    with pytest.raises(FrameError, match="60000x60000"):
        decode_compressed(SimpleNamespace(data=bytes(data), format="png"))


def test_exif_does_not_turn_the_picture() -> None:
    data = cv2.imencode(".jpg", np.zeros((8, 24, 3), np.uint8))[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # turn by 90
    turned = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), 1).shape == (24, 8, 3)
    assert decode_compressed(SimpleNamespace(data=turned, format=""))[0].shape == (8, 24, 3)


@pytest.mark.parametrize(("shape", "encoding"), [((5, 7), "mono8"), ((5, 7, 3), "rgb8")])
def test_fill_image_comes_back(shape: tuple[int, ...], encoding: str) -> None:
    messages = pytest.importorskip("sensor_msgs.msg")
    picture = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    msg = messages.Image()
    fill_image(msg, picture, encoding)
    assert (msg.height, msg.width, msg.step) == (5, 7, 7 if len(shape) == 2 else 21)
    assert isinstance(msg.data, array)
    image, _ = decode_image(msg)
    np.testing.assert_array_equal(image, np.broadcast_to(picture.reshape(5, 7, -1), (5, 7, 3)))


def test_fill_image_takes_a_strided_array() -> None:
    messages = pytest.importorskip("sensor_msgs.msg")
    picture = np.arange(48, dtype=np.uint8).reshape(4, 12)[:, ::2]
    msg = messages.Image()
    fill_image(msg, picture, "mono8")
    assert bytes(msg.data) == picture.tobytes()


def test_message_becomes_a_frame_under_its_header() -> None:
    header = SimpleNamespace(stamp=SimpleNamespace(sec=3, nanosec=7), frame_id="front_optical")
    msg = message(bytes(range(36)), 3, 4, "rgb8", 12)
    msg.header = header
    check_message(msg)
    frame = decode_message(msg, "front")
    assert (frame.stamp_ns, frame.frame_id, frame.camera) == (
        3_000_000_007,
        "front_optical",
        "front",
    )
    assert (frame.channels, frame.size) == ("rgb", (3, 4))
    jpeg = cv2.imencode(".jpg", np.zeros((8, 16, 3), np.uint8))[1].tobytes()
    packed = SimpleNamespace(data=jpeg, format="", header=header)
    check_message(packed)
    assert decode_message(packed).size == (8, 16)
    packed.data = jpeg[:30]
    with pytest.raises(FrameError, match="cut off"):
        check_message(packed)


@pytest.mark.parametrize("encoding", ["uyvy", "yuyv", "yuv422", "yuv422_yuy2"])
@pytest.mark.parametrize(
    ("ycbcr", "rgb"),
    [  # ITU-R BT.601, 8 bits, 75 % colour bars as broadcast engineers know them
        ((180, 128, 128), (191, 191, 191)),
        ((162, 44, 142), (191, 191, 0)),
        ((131, 156, 44), (0, 191, 191)),
        ((112, 72, 58), (0, 191, 0)),
        ((84, 184, 198), (191, 0, 191)),
        ((65, 100, 212), (191, 0, 0)),
        ((35, 212, 114), (0, 0, 191)),
        ((16, 128, 128), (0, 0, 0)),
    ],
)
def test_yuv_colours_are_those_of_the_standard(
    encoding: str, ycbcr: tuple[int, int, int], rgb: tuple[int, int, int]
) -> None:
    y, cb, cr = ycbcr
    pair = (cb, y, cr, y) if encoding in ("uyvy", "yuv422") else (y, cb, y, cr)
    image, channels = decode_image(message(bytes(pair * 4), 2, 4, encoding, 8))
    assert channels == "bgr"
    assert np.abs(image[0, 0, ::-1].astype(int) - rgb).max() <= 2
