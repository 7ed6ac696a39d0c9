"""Compressed images: measured before they are decoded, whole or refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from deeplab_rt.camera.encodings import decode_compressed
from deeplab_rt.errors import FrameError

FORMATS = {
    ".jpg": 3,
    ".png": 0,
    ".bmp": 0,
    ".webp": 6,
    ".tiff": 0,
    ".ppm": 0,
    ".gif": 80,
}  # its palette is coarse


@pytest.mark.parametrize("extension", FORMATS)
def test_every_format_is_measured_before_it_is_decoded(
    extension: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, 32:] = (10, 200, 90)
    try:
        data = cv2.imencode(extension, picture)[1].tobytes()
    except cv2.error:
        pytest.skip(f"this OpenCV does not write {extension}")
    image, _ = decode_compressed(SimpleNamespace(data=data, format=""))
    away = (slice(None), [8, 56])
    assert np.abs(image[away].astype(int) - picture[away]).max() <= FORMATS[extension]

    def decoded(*arguments: Any) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(cv2, "imdecode", decoded)
    with pytest.raises(FrameError, match="image of 64x48 .*expected 1 to 3071 pixels"):
        decode_compressed(SimpleNamespace(data=data, format=""), max_pixels=3071)


@pytest.mark.parametrize("extension", [".bmp", ".webp", ".tiff", ".ppm", ".gif"])
def test_other_formats_cut_off_anywhere(extension: str, capfd: pytest.CaptureFixture[str]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    try:
        data = cv2.imencode(extension, picture)[1].tobytes()
    except cv2.error:
        pytest.skip(f"this OpenCV does not write {extension}")
    whole = decode_compressed(SimpleNamespace(data=data, format=""))[0]
    for length in range(len(data)):
        try:
            image, _ = decode_compressed(SimpleNamespace(data=data[:length], format=""))
        except FrameError:
            continue
        # The end of a TIFF and padding hold no pixels.
        assert np.array_equal(image, whole), length


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("restart", [0, 4])
def test_jpeg_cut_inside_its_scan_though_an_end_marker_follows(
    progressive: int, restart: int, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_RST_INTERVAL, restart]

    def encoded(picture: np.ndarray) -> bytes:
        return cv2.imencode(".jpg", picture, options)[1].tobytes()

    detailed = [encoded(noise), encoded(cv2.GaussianBlur(noise, (0, 0), 5))]
    for data in (*detailed, encoded(np.full((120, 160, 3), 90, np.uint8))):
        assert decode_compressed(SimpleNamespace(data=data, format=""))[0].shape == (120, 160, 3)
    assert capfd.readouterr().err == ""
    for data in detailed:
        for share in (0.5, 0.8, 0.95):
            cut = data[: int(len(data) * share)] + b"\xff\xd9"
            with pytest.raises(FrameError, match="cut off"):
                decode_compressed(SimpleNamespace(data=cut, format=""))


def test_jpeg_that_another_one_interrupts() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = cv2.imencode(".jpg", picture)[1].tobytes()
    with pytest.raises(FrameError, match="cut off"):
        decode_compressed(SimpleNamespace(data=data[: len(data) // 2] + data, format=""))


def test_webp_bomb_is_not_decoded() -> None:
    data = cv2.imencode(".webp", np.zeros((16, 16, 3), np.uint8), [cv2.IMWRITE_WEBP_QUALITY, 101])
    head = bytearray(data[1].tobytes())
    assert head[12:16] == b"VP8L"
    head[21:25] = (
        16383 | 16383 << 14 | int.from_bytes(head[21:25], "little") & 0xF0000000
    ).to_bytes(4, "little")
    with pytest.raises(FrameError, match="16384x16384"):
        decode_compressed(SimpleNamespace(data=bytes(head), format=""))
