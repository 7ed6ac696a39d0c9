"""Frames found again by index, and the picture of a frame beside its overlay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deeplab_rt.errors import StreamError
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.streams import side_by_side
from deeplab_rt.streams.base import Frame
from deeplab_rt.streams.side_by_side import SideBySide, revisit
from deeplab_rt.streams.street import StreetSource


class Opener:
    """Opens a street of four frames, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> StreetSource:
        self.times += 1
        return StreetSource((32, 32), frames=4)


@pytest.mark.parametrize(("kept", "times"), [(400_000_000, 2), (0, 3)])
def test_frames_are_found_again(monkeypatch: pytest.MonkeyPatch, kept: int, times: int) -> None:
    monkeypatch.setattr(side_by_side, "_KEPT_BYTES", kept)
    opener = Opener()
    # It begins anew twice; frame 2 was passed over the first time, so one more look is needed.
    wanted = [0, 1, 3, 0, 2, 3, 1]
    frames = list(revisit(opener, wanted))
    assert [frame.index for frame in frames] == wanted
    assert np.array_equal(frames[4].image, StreetSource((32, 32)).render(2)[0])
    assert opener.times == times


def test_a_frame_that_is_not_there_is_named() -> None:
    with pytest.raises(StreamError, match="street: frame 9 is not there any more"):
        list(revisit(Opener(), [0, 9]))


def test_frame_on_the_left_overlay_on_the_right(
    painted: tuple[np.ndarray, np.ndarray], camvid11: LabelSet, tmp_path: Path
) -> None:
    image, labels = painted
    masks = Masks(labels, camvid11.drivable_lut[labels], camvid11.objects_lut[labels])
    video = SideBySide(tmp_path / "video.mp4", camvid11)
    gray = np.full_like(image, 90)
    both = video.picture(Frame(gray, 0, 0), masks)
    assert both.shape == (96, 256, 3)
    assert np.array_equal(both[:, :128], gray)
    assert np.abs(both[:, 128:].astype(int) - (gray.astype(int) + image) / 2).max() <= 1
    rgb = replace(Frame(image[..., ::-1].copy(), 0, 0), channels="rgb")
    assert np.array_equal(video.picture(rgb, masks), video.picture(Frame(image, 0, 0), masks))
    wide = np.zeros((540, 1920, 3), np.uint8)
    assert video.picture(Frame(wide, 0, 0), masks).shape == (270, 1920, 3)
    video.caption = "30 masks/s"
    captioned = video.picture(Frame(gray, 0, 0), masks)
    assert np.array_equal(captioned[:, :128], both[:, :128])
    assert not np.array_equal(captioned[:24, 128:], both[:24, 128:])
