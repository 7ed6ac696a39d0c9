"""Walkers and cyclists, put together from rounded, shaded parts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from tools.street.textures import ID, Color, Texture, cloud

Points = list[tuple[float, float]]
"""Metres: x from the left edge, y down from the upper edge of a rectangle 1 m wide and 1.8 m high."""

COATS: tuple[Color, ...] = (
    (44, 34, 30),  # navy
    (30, 30, 32),  # black
    (92, 90, 88),  # grey
    (38, 34, 108),  # dark red
    (54, 66, 84),  # brown
    (96, 62, 40),  # blue
)
JACKET: Color = (96, 170, 190)  # of cyclists, who want to be seen
TROUSERS: tuple[Color, ...] = ((84, 58, 40), (36, 34, 34), (70, 68, 66))  # denim ...
HAIR: tuple[Color, ...] = ((24, 26, 30), (36, 52, 74), (84, 120, 150))
SHOES: Color = (32, 32, 36)
METAL: Color = (40, 40, 44)


@dataclass(frozen=True)
class Clothes:
    """Colours of one person."""

    coat: Color
    trousers: Color
    skin: Color
    hair: Color

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Clothes:
        """Choose them by chance."""
        skin = np.array([128, 156, 204]) * rng.uniform(0.4, 1.0)
        return cls(
            COATS[rng.integers(len(COATS))],
            TROUSERS[rng.integers(len(TROUSERS))],
            skin.tolist(),
            HAIR[rng.integers(len(HAIR))],
        )


class _Figure:
    """Parts laid over each other, each shaded as if it were round and lit from the upper left."""

    def __init__(self, scale: int) -> None:
        self._scale = scale
        self._bgr = np.zeros((round(1.8 * scale), scale, 3), np.float32)
        self._alpha = np.zeros(self._bgr.shape[:2], np.float32)

    def limb(self, points: Points, thick: float, color: Color) -> None:
        """A bent rod through some points, its thickness in metres."""
        mask = np.zeros_like(self._alpha)
        texels = (np.array(points) * self._scale).round().astype(np.int32)
        cv2.polylines(mask, [texels], False, 1.0, max(1, round(thick * self._scale)), cv2.LINE_AA)
        self._lay(mask, thick, color)

    def shape(self, points: Points, thick: float, color: Color) -> None:
        """A polygon whose edges are as round as a rod of that thickness."""
        mask = np.zeros_like(self._alpha)
        texels = (np.array(points) * self._scale).round().astype(np.int32)
        cv2.fillPoly(mask, [texels], 1.0, cv2.LINE_AA)
        self._lay(mask, thick, color)

    def ellipse(self, middle: tuple[float, float], axes: tuple[float, float], color: Color) -> None:
        """An upright ellipse by its half axes in metres."""
        self.shape(_oval(middle, axes), 2 * min(axes), color)

    def wheel(self, middle: tuple[float, float], axes: tuple[float, float]) -> None:
        """A tyre, seen at an angle."""
        self.limb(_oval(middle, axes), 0.055, (26, 26, 28))

    def _lay(self, mask: np.ndarray, thick: float, color: Color) -> None:
        depth = cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
        height = np.sqrt(np.clip(2 * depth / max(thick * self._scale, 1), 0, 1))
        slope = cv2.Sobel(cv2.GaussianBlur(height, (0, 0), 0.02 * self._scale), -1, 1, 0)
        shade = np.clip(0.62 + 0.42 * height + 0.25 * slope, 0.35, 1.35)[..., None]
        cover = mask[..., None]
        self._bgr = self._bgr * (1 - cover) + shade * np.array(color, np.float32) * cover
        self._alpha = np.maximum(self._alpha, mask)

    def texture(self, rng: np.random.Generator, label: int) -> Texture:
        """The figure, its cloth a little creased."""
        height, width = self._alpha.shape
        creases = 1 + 0.07 * cloud(rng, height, width, self._scale // 6)[..., None]
        light = np.linspace(1.12, 0.88, height, dtype=np.float32)[:, None, None]
        alpha = cv2.GaussianBlur(self._alpha, (3, 3), 0)
        return Texture(self._bgr * creases * light, label, alpha)


def _oval(middle: tuple[float, float], axes: tuple[float, float]) -> Points:
    angles = np.linspace(0, 2 * np.pi, 40)
    points = np.stack([np.cos(angles), np.sin(angles)], 1) * axes + middle
    return [(float(x), float(y)) for x, y in points]


def _trunk(figure: _Figure, clothes: Clothes, top: float, hem: float, build: float) -> None:
    """Shoulders, coat down to its hem, neck and head; ``top`` is where the head begins."""
    wide = 0.20 * build
    shoulder, waist = top + 0.30, 0.5 * (top + 0.30 + hem) + 0.04
    left: Points = [(-0.07, shoulder - 0.05), (-wide, shoulder + 0.03), (-0.80 * wide, waist)]
    left += [(-0.86 * wide, hem)]
    right: Points = [(-x, y) for x, y in reversed(left)]
    figure.limb([(0.5, top + 0.18), (0.5, shoulder)], 0.11, clothes.skin)
    figure.shape([(0.5 + x, y) for x, y in left + right], 0.30, clothes.coat)


def _head(figure: _Figure, clothes: Clothes, top: float, away: bool) -> None:
    figure.ellipse((0.5, top + 0.135), (0.085, 0.125), clothes.skin)
    deep = 0.115 if away else 0.06  # seen from behind a head is mostly hair
    figure.ellipse((0.5, top + deep), (0.092, deep), clothes.hair)


def person(rng: np.random.Generator, scale: int, phases: int = 6) -> list[Texture]:
    """One walker, 1 m wide and 1.8 m high, in as many phases of a step."""
    clothes, build, away = Clothes.draw(rng), rng.uniform(0.92, 1.12), bool(rng.random() < 0.5)
    hem = float(rng.choice([0.86, 0.92, 1.08]))
    seed = int(rng.integers(1 << 30))
    textures = []
    for phase in range(phases):
        stride = float(np.sin(2 * np.pi * phase / phases))
        figure = _Figure(scale)
        for side in (-1, 1):
            _leg(figure, clothes, side, stride * side)
        _trunk(figure, clothes, 0.02, hem, build)
        for side in (-1, 1):
            swing, shoulder = 0.07 * stride * side, 0.5 + 0.185 * build * side
            elbow = (shoulder + 0.05 * side, 0.64)
            hand = (shoulder + 0.04 * side - swing, 0.88)
            figure.limb([(shoulder, 0.37), elbow, hand], 0.09, clothes.coat)
            figure.ellipse((hand[0], 0.91), (0.04, 0.05), clothes.skin)
        _head(figure, clothes, 0.02, away)
        textures.append(figure.texture(np.random.default_rng(seed), ID["pedestrian"]))
    return textures


def _leg(figure: _Figure, clothes: Clothes, side: int, forward: float) -> None:
    hip, knee = 0.5 + 0.085 * side, 0.5 + 0.09 * side + 0.06 * forward
    foot = 0.5 + 0.09 * side + 0.11 * forward
    lift = 0.05 * max(0.0, -forward)
    figure.limb([(hip, 0.88), (knee, 1.30)], 0.165, clothes.trousers)
    figure.limb([(knee, 1.30), (foot, 1.70 - lift)], 0.125, clothes.trousers)
    figure.limb([(foot - 0.01, 1.745 - lift), (foot + 0.03 * side, 1.755 - lift)], 0.085, SHOES)


def cyclist(rng: np.random.Generator, scale: int) -> Texture:
    """Somebody on a bicycle, 1 m wide and 1.8 m high, seen from behind and a little from the right."""
    clothes = replace(Clothes.draw(rng), coat=JACKET, trousers=(70, 68, 66))
    figure = _Figure(scale)
    rear, front, head = (0.30, 1.44), (0.72, 1.39), (0.70, 1.0)
    figure.wheel(front, (0.228, 0.31))
    figure.limb([front, head, (0.70, 0.84)], 0.045, METAL)
    figure.limb([(0.46, 0.84), (0.92, 0.81)], 0.04, METAL)  # handlebars
    figure.limb([rear, (0.40, 1.44), head, (0.33, 1.05), (0.40, 1.44)], 0.045, (60, 40, 150))
    figure.wheel(rear, (0.24, 0.33))
    for side, down in ((1, 0.10), (-1, -0.06)):  # one foot down, one up
        hip, knee, foot = 0.35 + 0.09 * side, 0.40 + 0.12 * side, 0.38 + 0.12 * side
        figure.limb([(hip, 0.95), (knee, 1.17 + down)], 0.16, clothes.trousers)
        figure.limb([(knee, 1.17 + down), (foot, 1.46 + down)], 0.115, clothes.trousers)
        figure.limb([(foot, 1.52 + down), (foot + 0.04, 1.53 + down)], 0.09, SHOES)
    figure.limb([(0.27, 1.0), (0.40, 1.0)], 0.07, (24, 24, 26))  # saddle
    back: Points = [(0.29, 0.36), (0.44, 0.31), (0.57, 0.31), (0.71, 0.37)]
    back += [(0.52, 0.75), (0.51, 0.98), (0.19, 0.98), (0.18, 0.75)]
    figure.shape(back, 0.30, clothes.coat)
    for side in (-1, 1):
        elbow, hand = (0.51 + 0.27 * side, 0.62), (0.69 + 0.22 * side, 0.81)
        figure.limb([(0.49 + 0.20 * side, 0.40), elbow, hand], 0.10, clothes.coat)
    figure.limb([(0.52, 0.24), (0.52, 0.32)], 0.11, clothes.skin)
    figure.ellipse((0.52, 0.155), (0.085, 0.12), clothes.skin)
    figure.ellipse((0.52, 0.13), (0.09, 0.10), clothes.hair)
    figure.ellipse((0.52, 0.09), (0.115, 0.085), (60, 60, 64))  # helmet
    return figure.texture(rng, ID["bicyclist"])
