"""Augmentation for roads: geometry in one warp, then light, weather and camera.

Everything draws from the generator it is given, so that a sample is a function of its seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from deeplab_rt.training.data import IGNORE

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class AugmentOptions:
    """How far samples stray.

    Args:
        crops: Heights and widths of the samples; each step draws one of them, so that the network
            sees frames of several aspects.
        frame: Height and width whose product is the network's pixel budget: scale 1 is a frame
            resized to so many pixels at its own aspect.
        scale: Least and greatest scale relative to that, drawn log-uniformly.
        cover: Least share of the sample's sides that the image has to cover: what lies outside of
            it teaches nothing. The scale is raised for it.
        rotation: Greatest rotation in degrees.
        stretch: Greatest relative change of the aspect ratio.
        squeeze: Share of the samples that are squeezed some way towards the aspect of ``frame``,
            as by a user who fixes the input's size.
        photometric: Probability of each group of photometric changes.
        night: Probability of a dark, noisy sample.
    """

    crops: tuple[tuple[int, int], ...] = ((384, 512),)
    frame: tuple[int, int] = (480, 640)
    scale: tuple[float, float] = (0.5, 2.0)
    cover: float = 0.0
    rotation: float = 3.0
    stretch: float = 0.1
    squeeze: float = 0.0
    photometric: float = 0.5
    night: float = 0.0


def warp(
    image: Bytes,
    groups: Bytes,
    options: AugmentOptions,
    rng: np.random.Generator,
    focus: tuple[int, int] | None = None,
    crop: tuple[int, int] | None = None,
) -> tuple[Bytes, Bytes]:
    """Scale, stretch, rotate, flip and crop, in one resampling.

    Args:
        image: uint8 [H, W, 3] RGB.
        groups: uint8 [H, W].
        focus: A pixel (y, x) that the crop should hold; None crops anywhere.
        crop: Height and width of the sample; None takes the first of the options'.

    Returns:
        The crop of both. Outside of the image the pixels are grey and the groups IGNORE.
    """
    height, width = groups.shape
    crop_h, crop_w = crop or options.crops[0]
    budget = options.frame[0] * options.frame[1]
    aspect = width / height
    if rng.random() < options.squeeze:
        aspect *= (options.frame[1] / options.frame[0] / aspect) ** rng.uniform(0, 1)
    frame_w, frame_h = np.sqrt(budget * aspect), np.sqrt(budget / aspect)
    scale = float(np.exp(rng.uniform(np.log(options.scale[0]), np.log(options.scale[1]))))
    scale = max(scale, options.cover * max(crop_w / frame_w, crop_h / frame_h))
    stretch = 1 + rng.uniform(-options.stretch, options.stretch)
    sx = frame_w / width * scale * stretch
    sy = frame_h / height * scale / stretch
    # Where the crop's centre lies in the image: anywhere that keeps the crop inside, if it fits.
    half_h, half_w = crop_h / sy / 2, crop_w / sx / 2
    if focus is None:
        cy = rng.uniform(0, height)
        cx = rng.uniform(0, width)
    else:
        cy = focus[0] + rng.uniform(-0.7, 0.7) * half_h
        cx = focus[1] + rng.uniform(-0.7, 0.7) * half_w
    cy = height / 2 if 2 * half_h >= height else float(np.clip(cy, half_h, height - half_h))
    cx = width / 2 if 2 * half_w >= width else float(np.clip(cx, half_w, width - half_w))
    angle = np.deg2rad(rng.uniform(-options.rotation, options.rotation))
    if rng.random() < 0.5:
        sx = -sx
    cos, sin = np.cos(angle), np.sin(angle)
    # Pixel centres are at +0.5: out = R S (in + 0.5 - c) + crop / 2 - 0.5.
    linear = np.array([[cos * sx, -sin * sy], [sin * sx, cos * sy]])
    shift = np.array([crop_w / 2 - 0.5, crop_h / 2 - 0.5]) - linear @ np.array([cx - 0.5, cy - 0.5])
    matrix = np.hstack([linear, shift[:, None]])
    size = (crop_w, crop_h)
    out = cv2.warpAffine(
        image, matrix, size, flags=cv2.INTER_LINEAR, borderValue=(127.0, 127.0, 127.0)
    )
    out_groups = cv2.warpAffine(
        groups, matrix, size, flags=cv2.INTER_NEAREST, borderValue=(float(IGNORE),)
    )
    return out.astype(np.uint8, copy=False), out_groups.astype(np.uint8, copy=False)


def darken(image: Bytes, rng: np.random.Generator) -> Bytes:
    """Night: light falls off by a power, lamps stay, colours shift. uint8 [H, W, 3] in and out."""
    ramp = np.arange(256, dtype=np.float32) / 255
    curve = ramp ** rng.uniform(1.3, 2.6) * rng.uniform(0.4, 0.9) + rng.uniform(0, 0.04)
    curve = np.where(ramp > 0.97, np.maximum(curve, ramp), curve)
    table = np.clip(curve[:, None] * rng.uniform(0.8, 1.15, 3) * 255, 0, 255).astype(np.uint8)
    return cv2.LUT(image, table.reshape(1, 256, 3)).astype(np.uint8, copy=False)


def photometric(image: Bytes, rng: np.random.Generator, probability: float) -> Bytes:
    """Light, contrast, colour, haze, shadow, blur, noise and JPEG, each group with the given
    probability. uint8 [H, W, 3] in and out."""
    height, width = image.shape[:2]

    def chance(factor: float = 1.0) -> bool:
        return bool(rng.random() < probability * factor)

    if chance(1.6):  # exposure, contrast, white balance and gamma as one table per channel
        ramp = np.arange(256, dtype=np.float32) / 255
        gamma = np.exp(rng.uniform(-0.4, 0.4))
        contrast, light = rng.uniform(0.6, 1.4), rng.uniform(-0.15, 0.15)
        balance = rng.uniform(0.88, 1.12, 3)
        curve = (ramp**gamma - 0.5) * contrast + 0.5 + light
        table = np.clip(curve[:, None] * balance * 255, 0, 255).astype(np.uint8)
        image = cv2.LUT(image, table.reshape(1, 256, 3)).astype(np.uint8, copy=False)
    if chance(0.6):  # saturation
        grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        keep = rng.uniform(0.0, 1.5)
        image = cv2.addWeighted(image, keep, grey, 1 - keep, 0).astype(np.uint8, copy=False)
    if chance(0.2):  # haze: the image fades towards a light grey, more at the top
        haze = rng.uniform(0.1, 0.5) * np.linspace(1, 0.3, height, dtype=np.float32)
        haze = haze[:, None, None]
        image = (image * (1 - haze) + rng.uniform(150, 230) * haze).astype(np.uint8)
    if chance(0.3):  # a cast shadow
        points = rng.uniform([-0.2, 0.2], [1.2, 1.2], (4, 2)) * [width, height]
        shade = np.ones((height, width), np.float32)
        cv2.fillConvexPoly(
            shade, cv2.convexHull(points.astype(np.int32)), float(rng.uniform(0.4, 0.8))
        )
        image = (image * cv2.blur(shade, (15, 15))[..., None]).astype(np.uint8)
    if chance(0.4):
        sigma = rng.uniform(0.3, 1.5)
        image = cv2.GaussianBlur(image, (0, 0), sigma).astype(np.uint8, copy=False)
    if chance(0.4):
        # Grain at half the cost of a normal draw per pixel: a small tile, placed at random.
        tile = rng.normal(0, rng.uniform(2, 12), (96, 128, 3)).astype(np.float32)
        grain = np.tile(tile, (height // 96 + 1, width // 128 + 1, 1))[:height, :width]
        image = np.clip(image + grain, 0, 255).astype(np.uint8)
    if chance(0.4):
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))]
        decoded = cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)
        assert decoded is not None
        image = decoded.astype(np.uint8, copy=False)
    return image
