"""16 bits to 8: full range, fixed ranges, percentiles."""

from __future__ import annotations

import numpy as np
import pytest

from deeplab_rt.camera.image_range import ImageRange


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_ten_bit_camera_uses_all_eight_bits(order: str) -> None:
    samples = np.array([[0, 256, 1023, 5000]], order)
    assert ImageRange.parse("0,1023").to_8_bits(samples).tolist() == [[0, 64, 255, 255]]
    assert ImageRange.parse("").to_8_bits(samples).tolist() == [[0, 1, 4, 19]]
    assert ImageRange.parse("256, 1023").to_8_bits(samples).tolist() == [[0, 0, 255, 255]]


def test_percentiles_follow_the_light() -> None:
    dark = np.linspace(100, 300, 10_000).astype("<u2").reshape(100, 100)
    range_ = ImageRange.parse("1%,99%")
    for image in (dark, dark * 50):
        shown = range_.to_8_bits(image)
        assert (shown.min(), shown.max()) == (0, 255)
        assert abs(float(np.median(shown)) - 127.5) < 4
    assert range_.to_8_bits(np.full((4, 4), 500, "<u2")).dtype == np.uint8  # no division by zero


@pytest.mark.parametrize("text", ["1", "5,1", "0,70000", "1%,99", "-1,5", "1%,101%", "a,b", "7,7"])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ValueError, match="is not a range; expected LOW,HIGH"):
        ImageRange.parse(text)
