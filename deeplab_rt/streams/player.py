"""A recording as a player shows it: pause, step, seek, and from the start again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

from deeplab_rt.errors import StreamError
from deeplab_rt.frame import Frame
from deeplab_rt.streams.base import FrameSource, Recording

_IDLE_S = 0.03


class Player(Recording):
    """Gives the frames of a recording, from where a viewer wants them.

    ``pause``, ``play``, ``step`` and ``seek`` may be called from any thread, and from several
    viewers: the recording is one, and the newest wish counts. ``idle`` is called now and then while it
    waits, in the thread that takes the frames: for a window, which has its keys read there.
    """

    def __init__(self, open_recording: Callable[[float], FrameSource], loop: bool = False) -> None:
        """Open the recording.

        Args:
            open_recording: opens it so many seconds after its beginning; called again for every
                place that is sought.
            loop: whether the first frame follows the last.

        Raises:
            StreamError: what ``open_recording`` raises.
        """
        self._open = open_recording
        self._source = open_recording(0.0)
        super().__init__(self._source.name, self._source.total, self._source.fps)
        self._keep_warnings()
        self.loop = loop
        self.idle: Callable[[], None] | None = None
        self._changed = threading.Condition()
        self._paused = False
        self._position = -1  # index of the newest frame
        self._steps = 0  # frames to give in spite of the pause
        self._target: int | None = None  # the index sought
        self._closed = False

    @property
    def paused(self) -> bool:
        """Whether it waits."""
        return self._paused

    @property
    def position(self) -> int:
        """Index of the newest frame; -1 before the first."""
        return self._position

    def pause(self) -> None:
        """Give no more frames until told."""
        with self._changed:
            self._paused = True

    def play(self) -> None:
        """Give frames again."""
        with self._changed:
            self._paused, self._steps = False, 0
            self._changed.notify_all()

    def step(self, by: int) -> None:
        """Pause, and give the frame that many after (before, if negative) the newest one."""
        with self._changed:
            self._paused = True
            if by == 1 and self._target is None:
                self._steps += 1
            elif by:
                base = self._position if self._target is None else self._target
                self._seek(base + by)
            self._changed.notify_all()

    def seek(self, index: int) -> None:
        """Go on from the frame of this index; while paused, show it."""
        with self._changed:
            self._seek(index)
            self._changed.notify_all()

    def _seek(self, index: int) -> None:
        last = index if self.total is None else self.total - 1
        self._target, self._steps = max(0, min(index, last)), 0

    def __iter__(self) -> Iterator[Frame]:
        frames = iter(self._source)
        found = False  # whether this pass gave any frame, without which a loop would spin
        while True:
            with self._changed:
                while not self._changed.wait_for(self._due, _IDLE_S if self.idle else None):
                    if self.idle is not None:
                        self.idle()
                if self._closed:
                    return
                target, self._target = self._target, None
                if target is None and self._paused:
                    self._steps -= 1
            if target is not None:
                frames = self._frames_from(target)
            frame = next(frames, None)
            self.dropped = max(self.dropped, self._source.dropped)
            self._keep_warnings()
            if frame is None:
                # Stepping or seeking beyond the end stays there: the person is still looking.
                with self._changed:
                    waits = self._paused and found
                    self._steps = 0
                if waits:
                    continue
                if not (self.loop and found):
                    return
                found, frames = False, self._frames_from(0)
                continue
            found = True
            self._position = frame.index
            yield frame

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._source.close()

    def _due(self) -> bool:
        return self._closed or self._target is not None or not self._paused or self._steps > 0

    def _frames_from(self, index: int) -> Iterator[Frame]:
        """The frames from an index on, of the recording opened again.

        Where the rate is known it is opened there: exactly so if the rate is constant, near it
        elsewhere. Otherwise the frames before are read.
        """
        begin = index if self.fps else 0
        start_s = (begin - 0.5) / self.fps if self.fps and begin else 0.0
        self._source.close()
        try:
            self._source = self._open(start_s)
        except StreamError as error:  # it ends before that place, or is gone
            if str(error) not in self.warnings:
                self.warnings.append(str(error))
            return iter(())
        numbered = (replace(frame, index=begin + frame.index) for frame in self._source)
        return (frame for frame in numbered if frame.index >= index)

    def _keep_warnings(self) -> None:
        """Once each: a recording that loops for days says the same again and again."""
        self.warnings += [text for text in self._source.warnings if text not in self.warnings]
