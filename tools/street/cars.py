"""Cars, from their ends and their sides."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from tools.street.textures import ID, Color, Texture, cloud, plain

CARS: tuple[Color, ...] = (
    (38, 36, 34),
    (180, 182, 184),
    (216, 218, 220),
    (120, 124, 126),
    (96, 54, 34),
    (34, 30, 130),
    (78, 84, 70),
)


def car_end(rng: np.random.Generator, paint: Color, scale: int, tall: float, rear: bool) -> Texture:
    """A car from behind or from ahead, 1.8 m wide."""
    height, width = round(tall * scale), round(1.8 * scale)

    def at(points: Sequence[tuple[float, float]]) -> np.ndarray:
        scaled = np.array(points) * [width, height]
        return np.asarray(scaled.round(), np.int32)

    body = at(
        [
            (0.19, 0.0),
            (0.81, 0.0),
            (0.93, 0.42),
            (1, 0.55),
            (1, 0.86),
            (0, 0.86),
            (0, 0.55),
            (0.07, 0.42),
        ]
    )
    alpha = np.zeros((height, width), np.float32)
    cv2.fillPoly(alpha, [body], 1.0, cv2.LINE_AA)
    picture = plain(height, width, paint)
    picture *= np.linspace(1.25, 0.7, height, dtype=np.float32)[:, None, None]
    for left in (0.05, 0.78):
        tyre = at([(left, 0.7), (left + 0.17, 0.7), (left + 0.17, 1), (left, 1)])
        cv2.fillPoly(alpha, [tyre], 1.0)
        cv2.rectangle(picture, tyre[0].tolist(), tyre[2].tolist(), (22, 22, 24), -1)
    picture[round(0.74 * height) : round(0.86 * height)] *= 0.55
    glass = at([(0.22, 0.06), (0.78, 0.06), (0.87, 0.40), (0.13, 0.40)])
    cv2.fillPoly(picture, [glass], (58, 52, 46), cv2.LINE_AA)
    cv2.fillPoly(
        picture,
        [at([(0.25, 0.08), (0.5, 0.08), (0.34, 0.38), (0.16, 0.38)])],
        (104, 98, 90),
        cv2.LINE_AA,
    )
    lamp: Color = (30, 26, 170) if rear else (215, 225, 230)
    for left in (0.03, 0.80):
        corners = at([(left, 0.50), (left + 0.17, 0.60)])
        cv2.rectangle(picture, corners[0].tolist(), corners[1].tolist(), lamp, -1)
    plate = at([(0.36, 0.64), (0.64, 0.71)])
    cv2.rectangle(
        picture,
        plate[0].tolist(),
        plate[1].tolist(),
        (120, 200, 210) if rear else (220, 222, 222),
        -1,
    )
    if not rear:
        grille = at([(0.28, 0.5), (0.72, 0.59)])
        cv2.rectangle(picture, grille[0].tolist(), grille[1].tolist(), (30, 30, 32), -1)
    picture *= 1 + 0.05 * cloud(rng, height, width, scale // 2)[..., None]
    return Texture(picture, ID["vehicle"], alpha)


def car_side(rng: np.random.Generator, paint: Color, scale: int, tall: float, van: bool) -> Texture:
    """A car from its side, 4.3 m long, its rear to the left."""
    height, width = round(tall * scale), round(4.3 * scale)

    def at(points: Sequence[tuple[float, float]]) -> np.ndarray:
        scaled = np.array(points) * [width, height]
        return np.asarray(scaled.round(), np.int32)

    if van:
        outline = [
            (0.0, 0.05),
            (0.02, 0.0),
            (0.72, 0.0),
            (0.85, 0.4),
            (1, 0.5),
            (1, 0.84),
            (0, 0.84),
        ]
        panes = [[(0.58, 0.08), (0.71, 0.08), (0.81, 0.4), (0.58, 0.4)]]
        for left, right in ((0.06, 0.29), (0.32, 0.55)):  # a minibus
            panes.append([(left, 0.08), (right, 0.08), (right, 0.4), (left, 0.4)])
    else:
        outline = [
            (0, 0.42),
            (0.05, 0.38),
            (0.17, 0.02),
            (0.24, 0),
            (0.52, 0),
            (0.6, 0.04),
            (0.73, 0.40),
        ]
        outline += [(0.96, 0.5), (1, 0.6), (1, 0.84), (0, 0.84)]
        panes = [
            [(0.20, 0.08), (0.38, 0.07), (0.38, 0.38), (0.13, 0.38)],
            [(0.40, 0.07), (0.52, 0.07), (0.66, 0.38), (0.40, 0.38)],
        ]
    alpha = np.zeros((height, width), np.float32)
    cv2.fillPoly(alpha, [at(outline)], 1.0, cv2.LINE_AA)
    picture = plain(height, width, paint)
    picture *= np.linspace(1.2, 0.6, height, dtype=np.float32)[:, None, None]
    for pane in panes:
        cv2.fillPoly(picture, [at(pane)], (56, 50, 44), cv2.LINE_AA)
    door = at([(0.39, 0.4), (0.39, 0.8)])
    cv2.line(picture, door[0].tolist(), door[1].tolist(), (np.array(paint) * 0.5).tolist(), 1)
    picture[round(0.76 * height) :] *= 0.5
    for middle in (0.19, 0.80):
        centre = at([(middle, 0.0)])[0]
        centre[1] = height - round(0.31 * scale)
        for radius, color in ((0.31, (24, 24, 26)), (0.19, (140, 142, 144)), (0.07, (60, 60, 62))):
            cv2.circle(picture, centre.tolist(), round(radius * scale), color, -1, cv2.LINE_AA)
        cv2.circle(alpha, centre.tolist(), round(0.31 * scale), 1.0, -1, cv2.LINE_AA)
    picture *= 1 + 0.05 * cloud(rng, height, width, scale // 2)[..., None]
    return Texture(picture, ID["vehicle"], alpha)
