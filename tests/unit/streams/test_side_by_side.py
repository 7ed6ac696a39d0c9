"""Frames found again by index, and the image of a frame beside its overlay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from deeplab_rt.errors import StreamError
from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.streams.folder import ImageFolder
from deeplab_rt.streams.side_by_side import SideBySide, revisit


class Opener:
    """Opens a folder of four pictures, of the greys 0, 10, 20, 30, and counts how often."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.times = 0
        for index in range(4):
            cv2.imwrite(str(folder / f"{index}.png"), np.full((8, 8, 3), 10 * index, np.uint8))

    def __call__(self) -> ImageFolder:
        self.times += 1
        return ImageFolder(self.folder)


@pytest.mark.parametrize(("kept", "times"), [(400_000_000, 2), (0, 3)])
def test_frames_are_found_again(tmp_path: Path, kept: int, times: int) -> None:
    opener = Opener(tmp_path)
    # It begins anew twice; frame 2 was passed over the first time, so one more look is needed.
    wanted = [0, 1, 3, 0, 2, 3, 1]
    frames = list(revisit(opener, wanted, kept))
    assert [frame.index for frame in frames] == wanted
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [10 * index for index in wanted]
    assert opener.times == times


def test_a_frame_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StreamError, match="frame 9 is not there any more"):
        list(revisit(Opener(tmp_path), [0, 9]))


def test_frame_on_the_left_overlay_on_the_right(
    painted: tuple[np.ndarray, np.ndarray], camvid11: LabelSet, tmp_path: Path
) -> None:
    image, labels = painted
    masks = Masks(labels, camvid11.drivable_lut[labels], camvid11.objects_lut[labels])
    video = SideBySide(tmp_path / "video.mp4", camvid11)
    gray = np.full_like(image, 90)
    both = video.compose(Frame(gray, 0, 0), masks)
    assert both.shape == (96, 256, 3)
    assert np.array_equal(both[:, :128], gray)
    assert np.abs(both[:, 128:].astype(int) - (gray.astype(int) + image) / 2).max() <= 1
    rgb = replace(Frame(image[..., ::-1].copy(), 0, 0), channels="rgb")
    assert np.array_equal(video.compose(rgb, masks), video.compose(Frame(image, 0, 0), masks))
    wide = np.zeros((540, 1920, 3), np.uint8)
    assert video.compose(Frame(wide, 0, 0), masks).shape == (270, 1920, 3)
    video.caption = "30 masks/s"
    captioned = video.compose(Frame(gray, 0, 0), masks)
    assert np.array_equal(captioned[:, :128], both[:, :128])
    assert not np.array_equal(captioned[:24, 128:], both[:24, 128:])
