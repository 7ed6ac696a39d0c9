"""Segmenter: any frame in, its masks out."""

from __future__ import annotations

import numpy as np
import pytest

from deeplab_rt import Segmenter
from deeplab_rt.errors import FrameError, LabelError
from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.models import Model


@pytest.fixture(scope="module")
def segmenter(palette_model: Model):  # type: ignore[no-untyped-def]
    with Segmenter(palette_model, backend="cpu", precision="fp32") as segmenter:
        yield segmenter


def test_masks_of_a_painted_frame(
    segmenter: Segmenter, painted: tuple[np.ndarray, np.ndarray], camvid11: LabelSet
) -> None:
    frame, labels = painted
    masks = segmenter.segment(frame)
    # Interpolated logits move a border by less than a cell, so compare away from borders.
    inside = np.zeros(labels.shape, bool)
    inside[4:36, 4:-4] = inside[52:68, 36:60] = inside[76:, 4:-4] = True
    assert np.array_equal(masks.labels[inside], labels[inside])
    assert np.array_equal(masks.drivable, camvid11.drivable_lut[masks.labels])
    assert np.array_equal(masks.objects, camvid11.objects_lut[masks.labels])
    assert masks.confidence is None
    assert set(masks.timings) == {"preprocess", "network", "labels", "total"}


def test_rgb_frame_gives_the_same_masks(
    segmenter: Segmenter, painted: tuple[np.ndarray, np.ndarray]
) -> None:
    frame, _ = painted
    bgr = segmenter.segment(frame)
    rgb = segmenter.segment(np.ascontiguousarray(frame[..., ::-1]), channels="rgb")
    assert np.array_equal(bgr.labels, rgb.labels)


@pytest.mark.parametrize("size", [(96, 128), (480, 640), (101, 77), (1, 1), (7, 900)])
def test_masks_have_the_frames_size(segmenter: Segmenter, size: tuple[int, int]) -> None:
    masks = segmenter.segment(np.zeros((*size, 3), np.uint8))
    assert masks.size == size


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3)),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_bad_frame_is_refused_and_the_next_one_served(
    segmenter: Segmenter, frame: np.ndarray
) -> None:
    with pytest.raises(FrameError, match="expected uint8"):
        segmenter.segment(frame)
    assert segmenter.segment(np.zeros((8, 8, 3), np.uint8)).size == (8, 8)


def test_stream_keeps_order_and_gives_every_frame_once(
    segmenter: Segmenter, camvid11: LabelSet
) -> None:
    ids = [1, 4, 9, 1, 4, 9, 11]
    frames = [np.full((32, 32, 3), camvid11.palette[i][::-1], np.uint8) for i in ids]
    results = list(segmenter.stream(Frame(f, index=i) for i, f in enumerate(frames)))
    assert [frame.index for frame, _ in results] == list(range(len(ids)))
    assert [int(masks.labels[16, 16]) for _, masks in results] == ids


def test_chosen_classes_make_the_masks(
    palette_model: Model, painted: tuple[np.ndarray, np.ndarray], camvid11: LabelSet
) -> None:
    with Segmenter(palette_model, backend="cpu", drivable=["sky"], objects=["road"]) as segmenter:
        masks = segmenter.segment(painted[0])
    assert np.array_equal(masks.drivable == 255, masks.labels == camvid11.index("sky") + 1)
    assert set(np.unique(masks.objects)) == {0, camvid11.index("road") + 1}


def test_unknown_class_names_the_known_ones(palette_model: Model) -> None:
    with pytest.raises(LabelError, match="unknown label 'lane'.*road"):
        Segmenter(palette_model, backend="cpu", drivable=["lane"])


def test_confidence_and_network_size(
    palette_model: Model, painted: tuple[np.ndarray, np.ndarray]
) -> None:
    with Segmenter(palette_model, backend="cpu", confidence=True, mask_size="network") as segmenter:
        masks = segmenter.segment(np.zeros((300, 400, 3), np.uint8))
        upright = segmenter.segment(np.zeros((400, 300, 3), np.uint8))
    assert masks.size == (96, 128)
    assert masks.confidence is not None and masks.confidence.shape == (96, 128)
    assert upright.size == (128, 96), "the network's input follows the frame's shape"
