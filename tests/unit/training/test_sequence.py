"""Flicker: a moving scene with steady labels has none, labels that change have it."""

from __future__ import annotations

import cv2
import numpy as np

from deeplab_rt.labels import load_label_set
from deeplab_rt.training.sequence import correspondence, measure_flicker


def scene(count: int = 5, speed: int = 3) -> list[np.ndarray]:
    """A textured wall that passes by."""
    rng = np.random.default_rng(0)
    wall = cv2.resize(rng.integers(0, 256, (24, 60, 3), np.uint8), (480, 192))
    return [wall[:, speed * i : speed * i + 256].copy() for i in range(count)]


def test_flow_follows_the_scene() -> None:
    first, second = (cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in scene(2))
    places, certain = correspondence(first, second)
    assert certain.mean() > 0.8
    moved = (places - np.stack(np.meshgrid(np.arange(256), np.arange(192)), 2))[certain]
    assert np.allclose(np.median(moved, 0), (3, 0), atol=0.2)


def test_labels_that_move_with_the_scene_do_not_flicker() -> None:
    labels = load_label_set("camvid11")

    def by_colour(frame: np.ndarray) -> np.ndarray:
        smooth = cv2.GaussianBlur(frame[..., 0], (0, 0), 4)
        return np.where(smooth > 128, 3, 4).astype(np.uint8)

    steady = measure_flicker(scene(), by_colour, labels)
    assert steady.frames == 5
    assert steady.summary()["followed"] > 0.8
    assert steady.summary()["flicker"] < 0.03

    turns = iter((3, 4, 3, 4, 3))
    frames = scene()
    flickering = measure_flicker(
        frames, lambda frame: np.full(frame.shape[:2], next(turns), np.uint8), labels
    )
    assert flickering.summary()["flicker"] == 1.0
    assert flickering.summary()["drivable_flicker"] == 1.0  # road and sidewalk in turns


def test_what_cannot_be_followed_is_not_counted() -> None:
    rng = np.random.default_rng(1)
    noise = [rng.integers(0, 256, (120, 160, 3), np.uint8) for _ in range(3)]
    turns = iter((0, 1, 2))
    labels = load_label_set("camvid11")
    counted = measure_flicker(noise, lambda f: np.full(f.shape[:2], next(turns), np.uint8), labels)
    assert counted.summary()["followed"] < 0.3
