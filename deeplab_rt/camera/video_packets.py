"""H.264, H.265 and other video codecs that arrive packet by packet, to frames. No ROS.

A packet is one access unit, as ``ffmpeg_image_transport_msgs/FFMPEGPacket`` and
``foxglove_msgs/CompressedVideo`` carry it. A stream joined in the middle gives nothing before its
first key frame.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import av
import numpy as np

from deeplab_rt.errors import FrameError
from deeplab_rt.frame import MAX_PIXELS, check_size

Tag = TypeVar("Tag")
Decoded = list[tuple[Tag, "np.ndarray | FrameError"]]

_CODECS = {
    "h264": ("264", "avc"),
    "hevc": ("265", "hevc"),
    "av1": ("av1",),
    "vp9": ("vp9",),
    "vp8": ("vp8",),
    "mjpeg": ("mjpeg", "jpeg"),
}
_REORDERED = 32  # frames; more than any profile of H.264 or H.265 may hold back


def codec_of(encoding: str) -> str:
    """FFmpeg's name of a codec, from the name of an encoder (``hevc_nvenc``) or a codec (``h265``).

    Raises:
        FrameError: it is unknown.
    """
    name = encoding.split(";")[0].strip().lower()
    for codec, marks in _CODECS.items():
        if any(mark in name for mark in marks):
            return codec
    raise FrameError(f"unknown video codec {encoding[:40]!r}; known: {', '.join(_CODECS)}")


def is_key_frame(data: bytes, codec: str) -> bool | None:
    """Whether decoding can begin with a packet of H.264 or H.265 (Annex B); None for other codecs."""
    if codec == "h264":
        return any(unit & 0x1F in (5, 7) for unit in _unit_heads(data))
    if codec == "hevc":
        return any(
            16 <= (unit >> 1 & 0x3F) <= 21 or unit >> 1 & 0x3F == 33 for unit in _unit_heads(data)
        )
    return None


def _unit_heads(data: bytes) -> Iterator[int]:
    """The first byte of each NAL unit."""
    position = data.find(b"\x00\x00\x01")
    while 0 <= position < len(data) - 3:
        yield data[position + 3]
        position = data.find(b"\x00\x00\x01", position + 3)


class VideoPackets(Generic[Tag]):
    """Decodes one stream. Not thread-safe.

    Attributes:
        waiting: whether the stream waits for a key frame.
    """

    def __init__(self, max_pixels: int = MAX_PIXELS) -> None:
        self._max_pixels = max_pixels
        self._codec = ""
        self._context: Any = None
        self._pending: OrderedDict[int, Tag] = OrderedDict()
        self._count = 0
        self.waiting = True

    def decode(
        self, data: bytes, encoding: str, tag: Tag, key_frame: bool | None = None
    ) -> Decoded[Tag]:
        """Decode one packet.

        Args:
            data: the packet.
            encoding: its codec, as :func:`codec_of` takes it.
            tag: comes back with the packet's frame.
            key_frame: whether the sender says that it is one; None where it says nothing.

        Returns:
            Frames that became ready, each with its packet's tag: uint8 [H, W, 3] BGR, or why there
            is none. With B-frames they come some packets later.
        """
        ready: Decoded[Tag] = []
        try:
            codec = codec_of(encoding)
            if codec != self._codec:
                ready += self.flush()
                self._open(codec)
            starts = is_key_frame(data, codec)
            if starts is None:
                starts = key_frame is not False  # such a codec's decoder knows
            if self.waiting and not starts:
                raise FrameError(
                    f"the {codec} stream was joined in the middle: it waits for its next key frame"
                )
            packet = av.Packet(data)
            packet.pts = packet.dts = self._count
            self._pending[self._count] = tag
            self._count += 1
            self.waiting = False
            ready += self._collect(packet)
        except FrameError as error:
            ready.append((tag, error))
        return ready

    def flush(self) -> Decoded[Tag]:
        """The frames that are held back, at the end of a stream."""
        ready = [] if self._context is None else self._collect(None)
        lost = FrameError("the decoder gave no image for this packet")
        ready += [(tag, lost) for tag in self._pending.values()]
        self._pending.clear()
        self._context, self._codec, self.waiting = None, "", True
        return ready

    def _open(self, codec: str) -> None:
        try:
            context = av.CodecContext.create(codec, "r")
        except av.error.FFmpegError as error:
            raise FrameError(f"PyAV has no decoder for {codec}: {error}") from None
        context.options = {"max_pixels": str(self._max_pixels), "flags": "low_delay"}
        context.thread_type = "SLICE"  # threads by frame would hold frames back
        self._context, self._codec, self.waiting = context, codec, True

    def _collect(self, packet: Any) -> Decoded[Tag]:
        ready: Decoded[Tag] = []
        try:
            frames = self._context.decode(packet)
        except av.error.FFmpegError as error:
            # What follows refers to what is lost; it would be decoded to a smear.
            self.waiting = True
            if packet is not None and packet.pts in self._pending:
                tag = self._pending.pop(packet.pts)
                ready.append((tag, FrameError(f"the packet cannot be decoded: {error}")))
            return ready
        for frame in frames:
            tag_or_none = self._pending.pop(frame.pts, None)
            if tag_or_none is None:
                continue  # a second frame of one packet: it has no stamp of its own
            ready.append((tag_or_none, self._image(frame)))
        while self._pending and next(iter(self._pending)) < self._count - _REORDERED:
            _, tag = self._pending.popitem(last=False)
            ready.append((tag, FrameError("the decoder gave no image for this packet")))
        return ready

    def _image(self, frame: Any) -> np.ndarray | FrameError:
        try:
            check_size(frame.height, frame.width, self._max_pixels)
        except FrameError as error:
            return error
        if frame.is_corrupt:
            return FrameError("the frame is damaged: a packet that it refers to is missing")
        image: np.ndarray = frame.to_ndarray(format="bgr24")
        return image
