"""Images as serialised messages, with one copy of their pixels instead of three.

rclpy copies an image from the array to the message, to its C structure and to the serialised
message. The last of these can be made at once: ``data`` is the last field of ``sensor_msgs/Image``,
so a serialised image is that of one without pixels, the pixels' number in the place of 0, and they.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from deeplab_rt.camera.encodings import describe_image


def serialise_image(header: Any, image: np.ndarray, encoding: str) -> bytes:
    """What ``serialize_message`` gives for an image message, for ``Publisher.publish``: CDR in the
    machine's byte order (OMG DDSI-RTPS 2.5, section 10).

    Args:
        header: ``std_msgs/Header``.
        image: uint8 [H, W] or [H, W, C].
        encoding: its name; not checked against the array.
    """
    message = Image(header=header)
    describe_image(message, image, encoding)
    empty = bytes(serialize_message(message))
    pixels = np.ascontiguousarray(image)
    return b"".join((empty[:-4], pixels.nbytes.to_bytes(4, sys.byteorder), pixels.data))
