"""The node on a device that can be made to fail: a stand-in, since no CPU can be pulled out.

A frame whose first pixel is black plays the device's death.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from deeplab_rt.backends.base import MaskRequest
from deeplab_rt.backends.openvino import OpenVINOBackend
from deeplab_rt.errors import BackendError
from deeplab_rt.frame import Frame
from deeplab_rt.ros.node import main

submit = OpenVINOBackend.submit


def dying_submit(self: OpenVINOBackend, frames: Sequence[Frame], request: MaskRequest) -> None:
    if not frames[0].image[0, 0].any():
        raise BackendError("the device was pulled out")
    submit(self, frames, request)


OpenVINOBackend.submit = dying_submit  # type: ignore[method-assign]
sys.exit(main())
