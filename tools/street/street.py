"""A rendered drive down a street, with the exact label of every pixel.

The world is made of flat textured rectangles in metres (x ahead, y left, z up, as in REP 103),
painted from far to near. Each is drawn twice through the same projection: once in colour, once in
label ids without blending, so that the labels are those of the pixel centres. The street is endless
and every frame depends on the seed and its index alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import cv2
import numpy as np

from tools.street import cars, furniture, people, surfaces
from tools.street.canvas import NEAR, SIGHT, Camera, Canvas, Pose, Quad
from tools.street.textures import ID, Texture, cloud

ROAD = 4.8  # metres from the middle of the road to either kerb
WALK = 2.5  # width of a pavement
KERB = 0.12  # its height
WALL = ROAD + WALK  # from the middle of the road to the houses
BLOCK = 40.0  # length of street that is laid out at once
SIDE_STREET = 7.0  # width of a side street, at the beginning of some blocks
SIDE_DEPTH = 36.0  # how far it is seen
SPEED = 8.0  # metres a second

Thing = tuple[float, list[Quad]]
"""What stands or moves: its x in metres, by which things are ordered, and what it is made of."""


class Street:
    """An endless street, rendered frame by frame; labels are ids of the label set ``camvid11``."""

    def __init__(
        self, size: tuple[int, int] = (480, 640), seed: int = 0, fps: float = 30.0
    ) -> None:
        """Paint the textures (0.5 s).

        Args:
            size: (height, width) of the frames in pixels, 16 to 4096 each.
            seed: another seed is another street.
            fps: frames per second of the drive, which goes at 8 m/s.
        """
        self.camera = Camera(size[1], size[0])
        self._rate, self._seed = fps, seed
        self._paint_textures(np.random.default_rng(seed))
        self._block = lru_cache(maxsize=32)(self._lay_out_block)

    def render(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """One frame and its labels.

        Returns:
            uint8 [H, W, 3] BGR, and uint8 [H, W] label ids.
        """
        pose = self._pose(index)
        time = index / self._rate
        image, labels = self._sky(pose)
        canvas = Canvas(image, labels, self.camera, pose)
        for quad in self._scene(pose, time):
            canvas.paint(quad)
        return self._develop(image, index, time), labels

    def _pose(self, index: int) -> Pose:
        time = index / self._rate
        sway = 0.25 * np.sin(0.5 * time) + 0.05 * np.sin(2.1 * time)
        return Pose(SPEED * time, 1.7 + sway, 0.012 * float(np.cos(0.5 * time)))

    def _paint_textures(self, rng: np.random.Generator) -> None:
        self._roads = [surfaces.asphalt(rng, BLOCK, 2 * ROAD, 40) for _ in range(2)]
        self._side_road = surfaces.asphalt(rng, SIDE_DEPTH, SIDE_STREET, 20, markings=False)
        self._walks = {
            length: surfaces.pavement(rng, length, WALK, 40)
            for length in (BLOCK, BLOCK - SIDE_STREET)
        }
        kerb = 138 + 7 * cloud(rng, 4, 800, 8)[..., None] * np.ones(3, np.float32)
        self._kerb = Texture(kerb, ID["sidewalk"])
        self._houses = [
            (length, storeys, surfaces.facade(rng, length, storeys, 28))
            for length in (8.0, 10.0, 13.0)
            for storeys in (2, 3, 3, 4)
        ]
        self._blind = [surfaces.facade(rng, 10.0, 3, 20, windows=False) for _ in range(2)]
        leaves = 1 + 0.3 * cloud(rng, 44, 400, 12)[..., None]
        self._hedge = Texture(leaves * np.array([40, 78, 66], np.float32), ID["tree"])
        self._fence = furniture.railing(rng, 10.0, 40)
        self._trees = [furniture.tree(rng, 44) for _ in range(4)]
        self._post = furniture.lamp_post(48)
        self._signs = [furniture.traffic_sign(rng, 80) for _ in range(4)]
        self._people = [people.person(rng, 100) for _ in range(6)]
        self._cyclists = [people.cyclist(rng, 100) for _ in range(2)]
        self._cars = []
        for paint in cars.CARS:
            van = bool(rng.random() < 0.25)
            tall = 2.1 if van else 1.48
            ends = [cars.car_end(rng, paint, 90, tall, rear) for rear in (True, False)]
            self._cars.append((tall, ends, cars.car_side(rng, paint, 60, tall, van)))
        self._spot = furniture.shadow()
        self._shade = furniture.shadow(40)
        self._skyline = surfaces.skyline(rng, 8)
        height, width = self.camera.height, self.camera.width
        self._heaven = surfaces.sky(rng, height, width + 64).astype(np.uint8)
        grain = rng.normal(0, 3.2, (height + 64, width + 64, 3))
        self._grain = cv2.GaussianBlur(grain, (3, 3), 0.5).round().astype(np.int16)

    def _sky(self, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
        """The canvas: sky down to the horizon, which is what the rest is painted on."""
        camera = self.camera
        horizon = (camera.height - 1) / 2 - camera.matrix[1, 1] * np.tan(camera.pitch)
        rows = np.clip(np.arange(camera.height) * camera.height / max(horizon, 1.0), 0, None)
        rows = np.minimum(rows.astype(int), camera.height - 1)
        turn = round(32 + camera.matrix[0, 0] * pose.yaw)
        turn = min(max(turn, 0), 64)
        image = self._heaven[rows, turn : turn + camera.width]
        return image, np.full(image.shape[:2], ID["sky"], np.uint8)

    def _develop(self, image: np.ndarray, index: int, time: float) -> np.ndarray:
        """What a lens and a sensor add: softness, changing exposure, noise."""
        image = cv2.GaussianBlur(image, (3, 3), 0.6)
        light = 1.0 + 0.10 * np.sin(0.7 * time) + 0.05 * np.sin(1.9 * time + 1)
        image = cv2.convertScaleAbs(image, alpha=light, beta=-6)
        rng = np.random.default_rng([self._seed, index])
        top, left = rng.integers(0, 64, 2)
        grain = self._grain[top : top + image.shape[0], left : left + image.shape[1]]
        return np.asarray(cv2.add(image, grain, dtype=cv2.CV_8U))

    def _has_side_street(self, block: int, side: int) -> bool:
        return bool(np.random.default_rng([self._seed, block + 1000, side + 1]).random() < 0.3)

    def _scene(self, pose: Pose, time: float) -> Iterator[Quad]:
        """Everything in sight, from far to near."""
        yield Quad(
            self._skyline,
            (pose.x + SIGHT, 80.0 + 0.6 * pose.y, 19.0),
            (0, -160, 0),
            (0, 0, -20),
        )
        first = int(np.floor((pose.x + NEAR) / BLOCK))
        blocks = range(int(np.floor((pose.x + SIGHT) / BLOCK)), first - 1, -1)
        for k in blocks:
            yield from self._block(k)[0]
        for k in blocks:
            yield from self._block(k)[1]
        things: list[Thing] = []
        for k in blocks:
            things += self._block(k)[2]
            things += self._walkers(k, time)
        things += self._traffic(pose, time)
        for _, quads in sorted(things, key=lambda thing: -thing[0]):
            yield from quads

    def _lay_out_block(self, k: int) -> tuple[list[Quad], list[Quad], list[Thing]]:
        """What stands still in one block: ground, walls (far to near), things with their x."""
        rng = np.random.default_rng([self._seed, k + 1000, 7])
        start = k * BLOCK
        road = self._roads[k % len(self._roads)]
        ground = [Quad(road, (start, ROAD, 0), (BLOCK, 0, 0), (0, -2 * ROAD, 0))]
        walls: list[Quad] = []
        things: list[Thing] = []
        for side in (1, -1):
            gain = 0.68 if side > 0 else 1.06  # the sun stands on the left
            opening = SIDE_STREET if self._has_side_street(k, side) else 0.0
            begin, length = start + opening, BLOCK - opening
            ground += self._sidewalk(begin, length, side, gain)
            if opening:
                ground.append(self._side_ground(start, side))
                walls.append(self._side_end(start, side, gain))
            lots = self._lots(rng, begin, start + BLOCK)
            for lot_start, lot_end, garden in reversed(lots):
                at_opening = opening > 0 and lot_start == begin
                walls += self._lot(rng, lot_start, lot_end, garden, side, gain, at_opening)
                if side > 0 and not garden:
                    ground.append(
                        Quad(
                            self._shade,
                            (lot_start - 0.6, ROAD + 1.5, 0),
                            (lot_end - lot_start + 1.2, 0, 0),
                            (0, -7.5, 0),
                        )
                    )
            things += self._furniture(rng, begin, start + BLOCK, side, gain)
        walls.sort(key=lambda quad: -(quad.origin[0] + max(quad.u[0], 0)))
        return ground, walls, things

    def _sidewalk(self, begin: float, length: float, side: int, gain: float) -> list[Quad]:
        edge = side * ROAD
        return [
            Quad(
                self._walks[length], (begin, edge, KERB), (length, 0, 0), (0, side * WALK, 0), gain
            ),
            Quad(self._kerb, (begin, edge, KERB), (length, 0, 0), (0, 0, -KERB), 0.9 * gain),
        ]

    def _side_ground(self, start: float, side: int) -> Quad:
        return Quad(
            self._side_road,
            (start, side * ROAD, 0),
            (0, side * SIDE_DEPTH, 0),
            (SIDE_STREET, 0, 0),
            0.9,
        )

    def _side_end(self, start: float, side: int, gain: float) -> Quad:
        """The house that closes a side street."""
        _, storeys, texture = self._houses[0]
        tall = 3.1 * storeys + 0.8
        where = (start - 10, side * (ROAD + SIDE_DEPTH), tall)
        return Quad(texture, where, (BLOCK, 0, 0), (0, 0, -tall), gain)

    def _lots(
        self, rng: np.random.Generator, begin: float, end: float
    ) -> list[tuple[float, float, bool]]:
        """Begin and end of each plot, and whether it is a garden."""
        lots = []
        while end - begin > 1:
            length = float(rng.choice([8.0, 10.0, 13.0]))
            if end - begin - length < 8:
                length = end - begin
            lots.append((begin, begin + length, bool(rng.random() < 0.3)))
            begin += length
        return lots

    def _lot(
        self,
        rng: np.random.Generator,
        begin: float,
        end: float,
        garden: bool,
        side: int,
        gain: float,
        at_opening: bool,
    ) -> list[Quad]:
        """A house at the pavement with its blind side; or a garden behind a fence, trees, a house."""
        wall, length = side * WALL, end - begin
        _, storeys, front = self._houses[rng.integers(len(self._houses))]
        tall = 3.1 * storeys + 0.8
        back = side * 9.0
        if not garden:
            blind = self._blind[rng.integers(len(self._blind))]
            return [
                Quad(blind, (begin, wall, tall), (0, back, 0), (0, 0, -tall), 0.85 * gain),
                Quad(front, (begin, wall, tall), (length, 0, 0), (0, 0, -tall), gain),
            ]
        quads = [
            Quad(front, (begin, wall + back, tall), (length, 0, 0), (0, 0, -tall), gain),
            Quad(self._hedge, (begin, wall + side * 0.6, 2.0), (length, 0, 0), (0, 0, -2), gain),
        ]
        if at_opening:
            quads.append(Quad(self._hedge, (begin, wall, 2.0), (0, back, 0), (0, 0, -2), gain))
        for x in np.arange(begin + 2, end - 1, 4.5)[::-1]:
            crown = self._trees[rng.integers(len(self._trees))]
            quads.insert(1, _standing(crown, x, wall + side * 3.2, 6.0, 7.5, gain))
        quads.append(Quad(self._fence, (begin, wall, 1.5), (length, 0, 0), (0, 0, -1.5), gain))
        return quads

    def _furniture(
        self, rng: np.random.Generator, begin: float, end: float, side: int, gain: float
    ) -> list[Thing]:
        """Lamp posts, signs, street trees and parked cars of one side of a block."""
        things: list[Thing] = []
        kerb = side * (ROAD + 0.45)
        for x in np.arange(begin + 4, end, 18.0):
            width = -side * 1.6  # the arm reaches over the road
            post = _standing(self._post, x, kerb + side * 0.6, 1.6, 6.0, gain)
            arm = Quad(post.texture, (x, kerb, 6.0), (0, width, 0), (0, 0, -6.0 + KERB), gain)
            things.append((x, [arm]))
        for x in rng.uniform(begin, end, 2):
            sign = self._signs[rng.integers(len(self._signs))]
            things.append((x, [_standing(sign, x, kerb, 0.8, 3.0, gain)]))
        for x in np.arange(begin + 9, end, 14.0):
            if rng.random() < 0.55:
                crown = self._trees[rng.integers(len(self._trees))]
                quads = [_standing(crown, x, side * (ROAD + 0.8), 5.0, 7.0, gain)]
                things.append((x, quads))
        if side < 0:
            for x in np.arange(begin + 3, end - 5, 6.2):
                if rng.random() < 0.45:
                    car = int(rng.integers(len(self._cars)))
                    things.append(self._car(car, x, -3.75, gain, rear=bool(rng.random() < 0.5)))
        return things

    def _car(self, car: int, x: float, y: float, gain: float, rear: bool) -> Thing:
        """A car whose nearer end is at ``x``, its shadow first, its nearer end last."""
        tall, (back, front), flank = self._cars[car % len(self._cars)]
        quads = [Quad(self._spot, (x - 0.4, y + 1.2, 0.01), (5.2, 0, 0), (0, -2.4, 0))]
        along = (x, (4.3, 0, 0)) if rear else (x + 4.3, (-4.3, 0, 0))
        near_first = y > 1.7
        for edge in (0.88, -0.88) if near_first else (-0.88, 0.88):
            quads.append(
                Quad(flank, (along[0], y + edge, tall), along[1], (0, 0, -tall), 0.85 * gain)
            )
        end = back if rear else front
        quads.append(Quad(end, (x, y + 0.9, tall), (0, -1.8, 0), (0, 0, -tall), gain))
        return x, quads

    def _walkers(self, k: int, time: float) -> list[Thing]:
        """The people on the pavements of one block, walking."""
        rng = np.random.default_rng([self._seed, k + 1000, 11])
        things = []
        for side in (1, -1):
            for _ in range(int(rng.integers(1, 4))):
                pace = float(rng.choice([-1, 1])) * rng.uniform(1.0, 1.5)
                x = k * BLOCK + rng.uniform(SIDE_STREET + 2, BLOCK - 2) + pace * (time - k * 5.0)
                who = self._people[rng.integers(len(self._people))]
                y = side * (ROAD + rng.uniform(0.45, 1.1))
                step = who[int(time * 6 + rng.integers(6)) % len(who)]
                shade = Quad(self._spot, (x - 0.3, y + 0.45, KERB), (0.7, 0, 0), (0, -0.9, 0))
                body = _standing(
                    step, x, y, 1.0, float(rng.uniform(1.6, 1.85)), 0.75 if side > 0 else 1
                )
                things.append((x, [shade, body]))
        return things

    def _traffic(self, pose: Pose, time: float) -> list[Thing]:
        """What drives: a car ahead, oncoming cars, a cyclist at the kerb."""
        ahead = pose.x + 20 + 7 * np.sin(0.4 * time)
        things = [self._car(self._seed + 1, ahead, 1.75 + 0.1 * np.sin(0.8 * time), 0.8, rear=True)]
        for j, offset in enumerate((35.0, 80.0, 112.0)):
            x = pose.x + (offset - (SPEED + 9) * time) % SIGHT
            things.append(self._car(self._seed + 3 + j, x, -1.5, 1.0, rear=False))
        x = pose.x + (16 - 3.5 * time) % 30
        shade = Quad(self._spot, (x - 0.6, 4.4, 0.01), (1.6, 0, 0), (0, -0.9, 0))
        rider = self._cyclists[self._seed % len(self._cyclists)]
        things.append((x, [shade, Quad(rider, (x, 4.45, 1.8), (0, -1, 0), (0, 0, -1.8), 0.8)]))
        return things


def _standing(texture: Texture, x: float, y: float, wide: float, tall: float, gain: float) -> Quad:
    """An upright picture on the pavement, facing the camera, its middle at y."""
    return Quad(texture, (x, y + wide / 2, tall + KERB), (0, -wide, 0), (0, 0, -tall), gain)
