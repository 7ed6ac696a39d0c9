"""The painted surfaces of the rendered street: asphalt, pavement, facades, trees, people, cars.

Every function takes a NumPy random generator and gives a :class:`Texture`; the same generator state
gives the same picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from deeplab_rt.labels import load_label_set

ID = {name: index + 1 for index, name in enumerate(load_label_set("camvid11").names)}

Color = Sequence[float]  # (blue, green, red), 0 to 255
Points = Sequence[tuple[float, float]]


class Texture:
    """A picture with labels, and smaller copies of it for the distance.

    Attributes:
        levels: BGR uint8 [h, w, 3] for an opaque texture, else BGRA uint8 [h, w, 4] with colours
            premultiplied by alpha; each level half the size of the one before.
        labels: uint8 [h, w] of level 0: label ids, 0 where the texture does not cover (or casts a
            shadow only).
        opaque: whether it covers all of its rectangle.
    """

    def __init__(
        self, bgr: np.ndarray, labels: np.ndarray | int, alpha: np.ndarray | None = None
    ) -> None:
        """Build the levels.

        Args:
            bgr: [h, w, 3], 0 to 255.
            labels: uint8 [h, w], or one id for all that ``alpha`` covers by half or more.
            alpha: float [h, w], 0 to 1; None for opaque.
        """
        self.opaque = alpha is None
        bgr = np.clip(bgr, 0, 255).astype(np.float32)
        if alpha is None:
            picture = bgr
        else:
            alpha = np.clip(alpha, 0, 1).astype(np.float32)[..., None]
            picture = np.concatenate([bgr * alpha, 255 * alpha], axis=2)
        if isinstance(labels, int):
            covered = np.ones(bgr.shape[:2], bool) if alpha is None else alpha[..., 0] >= 0.5
            labels = np.where(covered, labels, 0)
        self.labels = np.ascontiguousarray(labels, np.uint8)
        self.levels = [picture.astype(np.uint8)]
        while min(self.levels[-1].shape[:2]) >= 4:
            height, width = self.levels[-1].shape[:2]
            half = (width // 2, height // 2)
            smaller = cv2.resize(self.levels[-1], half, interpolation=cv2.INTER_AREA)
            self.levels.append(np.asarray(smaller, np.uint8))


def cloud(
    rng: np.random.Generator, height: int, width: int, coarse: int, fine: int = 1
) -> np.ndarray:
    """Fractal noise, float32 [height, width], mean about 0, deviation about 1.

    Args:
        rng: where the noise comes from.
        height: in pixels.
        width: in pixels.
        coarse: size of the largest blobs in pixels.
        fine: size of the smallest.
    """
    total = np.zeros((height, width), np.float32)
    weight, size = 1.0, coarse
    while size >= fine:
        small = rng.standard_normal((height // size + 2, width // size + 2), np.float32)
        total += weight * cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        weight, size = weight * 0.65, size // 2
    return total / max(float(total.std()), 1e-6)


def plain(height: int, width: int, color: Color) -> np.ndarray:
    """float32 [height, width, 3] of one colour."""
    return np.full((height, width, 3), color, np.float32)


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
    tone = 128 + np.kron(tones, np.ones((slab, slab), np.float32))[:height, :width]
    tone += 5 * cloud(rng, height, width, 4 * scale, 16) + 5 * cloud(rng, height, width, 2)
    tone[::slab] -= 28
    tone[:, ::slab] -= 28
    kerb = max(2, round(0.15 * scale))
    tone[:kerb] = 150 + 5 * cloud(rng, kerb, width, 4)
    tone[kerb] = 90
    return Texture(tone[..., None] * np.array([0.95, 0.99, 1.03], np.float32), ID["sidewalk"])


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
    show[:] = 34 + 16 * np.clip(cloud(rng, show.shape[0], width, scale, 2), -1.5, 3)[..., None]
    for _ in range(5):  # what lies in the window
        centre = (int(rng.integers(width)), int(rng.integers(show.shape[0] // 3, show.shape[0])))
        cv2.circle(
            show, centre, int(rng.integers(2, scale // 4)), rng.uniform(40, 200, 3).tolist(), -1
        )
    for x in np.linspace(0, width, max(3, width // (2 * scale)))[:-1]:
        cv2.rectangle(
            show, (round(x), 0), (round(x) + scale // 9, show.shape[0]), (base * 0.8).tolist(), -1
        )


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
    _line(wood, root, fork, 0.26 * scale)
    for _ in range(9):
        end = fork + np.array([rng.normal(0, 1.3), -rng.uniform(1.2, 3.6)]) * scale
        _line(wood, fork, end, 0.09 * scale)
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


def _line(mask: np.ndarray, start: np.ndarray, end: np.ndarray, thickness: float) -> None:
    a, b = (tuple(round(float(v)) for v in point) for point in (start, end))
    cv2.line(mask, a, b, 1.0, max(1, round(thickness)), cv2.LINE_AA)


def lamp_post(scale: int) -> Texture:
    """A lamp post, 1.6 m wide and 6 m high, its arm to the right."""
    height, width = 6 * scale, round(1.6 * scale)
    alpha = np.zeros((height, width), np.float32)
    foot = np.array([0.2 * scale, height])
    top = np.array([0.2 * scale, 0.25 * scale])
    _line(alpha, foot, top, 0.11 * scale)
    _line(alpha, foot, foot - [0, 1.1 * scale], 0.2 * scale)
    _line(alpha, top, np.array([1.1, 0.12]) * scale, 0.07 * scale)
    _line(
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
    _line(pole, np.array([width / 2, height]), np.array([width / 2, 0.3 * scale]), 0.09 * scale)
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


def person(rng: np.random.Generator, scale: int, phases: int = 6) -> list[Texture]:
    """One walker, 1 m wide and 1.8 m high, in as many phases of a step."""
    coat, trousers = rng.uniform(20, 130, 3), rng.uniform(20, 80, 3)
    skin = np.array([120, 150, 195]) * rng.uniform(0.5, 1.05)
    hair, build = rng.uniform(15, 70, 3), rng.uniform(0.9, 1.15)
    seed = int(rng.integers(1 << 30))
    return [
        _figure(seed, scale, coat, trousers, skin, hair, build, np.sin(2 * np.pi * k / phases))
        for k in range(phases)
    ]


def _figure(
    seed: int,
    scale: int,
    coat: np.ndarray,
    trousers: np.ndarray,
    skin: np.ndarray,
    hair: np.ndarray,
    build: float,
    stride: float,
) -> Texture:
    rng = np.random.default_rng(seed)
    height, width = round(1.8 * scale), scale
    picture = plain(height, width, coat.tolist())
    alpha = np.zeros((height, width), np.float32)

    def limb(
        a: tuple[float, float], b: tuple[float, float], thick: float, color: np.ndarray
    ) -> None:
        start, end = np.array(a) * scale, np.array(b) * scale
        _line(alpha, start, end, thick * scale)
        p, q = (tuple(round(float(v)) for v in point) for point in (start, end))
        cv2.line(picture, p, q, color.tolist(), round(thick * scale), cv2.LINE_AA)

    for side in (-1, 1):
        foot = 0.5 + 0.07 * side + 0.16 * stride * side
        limb((0.5 + 0.07 * side, 0.95), (foot, 1.74), 0.15 * build, trousers)
        limb((foot - 0.02, 1.76), (foot + 0.06, 1.77), 0.07, np.array([30.0, 30.0, 34.0]))
        hand = 0.5 + 0.24 * side * build - 0.10 * stride * side
        limb((0.5 + 0.17 * side * build, 0.42), (hand, 0.92), 0.10, coat * 0.85)
        limb((hand, 0.93), (hand, 0.95), 0.08, skin)
    limb((0.5, 0.46), (0.5, 0.90), 0.36 * build, coat)
    limb((0.5, 0.24), (0.5, 0.32), 0.12, skin)
    limb((0.5, 0.13), (0.5, 0.18), 0.21, skin)
    limb((0.5, 0.11), (0.5, 0.12), 0.22, hair)
    shade = np.linspace(1.25, 0.7, width, dtype=np.float32)[None, :, None]
    folds = 1 + 0.12 * cloud(rng, height, width, scale // 4)[..., None]
    return Texture(picture * shade * folds, ID["pedestrian"], cv2.GaussianBlur(alpha, (3, 3), 0))


def cyclist(rng: np.random.Generator, scale: int) -> Texture:
    """Somebody on a bicycle from behind, 1 m wide and 1.8 m high."""
    coat, trousers = rng.uniform(30, 150, 3), rng.uniform(20, 70, 3)
    body = _figure(
        int(rng.integers(1 << 30)),
        scale,
        coat,
        trousers,
        np.array([110.0, 140, 185]),
        rng.uniform(20, 180, 3),
        1.05,
        0.1,
    )
    # Raised onto the saddle: the same figure, shorter, its feet on the pedals.
    rows = round(1.55 * scale)
    raised = cv2.resize(body.levels[0], (scale, rows), interpolation=cv2.INTER_AREA)
    rider = np.zeros((round(1.8 * scale), scale, 4), np.float32)
    rider[:rows] = raised
    alpha = rider[..., 3] / 255
    picture = rider[..., :3] / np.maximum(alpha, 1e-3)[..., None]
    cycle = np.zeros_like(alpha)
    for start, end, thick in (
        ((0.5, 0.98), (0.5, 1.76), 0.075),  # tyre and mudguard
        ((0.20, 0.80), (0.80, 0.80), 0.05),  # handlebars
        ((0.42, 0.93), (0.58, 0.93), 0.09),  # saddle
        ((0.36, 1.50), (0.64, 1.50), 0.05),  # pedals
    ):
        _line(cycle, np.array(start) * scale, np.array(end) * scale, thick * scale)
    picture[cycle > 0.3] = (26, 26, 28)
    lamp = (round(0.5 * scale), round(1.12 * scale))
    cv2.circle(picture, lamp, max(1, round(0.035 * scale)), (40, 40, 220), -1, cv2.LINE_AA)
    return Texture(picture, ID["bicyclist"], np.maximum(alpha, cycle))


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


def shadow(scale: int = 24) -> Texture:
    """A soft dark spot to lay under things; it has no label of its own."""
    y, x = (np.mgrid[: 2 * scale, : 2 * scale].astype(np.float32) + 0.5) / scale - 1
    alpha = 0.62 * np.clip(1.6 - 1.6 * (x**4 + y**4), 0, 1)
    empty = np.zeros((2 * scale, 2 * scale), np.uint8)
    return Texture(plain(2 * scale, 2 * scale, (26, 24, 22)), empty, alpha)


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
