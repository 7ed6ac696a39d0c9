"""What stands at the roadside: fences, trees, lamp posts, traffic signs; and shadows."""

from __future__ import annotations

import cv2
import numpy as np

from tools.street.textures import ID, Texture, cloud, draw_line, plain


def railing(rng: np.random.Generator, length_m: float, scale: int) -> Texture:
    """A low wall with iron railings, 1.5 m high; all of it is fence, as annotators draw it."""
    height, width = round(1.5 * scale), round(length_m * scale)
    alpha = np.zeros((height, width), np.float32)
    picture = plain(height, width, (38, 40, 42))
    bar = max(2, scale // 7)
    alpha[:, ::bar] = 0.9
    alpha[:, 1::bar] = 0.5
    alpha[scale // 10 : scale // 10 + 2] = 1
    wall = round(0.55 * scale)
    alpha[-wall:] = 1
    picture[-wall:] = (
        np.array([104, 118, 130], np.float32) + 7 * cloud(rng, wall, width, 8)[..., None]
    )
    picture[-wall : -wall + 2] = (150, 158, 164)
    return Texture(picture, np.full((height, width), ID["fence"], np.uint8), alpha)


def tree(rng: np.random.Generator, scale: int) -> Texture:
    """A street tree, 6 m wide and 7.5 m high: trunk, boughs, a crown of leaves with holes."""
    height, width = round(7.5 * scale), 6 * scale
    wood = np.zeros((height, width), np.float32)
    root = np.array([width / 2, height])
    fork = root - [rng.normal(0, 0.1) * scale, 2.6 * scale]
    draw_line(wood, root, fork, 0.26 * scale)
    for _ in range(9):
        end = fork + np.array([rng.normal(0, 1.3), -rng.uniform(1.2, 3.6)]) * scale
        draw_line(wood, fork, end, 0.09 * scale)
    y, x = np.mgrid[:height, :width].astype(np.float32) / scale
    crown = 1 - ((x - 3) / 2.75) ** 2 - ((y - 3.0) / 2.75) ** 2
    ragged = crown + 0.33 * cloud(rng, height, width, scale) + 0.14 * cloud(rng, height, width, 4)
    leaves = np.clip((ragged - 0.12) * 9, 0, 1)
    light = 0.85 + 0.25 * (3 - y) / 3 + 0.20 * cloud(rng, height, width, scale, 4)
    light += 0.24 * cloud(rng, height, width, 4)
    hue = np.array([38, 86, 74], np.float32) * rng.uniform(0.75, 1.1, 3).astype(np.float32)
    picture = np.clip(light, 0.25, 1.9)[..., None] * hue
    bark = np.array([52, 62, 74], np.float32) * (1 + 0.15 * cloud(rng, height, width, 4)[..., None])
    picture = np.where(leaves[..., None] > 0.3, picture, bark)
    return Texture(picture, ID["tree"], np.maximum(leaves, wood))


def lamp_post(scale: int) -> Texture:
    """A lamp post, 1.6 m wide and 6 m high, its arm to the right."""
    height, width = 6 * scale, round(1.6 * scale)
    alpha = np.zeros((height, width), np.float32)
    foot = np.array([0.2 * scale, height])
    top = np.array([0.2 * scale, 0.25 * scale])
    draw_line(alpha, foot, top, 0.11 * scale)
    draw_line(alpha, foot, foot - [0, 1.1 * scale], 0.2 * scale)
    draw_line(alpha, top, np.array([1.1, 0.12]) * scale, 0.07 * scale)
    draw_line(
        alpha,
        np.array([1.0 * scale, 0.14 * scale]),
        np.array([1.5 * scale, 0.14 * scale]),
        0.14 * scale,
    )
    side = np.linspace(1.2, 0.6, width, dtype=np.float32)[None, :, None]
    return Texture(plain(height, width, (92, 96, 94)) * side, ID["pole"], alpha)


def traffic_sign(rng: np.random.Generator, scale: int) -> Texture:
    """A round, triangular or square plate on a pole, 0.8 m wide and 3 m high."""
    height, width = 3 * scale, round(0.8 * scale)
    pole, plate = np.zeros((2, height, width), np.float32)
    picture = plain(height, width, (120, 124, 126))
    centre = (width // 2, round(0.42 * scale))
    draw_line(pole, np.array([width / 2, height]), np.array([width / 2, 0.3 * scale]), 0.09 * scale)
    radius = round(0.36 * scale)
    corners = {0: None, 1: 3, 2: 4}[int(rng.integers(3))]
    for size, color in ((1.0, (36, 30, 190)), (0.72, (225, 228, 230))):
        if corners is None:
            cv2.circle(plate, centre, radius, 1.0, -1, cv2.LINE_AA)
            cv2.circle(picture, centre, round(size * radius), color, -1, cv2.LINE_AA)
            continue
        turn = -np.pi / 2 + (np.pi / 4 if corners == 4 else 0)
        angles = turn + 2 * np.pi * np.arange(corners) / corners
        if corners == 4:
            color = (150, 90, 30) if size == 1.0 else (200, 150, 90)
        ring = size * 1.15 * radius * np.stack([np.cos(angles), np.sin(angles)], 1) + centre
        cv2.fillPoly(picture, [ring.round().astype(np.int32)], color, cv2.LINE_AA)
        if size == 1.0:
            cv2.fillPoly(plate, [ring.round().astype(np.int32)], 1.0, cv2.LINE_AA)
    cv2.rectangle(
        picture,
        (centre[0] - scale // 12, centre[1] - scale // 10),
        (centre[0] + scale // 12, centre[1] + scale // 10),
        (45, 45, 45),
        -1,
    )
    labels = np.where(plate >= 0.5, ID["sign"], np.where(pole >= 0.5, ID["pole"], 0))
    return Texture(picture, labels.astype(np.uint8), np.maximum(pole, plate))


def shadow(scale: int = 24) -> Texture:
    """A soft dark spot to lay under things; it has no label of its own."""
    y, x = (np.mgrid[: 2 * scale, : 2 * scale].astype(np.float32) + 0.5) / scale - 1
    alpha = 0.62 * np.clip(1.6 - 1.6 * (x**4 + y**4), 0, 1)
    empty = np.zeros((2 * scale, 2 * scale), np.uint8)
    return Texture(plain(2 * scale, 2 * scale, (26, 24, 22)), empty, alpha)
