"""Video that arrives packet by packet: every frame under its own tag, and nothing before a key frame."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from deeplab_rt.camera.video_packets import VideoPackets, codec_of, is_key_frame
from deeplab_rt.errors import FrameError
from tests.unit.streams.media import number_of, numbered

ENCODERS = {"h264": "libx264", "hevc": "libx265"}


def packets_of(codec: str, count: int, b_frames: int = 0, gop: int = 5) -> list[bytes]:
    """One packet a frame of numbered images, in Annex B, parameter sets in each key frame."""
    encoder: Any = av.CodecContext.create(ENCODERS[codec], "w")
    encoder.width, encoder.height, encoder.pix_fmt = 64, 48, "yuv420p"
    encoder.time_base = Fraction(1, 25)
    encoder.gop_size = gop
    encoder.max_b_frames = b_frames
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "4"}
    if codec == "hevc":
        encoder.options |= {"x265-params": f"log-level=none:keyint={gop}:repeat-headers=1"}
    if b_frames:
        encoder.options = {"preset": "medium", "crf": "4"}
    packets = []
    for index in [*range(count), None]:
        frame = None
        if index is not None:
            frame = av.VideoFrame.from_ndarray(numbered(index), format="bgr24")
            frame.pts = index
        packets += [(packet.pts, bytes(packet)) for packet in encoder.encode(frame)]
    return [data for _, data in packets]


@pytest.mark.parametrize("codec", ENCODERS)
def test_every_packet_gives_its_frame_at_once(codec: str) -> None:
    stream: VideoPackets[int] = VideoPackets()
    for index, data in enumerate(packets_of(codec, 12)):
        ((tag, image),) = stream.decode(data, ENCODERS[codec], index)
        assert tag == index and isinstance(image, np.ndarray)
        assert image.shape == (48, 64, 3) and number_of(image) == index
    assert stream.flush() == []


def test_b_frames_come_later_under_the_tag_of_their_packet() -> None:
    packets = packets_of("h264", 12, b_frames=2, gop=12)
    stream: VideoPackets[int] = VideoPackets()
    ready = [pair for tag, data in enumerate(packets) for pair in stream.decode(data, "h264", tag)]
    ready += stream.flush()
    assert sorted(tag for tag, _ in ready) == list(range(12))
    assert all(isinstance(image, np.ndarray) for _, image in ready)


@pytest.mark.parametrize("codec", ENCODERS)
def test_a_stream_joined_in_the_middle_waits_for_its_key_frame(codec: str) -> None:
    packets = packets_of(codec, 12)
    assert [is_key_frame(data, codec) for data in packets[:6]] == [True, *[False] * 4, True]
    stream: VideoPackets[int] = VideoPackets()
    ready = [p for i in range(2, 12) for p in stream.decode(packets[i], codec, i)]
    assert [tag for tag, _ in ready] == list(range(2, 12))
    for tag, image in ready:
        if tag < 5:
            assert isinstance(image, FrameError) and "waits for its next key frame" in str(image)
        else:
            assert isinstance(image, np.ndarray) and number_of(image) == tag


def test_what_cannot_be_decoded_is_told_and_the_next_key_frame_taken() -> None:
    packets = packets_of("h264", 15)
    packets[6] = packets[6][:5] + bytes(range(200)) * 3
    stream: VideoPackets[int] = VideoPackets()
    ready = dict(pair for i, data in enumerate(packets) for pair in stream.decode(data, "h264", i))
    ready |= dict(stream.flush())
    assert sorted(ready) == list(range(15))
    assert isinstance(ready[6], FrameError)
    for index in (0, 4, 5, 10, 14):
        image = ready[index]
        assert isinstance(image, np.ndarray) and number_of(image) == index


@pytest.mark.parametrize("data", [b"", b"\0\0\1", b"\0\0\1\x65", bytes(range(256)) * 4])
def test_rubbish_is_an_error_of_its_packet(data: bytes) -> None:
    stream: VideoPackets[str] = VideoPackets()
    ready = stream.decode(data, "h264", "a") + stream.flush()
    assert [tag for tag, _ in ready] == ["a"] and isinstance(ready[0][1], FrameError)


def test_names_of_codecs() -> None:
    for name in ("h264", "libx264", "h264_nvenc", "H.264", "avc1", "h264_vaapi;yuv420p;bgr8;bgr8"):
        assert codec_of(name) == "h264"
    for name in ("hevc", "h265", "libx265", "hevc_nvenc", "H.265"):
        assert codec_of(name) == "hevc"
    stream: VideoPackets[int] = VideoPackets()
    ((_, error),) = stream.decode(b"x", "theora" * 50, 0)
    assert isinstance(error, FrameError) and "unknown video codec" in str(error)


def test_a_larger_image_than_is_taken() -> None:
    stream: VideoPackets[int] = VideoPackets(max_pixels=64 * 48 - 1)
    ready = stream.decode(packets_of("h264", 1)[0], "h264", 0) + stream.flush()
    assert isinstance(ready[0][1], FrameError)
