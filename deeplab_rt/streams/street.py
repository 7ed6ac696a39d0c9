"""A rendered drive down a street, with the exact label of every pixel.

The world is made of flat textured rectangles in metres (x ahead, y left, z up, as in REP 103),
painted from far to near. Each is drawn twice through the same projection: once in colour, once in
label ids without blending, so that the labels are those of the pixel centres. The street is endless
and every frame depends on the seed and its index alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from deeplab_rt.errors import StreamError
from deeplab_rt.frame import Frame
from deeplab_rt.streams import street_textures as textures
from deeplab_rt.streams.street_textures import ID, Texture

ROAD = 4.8  # metres from the middle of the road to either kerb
WALK = 2.5  # width of a pavement
KERB = 0.12  # its height
WALL = ROAD + WALK  # from the middle of the road to the houses
BLOCK = 40.0  # length of street that is laid out at once
SIDE_STREET = 7.0  # width of a side street, at the beginning of some blocks
SIDE_DEPTH = 36.0  # how far it is seen
SIGHT = 130.0  # what is farther ahead is hidden in the skyline
NEAR = 1.0  # what is nearer than this to the camera is cut off
SPEED = 8.0  # metres a second
HAZE = np.array([226.0, 220.0, 212.0])  # the colour of distant air
SPLITS = (3.0, 6.0, 12.0, 24.0, 48.0)  # metres ahead at which long surfaces change their sharpness


@dataclass(frozen=True)
class StreetFrame(Frame):
    """A frame of the street with the truth.

    Attributes:
        labels: uint8 [H, W]: the label id of every pixel.
    """

    labels: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.uint8))


@dataclass(frozen=True)
class StreetCamera:
    """The camera on the car: an ideal pinhole, its principal point in the middle, no roll.

    Attributes:
        width: of the picture in pixels.
        height: of the picture in pixels.
        height_m: of the optical centre above the road, metres.
        pitch: how far it looks down from the horizontal, radians.
    """

    width: int
    height: int
    height_m: float = 1.3
    pitch: float = 0.03

    @property
    def matrix(self) -> np.ndarray:
        """float64 [3, 3]: K of sensor_msgs/CameraInfo; pixel centres have whole coordinates."""
        focal = 0.85 * max(self.width, self.height)
        return np.array(
            [[focal, 0, (self.width - 1) / 2], [0, focal, (self.height - 1) / 2], [0, 0, 1]]
        )

    def rotation(self, yaw: float = 0.0) -> np.ndarray:
        """float64 [3, 3]: from x ahead, y left, z up to the optical frame (right, down, ahead)."""
        ahead = np.array(
            [
                np.cos(yaw) * np.cos(self.pitch),
                np.sin(yaw) * np.cos(self.pitch),
                -np.sin(self.pitch),
            ]
        )
        right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
        return np.stack([right, np.cross(ahead, right), ahead])


@dataclass(frozen=True)
class _Quad:
    """A textured rectangle: texture columns run along ``u``, rows along ``v``, from ``origin``."""

    texture: Texture
    origin: tuple[float, float, float]
    u: tuple[float, float, float]
    v: tuple[float, float, float]
    gain: float = 1.0


@dataclass(frozen=True)
class _Pose:
    """Where the camera is in the world: x, y in metres, yaw in radians."""

    x: float
    y: float
    yaw: float


class StreetSource:
    """The rendered drive as a :class:`~deeplab_rt.streams.base.FrameSource`, with its labels.

    Labels are ids of the label set ``camvid11``; every pixel has one.
    """

    live = False
    dropped = 0

    def __init__(
        self,
        size: tuple[int, int] = (480, 640),
        frames: int = 300,
        seed: int = 0,
        fps: float = 30.0,
    ) -> None:
        """Paint the textures (0.5 s); frames are rendered when they are asked for.

        Args:
            size: (height, width) of the frames in pixels.
            frames: how many frames the iteration gives.
            seed: another seed is another street.
            fps: frames per second of the drive, which goes at 8 m/s.

        Raises:
            StreamError: a side is not 16 to 4096 pixels, or there are no frames.
        """
        if not all(16 <= side <= 4096 for side in size) or frames < 1 or fps <= 0:
            raise StreamError(
                f"a street of {frames} frames, {size[1]}x{size[0]} at {fps} Hz cannot be rendered: "
                "expected at least one frame, 16 to 4096 pixels a side, a rate above 0"
            )
        self.name = "street"
        self.total: int | None = frames
        self.fps: float | None = fps
        self.warnings: list[str] = []
        self.camera = StreetCamera(size[1], size[0])
        self._frames, self._rate, self._seed = frames, fps, seed
        self._paint_textures(np.random.default_rng(seed))
        self._block = lru_cache(maxsize=32)(self._lay_out_block)

    def __iter__(self) -> Iterator[StreetFrame]:
        for index in range(self._frames):
            image, labels = self.render(index)
            yield StreetFrame(
                image, index, self.stamp_ns(index), "camera", f"{index:06d}", labels=labels
            )

    def stamp_ns(self, index: int) -> int:
        """The stamp of a frame in nanoseconds: its time since the drive began."""
        return round(index * 1e9 / self._rate)

    def labels(self, index: int) -> np.ndarray:
        """uint8 [H, W]: the label id of every pixel of a frame."""
        return self.render(index)[1]

    def is_road(self, index: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Whether points of the ground are road, whatever stands on them.

        Args:
            index: of the frame.
            x: metres ahead of the point of the road below the camera.
            y: metres to the left of it; of the same shape.

        Returns:
            bool, of the same shape.
        """
        pose = self._pose(index)
        x, y = np.asarray(x, float), np.asarray(y, float)
        ahead = pose.x + np.cos(pose.yaw) * x - np.sin(pose.yaw) * y
        left = pose.y + np.sin(pose.yaw) * x + np.cos(pose.yaw) * y
        block = np.floor(ahead / BLOCK)
        opens = np.zeros(ahead.shape, bool)
        for k in np.unique(block):
            for side in (1, -1):
                if self._has_side_street(int(k), side):
                    opens |= (block == k) & (np.sign(left) == side)
        in_side_street = opens & (ahead - block * BLOCK < SIDE_STREET)
        in_side_street &= np.abs(left) < ROAD + SIDE_DEPTH
        return np.asarray((np.abs(left) < ROAD) | in_side_street)

    def render(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """One frame and its labels.

        Returns:
            uint8 [H, W, 3] BGR, and uint8 [H, W] label ids.
        """
        pose = self._pose(index)
        time = index / self._rate
        image, labels = self._sky(pose)
        canvas = _Canvas(image, labels, self.camera, pose)
        for quad in self._scene(pose, time):
            canvas.paint(quad)
        return self._develop(image, index, time), labels

    def close(self) -> None:
        self._block.cache_clear()

    def __enter__(self) -> StreetSource:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _pose(self, index: int) -> _Pose:
        time = index / self._rate
        sway = 0.25 * np.sin(0.5 * time) + 0.05 * np.sin(2.1 * time)
        return _Pose(SPEED * time, 1.7 + sway, 0.012 * float(np.cos(0.5 * time)))

    def _paint_textures(self, rng: np.random.Generator) -> None:
        self._roads = [textures.asphalt(rng, BLOCK, 2 * ROAD, 40) for _ in range(2)]
        self._side_road = textures.asphalt(rng, SIDE_DEPTH, SIDE_STREET, 20, markings=False)
        self._walks = {
            length: textures.pavement(rng, length, WALK, 40)
            for length in (BLOCK, BLOCK - SIDE_STREET)
        }
        kerb = 138 + 7 * textures.cloud(rng, 4, 800, 8)[..., None] * np.ones(3, np.float32)
        self._kerb = Texture(kerb, ID["sidewalk"])
        self._houses = [
            (length, storeys, textures.facade(rng, length, storeys, 28))
            for length in (8.0, 10.0, 13.0)
            for storeys in (2, 3, 3, 4)
        ]
        self._blind = [textures.facade(rng, 10.0, 3, 20, windows=False) for _ in range(2)]
        leaves = 1 + 0.3 * textures.cloud(rng, 44, 400, 12)[..., None]
        self._hedge = Texture(leaves * np.array([40, 78, 66], np.float32), ID["tree"])
        self._fence = textures.railing(rng, 10.0, 40)
        self._trees = [textures.tree(rng, 44) for _ in range(4)]
        self._post = textures.lamp_post(48)
        self._signs = [textures.traffic_sign(rng, 80) for _ in range(4)]
        self._people = [textures.person(rng, 100) for _ in range(6)]
        self._cyclists = [textures.cyclist(rng, 100) for _ in range(2)]
        self._cars = []
        for paint in textures.CARS:
            van = bool(rng.random() < 0.25)
            tall = 2.1 if van else 1.48
            ends = [textures.car_end(rng, paint, 90, tall, rear) for rear in (True, False)]
            self._cars.append((tall, ends, textures.car_side(rng, paint, 60, tall, van)))
        self._spot = textures.shadow()
        self._shade = textures.shadow(40)
        self._skyline = textures.skyline(rng, 8)
        height, width = self.camera.height, self.camera.width
        self._heaven = textures.sky(rng, height, width + 64).astype(np.uint8)
        grain = rng.normal(0, 3.2, (height + 64, width + 64, 3))
        self._grain = cv2.GaussianBlur(grain, (3, 3), 0.5).round().astype(np.int16)

    def _sky(self, pose: _Pose) -> tuple[np.ndarray, np.ndarray]:
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

    def _scene(self, pose: _Pose, time: float) -> Iterator[_Quad]:
        """Everything in sight, from far to near."""
        yield _Quad(
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
        things: list[tuple[float, list[_Quad]]] = []
        for k in blocks:
            things += self._block(k)[2]
            things += self._walkers(k, time)
        things += self._traffic(pose, time)
        for _, quads in sorted(things, key=lambda thing: -thing[0]):
            yield from quads

    def _lay_out_block(
        self, k: int
    ) -> tuple[list[_Quad], list[_Quad], list[tuple[float, list[_Quad]]]]:
        """What stands still in one block: ground, walls (far to near), things with their x."""
        rng = np.random.default_rng([self._seed, k + 1000, 7])
        start = k * BLOCK
        road = self._roads[k % len(self._roads)]
        ground = [_Quad(road, (start, ROAD, 0), (BLOCK, 0, 0), (0, -2 * ROAD, 0))]
        walls: list[_Quad] = []
        things: list[tuple[float, list[_Quad]]] = []
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
                        _Quad(
                            self._shade,
                            (lot_start - 0.6, ROAD + 1.5, 0),
                            (lot_end - lot_start + 1.2, 0, 0),
                            (0, -7.5, 0),
                        )
                    )
            things += self._furniture(rng, begin, start + BLOCK, side, gain)
        walls.sort(key=lambda quad: -(quad.origin[0] + max(quad.u[0], 0)))
        return ground, walls, things

    def _sidewalk(self, begin: float, length: float, side: int, gain: float) -> list[_Quad]:
        edge = side * ROAD
        return [
            _Quad(
                self._walks[length], (begin, edge, KERB), (length, 0, 0), (0, side * WALK, 0), gain
            ),
            _Quad(self._kerb, (begin, edge, KERB), (length, 0, 0), (0, 0, -KERB), 0.9 * gain),
        ]

    def _side_ground(self, start: float, side: int) -> _Quad:
        return _Quad(
            self._side_road,
            (start, side * ROAD, 0),
            (0, side * SIDE_DEPTH, 0),
            (SIDE_STREET, 0, 0),
            0.9,
        )

    def _side_end(self, start: float, side: int, gain: float) -> _Quad:
        """The house that closes a side street."""
        _, storeys, texture = self._houses[0]
        tall = 3.1 * storeys + 0.8
        where = (start - 10, side * (ROAD + SIDE_DEPTH), tall)
        return _Quad(texture, where, (BLOCK, 0, 0), (0, 0, -tall), gain)

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
    ) -> list[_Quad]:
        """A house at the pavement with its blind side; or a garden behind a fence, trees, a house."""
        wall, length = side * WALL, end - begin
        _, storeys, front = self._houses[rng.integers(len(self._houses))]
        tall = 3.1 * storeys + 0.8
        back = side * 9.0
        if not garden:
            blind = self._blind[rng.integers(len(self._blind))]
            return [
                _Quad(blind, (begin, wall, tall), (0, back, 0), (0, 0, -tall), 0.85 * gain),
                _Quad(front, (begin, wall, tall), (length, 0, 0), (0, 0, -tall), gain),
            ]
        quads = [
            _Quad(front, (begin, wall + back, tall), (length, 0, 0), (0, 0, -tall), gain),
            _Quad(self._hedge, (begin, wall + side * 0.6, 2.0), (length, 0, 0), (0, 0, -2), gain),
        ]
        if at_opening:
            quads.append(_Quad(self._hedge, (begin, wall, 2.0), (0, back, 0), (0, 0, -2), gain))
        for x in np.arange(begin + 2, end - 1, 4.5)[::-1]:
            crown = self._trees[rng.integers(len(self._trees))]
            quads.insert(1, _standing(crown, x, wall + side * 3.2, 6.0, 7.5, gain))
        quads.append(_Quad(self._fence, (begin, wall, 1.5), (length, 0, 0), (0, 0, -1.5), gain))
        return quads

    def _furniture(
        self, rng: np.random.Generator, begin: float, end: float, side: int, gain: float
    ) -> list[tuple[float, list[_Quad]]]:
        """Lamp posts, signs, street trees and parked cars of one side of a block."""
        things: list[tuple[float, list[_Quad]]] = []
        kerb = side * (ROAD + 0.45)
        for x in np.arange(begin + 4, end, 18.0):
            width = -side * 1.6  # the arm reaches over the road
            post = _standing(self._post, x, kerb + side * 0.6, 1.6, 6.0, gain)
            arm = _Quad(post.texture, (x, kerb, 6.0), (0, width, 0), (0, 0, -6.0 + KERB), gain)
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

    def _car(
        self, car: int, x: float, y: float, gain: float, rear: bool
    ) -> tuple[float, list[_Quad]]:
        """A car whose nearer end is at ``x``, its shadow first, its nearer end last."""
        tall, (back, front), flank = self._cars[car % len(self._cars)]
        quads = [_Quad(self._spot, (x - 0.4, y + 1.2, 0.01), (5.2, 0, 0), (0, -2.4, 0))]
        along = (x, (4.3, 0, 0)) if rear else (x + 4.3, (-4.3, 0, 0))
        near_first = y > 1.7
        for edge in (0.88, -0.88) if near_first else (-0.88, 0.88):
            quads.append(
                _Quad(flank, (along[0], y + edge, tall), along[1], (0, 0, -tall), 0.85 * gain)
            )
        end = back if rear else front
        quads.append(_Quad(end, (x, y + 0.9, tall), (0, -1.8, 0), (0, 0, -tall), gain))
        return x, quads

    def _walkers(self, k: int, time: float) -> list[tuple[float, list[_Quad]]]:
        """The people on the pavements of one block, walking."""
        rng = np.random.default_rng([self._seed, k + 1000, 11])
        things = []
        for side in (1, -1):
            for _ in range(int(rng.integers(1, 4))):
                pace = float(rng.choice([-1, 1])) * rng.uniform(1.0, 1.5)
                x = k * BLOCK + rng.uniform(SIDE_STREET + 2, BLOCK - 2) + pace * (time - k * 5.0)
                who = self._people[rng.integers(len(self._people))]
                y = side * (ROAD + rng.uniform(0.7, 1.9))
                step = who[int(time * 6 + rng.integers(6)) % len(who)]
                shade = _Quad(self._spot, (x - 0.3, y + 0.45, KERB), (0.7, 0, 0), (0, -0.9, 0))
                body = _standing(
                    step, x, y, 1.0, float(rng.uniform(1.6, 1.85)), 0.75 if side > 0 else 1
                )
                things.append((x, [shade, body]))
        return things

    def _traffic(self, pose: _Pose, time: float) -> list[tuple[float, list[_Quad]]]:
        """What drives: a car ahead, oncoming cars, a cyclist at the kerb."""
        ahead = pose.x + 20 + 7 * np.sin(0.4 * time)
        things = [self._car(self._seed + 1, ahead, 1.75 + 0.1 * np.sin(0.8 * time), 0.8, rear=True)]
        for j, offset in enumerate((35.0, 80.0, 112.0)):
            x = pose.x + (offset - (SPEED + 9) * time) % SIGHT
            things.append(self._car(self._seed + 3 + j, x, -1.5, 1.0, rear=False))
        x = pose.x + (16 - 3.5 * time) % 45
        shade = _Quad(self._spot, (x - 0.6, 4.4, 0.01), (1.6, 0, 0), (0, -0.9, 0))
        rider = self._cyclists[self._seed % len(self._cyclists)]
        things.append((x, [shade, _Quad(rider, (x, 4.45, 1.8), (0, -1, 0), (0, 0, -1.8), 0.8)]))
        return things


