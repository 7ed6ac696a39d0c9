"""A window on this machine's display."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2

from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.streams.base import Stopped
from deeplab_rt.streams.overlays import frame_overlay, legend
from deeplab_rt.streams.stats import RunStats

_TITLE = "deeplab_rt"
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def no_display() -> str | None:
    """Why no window can be opened here, or None if one can."""
    if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        return "there is no display (DISPLAY is not set)"
    # The window toolkit ends the whole process where it finds no display, so a child asks first.
    code = "import cv2; cv2.namedWindow('probe'); cv2.destroyAllWindows()"
    probe = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    if probe.returncode:
        return f"the display {os.environ.get('DISPLAY', '')} takes no window"
    return None


class Window:
    """Shows every overlay with the legend and the stats; q, Esc or closing it ends the stream."""

    def __init__(self, labels: LabelSet, stats: RunStats) -> None:
        self._labels = labels
        self._figures = stats
        # Qt inside OpenCV's wheel finds no fonts and says so for every window; it draws none either.
        os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")
        cv2.namedWindow(_TITLE, cv2.WINDOW_AUTOSIZE | cv2.WINDOW_GUI_NORMAL)

    def write(self, frame: Frame, masks: Masks) -> None:
        """Show one frame.

        Raises:
            Stopped: the window was closed.
        """
        picture = frame_overlay(frame, masks, self._labels)
        for color, thickness in ((0, 0, 0), 3), ((255, 255, 255), 1):  # readable on any picture
            line = self._figures.line()
            cv2.putText(picture, line, (8, 20), _FONT, 0.5, color, thickness, cv2.LINE_AA)
        cv2.imshow(_TITLE, cv2.vconcat([picture, legend(self._labels, picture.shape[1])]))
        key = cv2.waitKey(1) & 0xFF
        if key in (ord("q"), 27) or cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) < 1:
            raise Stopped

    def close(self) -> None:
        cv2.destroyAllWindows()
