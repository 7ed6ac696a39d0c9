"""Drivable area and objects from camera frames at video rate: DeepLab V3+ for ROS 2.

The names that most programs need::

    from deeplab_rt import Frame, LabelSet, Masks, Segmenter

    segmenter = Segmenter()  # the default model, the best backend of this machine
    masks = segmenter.segment(frame_bgr)  # masks.labels, masks.drivable, masks.objects

They are imported on first use, so that ``import deeplab_rt`` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deeplab_rt.frame import Frame
    from deeplab_rt.labels import LabelSet
    from deeplab_rt.masks import Masks
    from deeplab_rt.segmenter import Segmenter

__version__ = "0.2.0"
__all__ = ["Frame", "LabelSet", "Masks", "Segmenter", "__version__"]

_MODULES = {"Frame": "frame", "LabelSet": "labels", "Masks": "masks", "Segmenter": "segmenter"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"deeplab_rt.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
