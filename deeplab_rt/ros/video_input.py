"""Images that arrive as packets of a video codec: one stream of one camera."""

from __future__ import annotations

from typing import Any

import numpy as np
from std_msgs.msg import Header

from deeplab_rt.camera.encodings import stamp_ns_of
from deeplab_rt.camera.video_packets import VideoPackets
from deeplab_rt.errors import FrameError
from deeplab_rt.frame import Frame

_KEY = 1  # AV_PKT_FLAG_KEY, in the flags of an FFMPEGPacket

Arrival = tuple[Any, float]
"""Header of a packet, and time.perf_counter() of its arrival."""


class VideoInput:
    """Decodes every packet in order, as each refers to those before it."""

    def __init__(self) -> None:
        self._packets: VideoPackets[Arrival] = VideoPackets()

    def decode(
        self, message: Any, received: float
    ) -> list[tuple[Arrival, np.ndarray | FrameError]]:
        """Frames that became ready with a packet, each under the header of its own packet.

        Args:
            message: ``ffmpeg_image_transport_msgs/FFMPEGPacket`` or ``foxglove_msgs/CompressedVideo``.
            received: time.perf_counter() of its arrival.

        Returns:
            Arrival and uint8 [H, W, 3] BGR, or why there is no frame of that packet.
        """
        data = bytes(message.data)
        if hasattr(message, "encoding"):
            arrival = message.header, received
            return self._packets.decode(
                data, message.encoding, arrival, bool(message.flags & _KEY) or None
            )
        header = Header(stamp=message.timestamp, frame_id=message.frame_id)
        return self._packets.decode(data, message.format, (header, received))

    def close(self) -> int:
        """Free the decoder; returns how many frames it held back."""
        return len(self._packets.flush())


def frame_of(image: np.ndarray, header: Any, camera: str) -> Frame:
    """A decoded image as a frame."""
    stamp_ns = stamp_ns_of(header)
    return Frame(image, stamp_ns=stamp_ns, frame_id=header.frame_id, camera=camera)
