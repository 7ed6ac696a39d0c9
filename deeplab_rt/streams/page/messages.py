"""The messages between page and server, over one WebSocket. ``static/stream.js`` is the other end.

Server to page: a frame is binary (:func:`frame_message`), everything else JSON text with a ``type``:
``hello`` once, ``tick`` twice a second, ``end`` last. Page to server: JSON text with a ``do``
(:func:`parse_command`).
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np

from deeplab_rt.frame import Frame
from deeplab_rt.masks import Masks

VERSION = 1  # of the messages; a page that finds another one loads itself again
MAX_COMMAND = 1024  # bytes
MAX_SIDE = 1280  # pixels of what is sent; a larger frame is made smaller, its labels unblended
_CONFIDENCE_STEP = 4  # confidence is sent at a quarter of the label map's sides
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 82]

Action = Literal["ack", "watch", "pause", "play", "step", "seek"]


class Command(NamedTuple):
    """What a page asks for.

    Attributes:
        action: ``ack`` (a frame is on the screen), ``watch`` (1: send frames, 0: none), ``pause``,
            ``play``, ``step`` (by ``value`` frames), ``seek`` (to frame ``value``).
        value: as above; 0 for the others.
    """

    action: Action
    value: int = 0


_WITH_VALUE = {"watch": (0, 1), "step": (-1000, 1000), "seek": (0, 2**53)}
_BARE = ("ack", "pause", "play")


def parse_command(text: str) -> Command | None:
    """A page's message; None if it is none, since whoever is on the network may send anything."""
    if len(text) > MAX_COMMAND:
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    action, value = content.get("do"), content.get("value", 0)
    if not isinstance(action, str) or type(value) is not int:
        return None
    if action in _WITH_VALUE:
        low, high = _WITH_VALUE[action]
        return Command(action, value) if low <= value <= high else None  # type: ignore[arg-type]
    return Command(action) if action in _BARE else None  # type: ignore[arg-type]


def frame_message(frame: Frame, masks: Masks, facts: dict[str, Any]) -> bytes:
    """A frame with its labels, in bytes.

    Args:
        frame: of any size.
        masks: of any size; sent at the frame's where they are larger.
        facts: more entries of the header.

    Returns:
        Four bytes (length of the header, little-endian), the header in JSON (``index``, ``name``,
        ``width`` and ``height`` of the image, ``labels`` and ``confidence`` as [width, height,
        bytes], ``image`` in bytes, and the facts), the JPEG, the label ids and the confidence, each
        one byte a pixel in raw deflate. A frame without confidence has 0 x 0 of it.
    """
    image, labels = _bounded(frame.bgr, cv2.INTER_AREA), masks.labels
    if max(labels.shape) > max(image.shape[:2]):
        size = (image.shape[1], image.shape[0])
        labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT)
    confidence: np.ndarray = np.empty((0, 0), np.uint8)
    if masks.confidence is not None:
        small = [max(1, side // _CONFIDENCE_STEP) for side in labels.shape[::-1]]
        confidence = cv2.resize(masks.confidence, small, interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", image, _JPEG)[1].tobytes()
    packed_labels, packed_confidence = _deflate(labels), _deflate(confidence)
    header = {
        "index": frame.index,
        "name": frame.name,
        "width": image.shape[1],
        "height": image.shape[0],
        "image": len(jpeg),
        "labels": [labels.shape[1], labels.shape[0], len(packed_labels)],
        "confidence": [confidence.shape[1], confidence.shape[0], len(packed_confidence)],
        **facts,
    }
    text = json.dumps(header).encode()
    return b"".join((struct.pack("<I", len(text)), text, jpeg, packed_labels, packed_confidence))


def _bounded(image: np.ndarray, interpolation: int) -> np.ndarray:
    height, width = image.shape[:2]
    scale = MAX_SIDE / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=interpolation)


def _deflate(pixels: np.ndarray) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    return packer.compress(np.ascontiguousarray(pixels).data) + packer.flush()
