"""Drivable area and objects from camera frames at video rate: DeepLab V3+ for ROS 2.

The three names most programs need::

    from deeplab_rt import Segmenter

    segmenter = Segmenter()  # the default model, the best backend of this machine
    masks = segmenter.segment(frame_bgr)  # masks.labels, masks.drivable, masks.objects

Submodules are imported on first use, so that ``import deeplab_rt`` stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deeplab_rt.masks import Masks
    from deeplab_rt.segmenter import Segmenter

__version__ = "0.1.0"
__all__ = ["Masks", "Segmenter", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Segmenter":
        from deeplab_rt.segmenter import Segmenter

        return Segmenter
    if name == "Masks":
        from deeplab_rt.masks import Masks

        return Masks
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
