"""A window on this machine's display, with the keys of the page."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

import cv2
import numpy as np

from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.streams.base import Stopped
from deeplab_rt.streams.overlays import DARK, LIGHT, OverlayStyle, draw_overlay, legend
from deeplab_rt.streams.player import Player
from deeplab_rt.streams.stats import RunStats

TITLE = "deeplab_rt"
_FONT, _FONT_SIZE, _LINE = cv2.FONT_HERSHEY_SIMPLEX, 0.5, 24
_NARROWEST, _WIDEST = 480, 1600  # pixels: the status needs them; a screen has them
_KEPT_BYTES = 64 << 20  # of frames of a camera that can be looked at again
_STEP = 0.05  # of the opacity
_ARROWS = {65361: "left", 65362: "up", 65363: "right", 65364: "down", 65360: "home", 65367: "end"}
KEYS = (
    ("Space", "pause, go on"),
    ("left right , .", "one frame back, forward"),
    ("[ ]", "5 seconds back, forward (recordings)"),
    ("Home End", "first, last frame (recordings)"),
    ("a d o", "all classes, drivable area, objects"),
    ("1 ... 0", "show or hide one of the first ten classes"),
    ("+ - up down", "more or less colour"),
    ("c b", "contours, side by side"),
    ("s", "save the image and its label map here"),
    ("f", "full screen"),
    ("?", "this list"),
    ("q Esc", "end"),
)


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


def text_strip(lines: Sequence[tuple[str, ...]], width: int, column: int = 0) -> np.ndarray:
    """Lines of text on a dark ground, uint8 [H, width, 3] BGR.

    The parts of a line begin ``column`` pixels after each other. On the image itself they would need
    an outline, and OpenCV 5 spaces the letters of a thick line otherwise than those of a thin one.
    """
    strip = np.full((_LINE * len(lines), width, 3), DARK, np.uint8)
    for row, parts in enumerate(lines):
        for index, text in enumerate(parts):
            place = (8 + column * index, _LINE * row + 17)
            cv2.putText(strip, text, place, _FONT, _FONT_SIZE, LIGHT, 1, cv2.LINE_AA)
    return strip


class Window:
    """Shows every overlay with legend and stats, as its keys say; q, Esc or closing it ends the stream.

    A recording pauses by its player. A camera goes on: what was on the screen stays there.
    """

    def __init__(self, labels: LabelSet, stats: RunStats, player: Player | None = None) -> None:
        """Open the window.

        Args:
            labels: of the masks.
            stats: of the stream.
            player: of a recording; its ``idle`` becomes this window's :meth:`poll`.
        """
        self._labels, self._stats, self._player = labels, stats, player
        self._style = OverlayStyle()
        self._hidden = np.zeros(256, np.uint8)  # label id -> 255 if its class is hidden
        self._kept: deque[tuple[Frame, Masks]] = deque()
        self._at = -1  # the one shown of them, from the newest: -1, -2 ...
        self._frozen = False  # a camera's image
        self._help = False
        self._note = ""
        self._size = (0, 0)  # of the window's content
        if player is not None:
            player.idle = self.poll
        # Qt inside OpenCV's wheel finds no fonts and says so for every window; it draws none either.
        os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")
        cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        self._actions = self._bind()

    @property
    def paused(self) -> bool:
        """Whether the image stands still because somebody wants it to."""
        return self._frozen if self._player is None else self._player.paused

    def write(self, frame: Frame, masks: Masks) -> None:
        """Show one frame, unless a camera's image is frozen.

        Raises:
            Stopped: the window was closed.
        """
        if not self._frozen:
            self._keep(frame, masks)
            self._draw()
        self.poll()

    def poll(self) -> None:
        """Do what the keys say; while nothing comes, this is to be called now and then.

        Raises:
            Stopped: the window was closed.
        """
        key = cv2.waitKeyEx(1)
        name = _ARROWS.get(key, chr(key & 0xFF) if key != -1 else "")
        if name in ("q", "\x1b") or cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1:
            raise Stopped
        if name in self._actions and self._kept:
            self._note = ""
            self._actions[name]()
            self._draw()

    def close(self) -> None:
        cv2.destroyAllWindows()

    def _bind(self) -> dict[str, Callable[[], None]]:
        def style(**change: object) -> Callable[[], None]:
            return lambda: self._restyle(**change)

        def step(by: int) -> Callable[[], None]:
            return lambda: self._step(by)

        actions: dict[str, Callable[[], None]] = {
            " ": self._toggle_pause,
            **dict.fromkeys(("left", ","), step(-1)),
            **dict.fromkeys(("right", "."), step(1)),
            "[": lambda: self._jump(-5),
            "]": lambda: self._jump(5),
            "home": lambda: self._seek(0),
            "end": lambda: self._seek(1 << 53),
            "a": self._show_all,
            "d": style(only="drivable"),
            "o": style(only="objects"),
            **dict.fromkeys(
                ("+", "=", "up"), lambda: self._restyle(alpha=self._style.alpha + _STEP)
            ),
            **dict.fromkeys(("-", "down"), lambda: self._restyle(alpha=self._style.alpha - _STEP)),
            "c": lambda: self._restyle(contours=not self._style.contours),
            "b": lambda: self._restyle(side_by_side=not self._style.side_by_side),
            "s": self._save,
            "f": self._full_screen,
            "?": self._toggle_help,
        }
        for index in range(min(10, len(self._labels))):
            actions[str((index + 1) % 10)] = lambda label=index + 1: self._toggle_label(label)  # type: ignore[misc]
        return actions

    def _restyle(self, **change: object) -> None:
        if "alpha" in change:
            change["alpha"] = min(1.0, max(0.0, float(change["alpha"])))  # type: ignore[arg-type]
        self._style = replace(self._style, **change)  # type: ignore[arg-type]

    def _show_all(self) -> None:
        self._hidden.fill(0)
        self._restyle(only=None)

    def _toggle_label(self, label: int) -> None:
        self._hidden[label] ^= 255

    def _toggle_help(self) -> None:
        self._help = not self._help

    def _toggle_pause(self) -> None:
        if self._player is None:
            self._frozen, self._at = not self._frozen, -1
        elif self._player.paused:
            self._player.play()
        else:
            self._player.pause()

    def _step(self, by: int) -> None:
        if self._player is not None:
            self._player.step(by)
            return
        self._frozen = True
        self._at = min(-1, max(-len(self._kept), self._at + by))

    def _jump(self, seconds: float) -> None:
        if self._player is not None:
            self._seek(self._player.position + round(seconds * (self._player.fps or 30)))

    def _seek(self, index: int) -> None:
        if self._player is not None:
            self._player.seek(index)

    def _full_screen(self) -> None:
        full = cv2.getWindowProperty(TITLE, cv2.WND_PROP_FULLSCREEN) == cv2.WINDOW_FULLSCREEN
        cv2.setWindowProperty(
            TITLE, cv2.WND_PROP_FULLSCREEN, cv2.WINDOW_NORMAL if full else cv2.WINDOW_FULLSCREEN
        )

    def _save(self) -> None:
        """The image and its label map into the working directory; nothing is replaced."""
        frame, masks = self._kept[self._at]
        stem = (
            frame.name or f"{PurePath(self._stats.source.name).stem or 'camera'}_{frame.index:06d}"
        )
        written = []
        for path, image in (
            (Path(f"{stem}.jpg"), frame.bgr),
            (Path(f"{stem}.labels.png"), masks.labels),
        ):
            try:
                with path.open("xb") as file:
                    file.write(cv2.imencode(path.suffix, image)[1].tobytes())
            except OSError as error:
                self._note = f"{path}: {error.strerror}"
                return
            written.append(str(path))
        self._note = f"saved {' and '.join(written)}"

    def _keep(self, frame: Frame, masks: Masks) -> None:
        size = frame.image.nbytes + 3 * masks.labels.nbytes
        most = 1 if self._player is not None else max(1, _KEPT_BYTES // size)
        self._kept.append((frame, masks))
        while len(self._kept) > most:
            self._kept.popleft()
        self._at = -1

    def _draw(self) -> None:
        content = self.content()
        size = (content.shape[1], content.shape[0])
        if size != self._size:  # side by side, or another camera
            self._size = size
            scale = min(1.0, _WIDEST / size[0])
            cv2.resizeWindow(TITLE, round(scale * size[0]), round(scale * size[1]))
        cv2.imshow(TITLE, content)

    def content(self) -> np.ndarray:
        """What the window shows: the overlay, the status under it, the legend; uint8 [H, W, 3] BGR."""
        frame, masks = self._kept[self._at]
        image = frame.bgr
        drawn = draw_overlay(frame, masks, self._labels, replace(self._style, side_by_side=False))
        if self._hidden.any():
            size = (image.shape[1], image.shape[0])
            label_map = cv2.resize(masks.labels, size, interpolation=cv2.INTER_NEAREST_EXACT)
            drawn = cv2.copyTo(image, self._hidden[label_map], drawn)
        if self._style.side_by_side:
            drawn = np.hstack([image, drawn])
        if drawn.shape[1] < _NARROWEST:
            drawn = cv2.copyMakeBorder(
                drawn, 0, 0, 0, _NARROWEST - drawn.shape[1], cv2.BORDER_CONSTANT, value=DARK
            )
        height, width = drawn.shape[:2]
        if self._help:
            panel = text_strip(KEYS, _NARROWEST, 140)[:height]
            drawn[: len(panel), :_NARROWEST] = panel
        strip = text_strip([(self._note or self._status(frame),)], width)
        return np.asarray(cv2.vconcat([drawn, strip, legend(self._labels, width)]), np.uint8)

    def _status(self, frame: Frame) -> str:
        if not self.paused:
            return f"{self._stats.line()}  ? keys"
        total = self._stats.source.total
        return f"paused at frame {frame.index + 1}{f' of {total}' if total else ''}"