def _standing(texture: Texture, x: float, y: float, wide: float, tall: float, gain: float) -> _Quad:
    """An upright picture on the pavement, facing the camera, its middle at y."""
    return _Quad(texture, (x, y + wide / 2, tall + KERB), (0, -wide, 0), (0, 0, -tall), gain)


class _Canvas:
    """Paints quads over a picture and its label map."""

    def __init__(
        self, image: np.ndarray, labels: np.ndarray, camera: StreetCamera, pose: _Pose
    ) -> None:
        self._image, self._labels, self._pose = image, labels, pose
        self._project = camera.matrix @ camera.rotation(pose.yaw)
        self._centre = (pose.x, pose.y, camera.height_m)

    def paint(self, quad: _Quad) -> None:
        """Paint the part of a quad that lies ahead, in pieces where it is long."""
        along_u, along_v = quad.u[0] != 0, quad.v[0] != 0
        begin = quad.origin[0] - self._pose.x
        if begin > SIGHT:
            return
        if not along_u and not along_v:
            if begin > NEAR:
                self._piece(quad, (0.0, 1.0), (0.0, 1.0))
            return
        length = quad.u[0] if along_u else quad.v[0]
        stops = [min(begin, begin + length), max(begin, begin + length)]
        if stops[1] <= NEAR:
            return
        stops[0] = max(stops[0], NEAR)
        if quad.texture.opaque:
            stops[1:1] = [stop for stop in SPLITS if stops[0] < stop < stops[1]]
        fractions = [(stop - begin) / length for stop in stops]
        for one, two in zip(fractions[-2::-1], fractions[:0:-1], strict=True):
            part = (min(one, two), max(one, two))
            self._piece(quad, *((part, (0.0, 1.0)) if along_u else ((0.0, 1.0), part)))

    def _piece(self, quad: _Quad, u_part: tuple[float, float], v_part: tuple[float, float]) -> None:
        """Paint a part of a quad, given as fractions of its sides."""
        texture = quad.texture
        rows, cols = texture.labels.shape
        # Whole texels, so that neighbouring pieces share a border exactly.
        c0, c1 = round(u_part[0] * cols), round(u_part[1] * cols)
        r0, r1 = round(v_part[0] * rows), round(v_part[1] * rows)
        if c0 >= c1 or r0 >= r1:
            return
        offset = [at - here for at, here in zip(quad.origin, self._centre, strict=True)]
        to_image = self._project @ np.array([quad.u, quad.v, offset]).T
        a0, a1, b0, b1 = c0 / cols, c1 / cols, r0 / rows, r1 / rows
        corners = np.array([[a0, a1, a1, a0], [b0, b0, b1, b1], [1.0] * 4])
        x, y, depth = (to_image @ corners).tolist()
        if min(depth) <= 0:
            return
        x = [value / z for value, z in zip(x, depth, strict=True)]
        y = [value / z for value, z in zip(y, depth, strict=True)]
        height, width = self._labels.shape
        left, right = max(0, math.floor(min(x))), min(width, math.ceil(max(x)) + 1)
        top, bottom = max(0, math.floor(min(y))), min(height, math.ceil(max(y)) + 1)
        area = abs((x[2] - x[0]) * (y[3] - y[1]) - (x[3] - x[1]) * (y[2] - y[0])) / 2
        if left >= right or top >= bottom or area < 3:  # out of sight, too small or edge-on
            return
        shift = np.array([[1.0, 0, left], [0, 1, top], [0, 0, 1]])
        to_unit = np.linalg.inv(to_image) @ shift
        size = (right - left, bottom - top)
        texels = (c1 - c0) * (r1 - r0)
        level = round(0.5 * math.log2(max(texels / max(area, 1.0), 1.0)))
        picture = texture.levels[min(level, len(texture.levels) - 1)]
        to_texel = _scale(cols, rows, c0, r0) @ to_unit
        labels = _warp(texture.labels[r0:r1, c0:c1], to_texel, size, cv2.INTER_NEAREST)
        to_texel = _scale(picture.shape[1], picture.shape[0]) @ to_unit
        edge = cv2.BORDER_REPLICATE if texture.opaque else cv2.BORDER_CONSTANT
        patch = _warp(picture, to_texel, size, cv2.INTER_LINEAR, edge)
        clear = math.exp(-max(sum(depth) / 4 - 10, 0) / 420)  # what the air lets through
        under = self._image[top:bottom, left:right]
        if texture.opaque:
            _cover(under, patch, labels, quad.gain * clear, 1 - clear)
        else:
            _blend(under, patch, quad.gain * clear, 1 - clear)
        cv2.copyTo(labels, labels, self._labels[top:bottom, left:right])


