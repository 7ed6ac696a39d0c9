"""The camera, textured rectangles in the world, and how they are painted into an image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from tools.street.textures import Texture

SIGHT = 130.0  # what is farther ahead is hidden in the skyline
NEAR = 1.0  # what is nearer than this to the camera is cut off
HAZE = np.array([226.0, 220.0, 212.0])  # the colour of distant air
SPLITS = (3.0, 6.0, 12.0, 24.0, 48.0)  # metres ahead at which long surfaces change their sharpness


@dataclass(frozen=True)
class Camera:
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
class Quad:
    """A textured rectangle: texture columns run along ``u``, rows along ``v``, from ``origin``."""

    texture: Texture
    origin: tuple[float, float, float]
    u: tuple[float, float, float]
    v: tuple[float, float, float]
    gain: float = 1.0


@dataclass(frozen=True)
class Pose:
    """Where the camera is in the world: x, y in metres, yaw in radians."""

    x: float
    y: float
    yaw: float


class Canvas:
    """Paints quads over a picture and its label map."""

    def __init__(self, image: np.ndarray, labels: np.ndarray, camera: Camera, pose: Pose) -> None:
        self._image, self._labels, self._pose = image, labels, pose
        self._project = camera.matrix @ camera.rotation(pose.yaw)
        self._centre = (pose.x, pose.y, camera.height_m)

    def paint(self, quad: Quad) -> None:
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

    def _piece(self, quad: Quad, u_part: tuple[float, float], v_part: tuple[float, float]) -> None:
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
