"""Asphalt, pavement, house fronts and sky: what lies behind everything else."""

from __future__ import annotations

import cv2
import numpy as np

from tools.street.textures import ID, Color, Texture, cloud, plain


def asphalt(
    rng: np.random.Generator, length_m: float, width_m: float, scale: int, markings: bool = True
) -> Texture:
    """Road surface: columns run along the road, rows across it from its left edge."""
    height, width = round(width_m * scale), round(length_m * scale)
    tone = 92 + 4 * cloud(rng, height, width, 8 * scale, 8) + 7 * cloud(rng, height, width, 4)
    across = (np.arange(height) + 0.5) / scale
    for lane in (0.25, 0.75):  # tyres polish two tracks in each lane
        for track in (-0.8, 0.8):
            tone -= 5 * np.exp(-(((across - lane * width_m - track) / 0.35) ** 2))[:, None]
    tone -= 14 * np.exp(-((across / 0.3) ** 2))[:, None]  # dirt in the gutters
    tone -= 14 * np.exp(-(((across - width_m) / 0.3) ** 2))[:, None]
    for _ in range(3):  # mended patches
        x, y = rng.integers(0, width - scale), rng.integers(0, height - scale)
        dx, dy = rng.integers(scale, 4 * scale), rng.integers(scale // 2, 2 * scale)
        tone[y : y + dy, x : x + dx] += rng.uniform(-12, 6)
    picture = tone[..., None] * np.array([1.02, 1.0, 0.98], np.float32)
    for _ in range(6):
        steps = rng.normal(0, 0.25 * scale, (14, 2)) + np.array(
            [0.3 * scale * rng.choice([-1, 1]), 0]
        )
        crack = (np.cumsum(steps, 0) + rng.uniform(0, [width, height])).astype(np.int32)
        cv2.polylines(picture, [crack], False, (55, 55, 55), 1, cv2.LINE_AA)
    if markings:
        paint = np.zeros((height, width), np.float32)
        middle, half = height // 2, max(1, round(0.06 * scale))
        for start in np.arange(0.0, length_m, 5.0):
            first, last = round(start * scale), round((start + 2.5) * scale)
            paint[middle - half : middle + half, first:last] = 1
        for edge in (0.35, width_m - 0.35):
            row = round(edge * scale)
            paint[row - half : row + half] = 0.7
        paint *= np.clip(0.75 + 0.25 * cloud(rng, height, width, 16), 0.2, 1)  # worn
        soft = cv2.GaussianBlur(paint, (3, 3), 0)[..., None]
        picture = picture * (1 - soft) + np.array([205, 212, 214], np.float32) * soft
    return Texture(picture, ID["road"])


def pavement(rng: np.random.Generator, length_m: float, width_m: float, scale: int) -> Texture:
    """Slabs with joints; the kerb stone along its first rows."""
    height, width = round(width_m * scale), round(length_m * scale)
    slab = round(0.6 * scale)
    tones = rng.normal(0, 5, (height // slab + 1, width // slab + 1)).astype(np.float32)
    tone = 146 + np.kron(tones, np.ones((slab, slab), np.float32))[:height, :width]
    tone += 5 * cloud(rng, height, width, 4 * scale, 16) + 5 * cloud(rng, height, width, 2)
    tone[::slab] -= 28
    tone[:, ::slab] -= 28
    kerb = max(2, round(0.15 * scale))
    tone[:kerb] = 178 + 5 * cloud(rng, kerb, width, 4)
    tone[kerb] = 90
    return Texture(tone[..., None] * np.array([0.92, 0.99, 1.05], np.float32), ID["sidewalk"])


WALLS: tuple[Color, ...] = (
    (72, 88, 132),  # brick
    (96, 116, 150),
    (150, 172, 186),  # stone
    (128, 150, 166),
    (140, 142, 144),  # concrete
    (186, 196, 200),  # plaster
    (120, 160, 190),
    (104, 110, 116),
)


def facade(
    rng: np.random.Generator, length_m: float, storeys: int, scale: int, windows: bool = True
) -> Texture:
    """The front of a house, a shop below; or a blind side wall."""
    height, width = round((3.1 * storeys + 0.8) * scale), round(length_m * scale)
    wall = np.array(WALLS[rng.integers(len(WALLS))], np.float32) * rng.uniform(0.8, 1.05)
    picture = plain(height, width, wall.tolist())
    grain = 5 * cloud(rng, height, width, 3 * scale, 2) + 5 * cloud(rng, height, width, 2)
    picture += grain[..., None]
    picture[:: max(2, scale // 8)] *= 0.94  # courses
    picture[: round(0.35 * scale)] *= 0.75  # eaves
    if windows:
        spacing = rng.uniform(1.9, 2.9)
        count = max(1, int(length_m / spacing))
        wide, tall = rng.uniform(0.9, 1.4), rng.uniform(1.3, 1.9)
        frame: Color = (200, 205, 208) if rng.random() < 0.6 else (50, 52, 55)
        for storey in range(1, storeys):
            top = height - (3.1 * storey + 0.75 + tall) * scale
            for k in range(count):
                left = ((k + 0.5) * length_m / count - wide / 2) * scale
                _window(rng, picture, left, top, wide * scale, tall * scale, frame, scale)
        _shop(rng, picture, height, width, scale)
    soil = np.linspace(1.04, 0.9, height, dtype=np.float32)[:, None, None]
    return Texture(picture * soil, ID["building"])


def _window(
    rng: np.random.Generator,
    picture: np.ndarray,
    left: float,
    top: float,
    wide: float,
    tall: float,
    frame: Color,
    scale: int,
) -> None:
    x0, y0, x1, y1 = (round(v) for v in (left, top, left + wide, top + tall))
    cv2.rectangle(picture, (x0 - 2, y1), (x1 + 2, y1 + scale // 10), (165, 170, 172), -1)
    cv2.rectangle(picture, (x0 - 2, y1 + scale // 10), (x1 + 2, y1 + scale // 6), (60, 62, 66), -1)
    glass = picture[y0:y1, x0:x1]
    if glass.size == 0:
        return
    ramp = np.linspace(1.5, 0.7, glass.shape[0], dtype=np.float32)[:, None, None]
    glass[:] = np.array([62, 56, 50], np.float32) * ramp * rng.uniform(0.6, 1.4)
    if rng.random() < 0.3:  # a blind
        glass[: round(glass.shape[0] * rng.uniform(0.2, 0.6))] = (150, 160, 165)
    thick = max(1, scale // 16)
    cv2.rectangle(picture, (x0, y0), (x1, y1), frame, thick)
    cv2.line(picture, ((x0 + x1) // 2, y0), ((x0 + x1) // 2, y1), frame, thick)
    cv2.line(picture, (x0, (y0 + y1) // 2), (x1, (y0 + y1) // 2), frame, thick)


def _shop(
    rng: np.random.Generator, picture: np.ndarray, height: int, width: int, scale: int
) -> None:
    top = height - round(3.0 * scale)
    if rng.random() < 0.35:  # no shop: a door between windows
        door = round(width * rng.uniform(0.3, 0.6))
        color = rng.uniform(30, 110, 3).tolist()
        for left in (width * 0.1, width * 0.7):
            _window(
                rng,
                picture,
                left,
                top + scale * 0.7,
                scale * 1.2,
                scale * 1.3,
                (190, 195, 198),
                scale,
            )
        cv2.rectangle(
            picture, (door, height - round(2.1 * scale)), (door + scale, height), color, -1
        )
        return
    fascia = round(0.6 * scale)
    base = rng.uniform(25, 140, 3)
    picture[top : top + fascia] = base
    letter = (np.clip(base + 110, 0, 255)).tolist()
    for x in range(width // 5, 4 * width // 5, max(3, scale // 4)):
        if rng.random() < 0.8:
            size = (max(1, scale // 9), round(scale * rng.uniform(0.12, 0.26)))
            cv2.rectangle(
                picture,
                (x, top + scale // 6),
                (x + size[0], top + scale // 6 + size[1]),
                letter,
                -1,
            )
    show = picture[top + fascia : height - round(0.35 * scale)]
    # Glass: a bright reflection of the sky above, a dim room behind it below.
    ramp = np.linspace(1.15, 0.6, show.shape[0], dtype=np.float32)[:, None, None]
    room = 1 + 0.10 * cloud(rng, show.shape[0], width, scale, scale // 6)[..., None]
    show[:] = np.array([122, 116, 108], np.float32) * ramp * room
    for _ in range(4):  # what lies in the window
        left, tall = int(rng.integers(width)), int(rng.integers(scale // 4, scale))
        corner = (left + int(rng.integers(scale // 5, scale // 2)), show.shape[0])
        goods = rng.uniform(70, 170, 3).tolist()
        cv2.rectangle(show, (left, show.shape[0] - tall), corner, goods, -1)
    for x in np.linspace(0, width, max(3, width // (2 * scale)))[:-1]:
        cv2.rectangle(
            show, (round(x), 0), (round(x) + scale // 9, show.shape[0]), (base * 0.8).tolist(), -1
        )


def sky(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """float32 [height, width, 3]: blue above, bright at the horizon (the last row), thin clouds."""
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None] ** 0.8
    low, high = np.array([238, 230, 220], np.float32), np.array([222, 176, 124], np.float32)
    clouds = np.clip(0.4 * cloud(rng, height, width, max(8, width // 3), 4) - 0.1, 0, 0.8)[
        ..., None
    ]
    picture = high * (1 - ramp) + low * ramp
    return picture * (1 - clouds) + np.array([245, 243, 240], np.float32) * clouds


def skyline(rng: np.random.Generator, scale: int) -> Texture:
    """What closes the street far ahead, 160 m wide and 20 m high: roofs and tree tops."""
    height, width = 20 * scale, 160 * scale
    labels = np.zeros((height, width), np.uint8)
    picture = plain(height, width, (0, 0, 0))
    left = 0
    while left < width:
        wide = int(rng.integers(5 * scale, 14 * scale))
        top = height - int(rng.integers(6 * scale, 17 * scale))
        if rng.random() < 0.5:
            picture[top:, left : left + wide] = np.array(WALLS[rng.integers(len(WALLS))]) * 0.8
            labels[top:, left : left + wide] = ID["building"]
            for y in range(top + scale, height - scale, 3 * scale):
                for x in range(left + scale, min(left + wide, width) - scale, 2 * scale):
                    picture[y : y + scale, x : x + scale] = (70, 66, 62)
        else:
            columns = np.arange(left, min(left + wide, width))
            bump = top - 1.5 * scale * np.sin(np.pi * (columns - left) / wide)
            rough = 0.6 * scale * cloud(rng, 1, len(columns), 2 * scale)[0]
            leafy = np.arange(height)[:, None] >= np.maximum(bump + rough, 0)
            part = slice(left, left + len(columns))
            green = np.array([62, 88, 80], np.float32)
            texture = green * (1 + 0.2 * cloud(rng, height, len(columns), scale)[..., None])
            picture[:, part] = np.where(leafy[..., None], texture, picture[:, part])
            labels[:, part] = np.where(leafy, ID["tree"], 0)
        left += wide
    return Texture(picture, labels, (labels > 0).astype(np.float32))