def _scale(cols: int, rows: int, left: int = 0, top: int = 0) -> np.ndarray:
    """From fractions of a quad's sides to texels counted from (left, top)."""
    return np.array([[cols, 0, -0.5 - left], [0, rows, -0.5 - top], [0, 0, 1.0]])


def _warp(
    source: np.ndarray,
    to_texel: np.ndarray,
    size: tuple[int, int],
    interpolation: int,
    border: int = cv2.BORDER_CONSTANT,
) -> np.ndarray:
    flags = interpolation | cv2.WARP_INVERSE_MAP
    warped = cv2.warpPerspective(source, to_texel, size, flags=flags, borderMode=border)
    return np.asarray(warped, np.uint8)


def _cover(
    under: np.ndarray, patch: np.ndarray, mask: np.ndarray, gain: float, haze: float
) -> None:
    """Put a lit BGR patch over a part of the picture where the mask is not 0, in place."""
    patch = np.asarray(cv2.convertScaleAbs(patch, alpha=gain))
    if haze > 0.02:
        cv2.add(patch, _scalar(haze * HAZE), dst=patch)
    cv2.copyTo(patch, mask, under)


def _blend(under: np.ndarray, patch: np.ndarray, gain: float, haze: float) -> None:
    """Lay a lit BGRA patch, premultiplied, over a part of the picture, in place."""
    alpha = cv2.cvtColor(cv2.extractChannel(patch, 3), cv2.COLOR_GRAY2BGR)
    color = cv2.convertScaleAbs(cv2.cvtColor(patch, cv2.COLOR_BGRA2BGR), alpha=gain)
    if haze > 0.02:
        color = cv2.add(color, cv2.multiply(alpha, _scalar(haze * HAZE / 255)))
    kept = cv2.multiply(under, cv2.bitwise_not(alpha), scale=1 / 255)
    cv2.add(kept, color, dst=under)


def _scalar(color: np.ndarray) -> Any:
    """A colour as OpenCV takes it beside an array: four numbers, which its type hints leave out."""
    return (*color.tolist(), 0.0)
