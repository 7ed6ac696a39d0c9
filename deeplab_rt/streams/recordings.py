"""One recording, or several as one, opened as a replay's settings want them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path

from deeplab_rt.errors import StreamError
from deeplab_rt.frame import Frame
from deeplab_rt.streams.base import FrameSource, Recording
from deeplab_rt.streams.settings import ReplaySettings
from deeplab_rt.streams.sources import open_recording


def open_selected(path: str | Path, settings: ReplaySettings) -> FrameSource:
    """Open a recording with the topics and the selection of a replay.

    Raises:
        StreamError: it cannot be read, or is a camera.
    """
    return open_recording(path, options=replace(settings.read, raw=settings.with_input))


def open_recordings(
    paths: Sequence[str | Path], settings: ReplaySettings, offset_stamps: bool = False
) -> FrameSource:
    """Open one or several recordings as one source, one after the other.

    All are opened at once, so that a wrong name shows before any work is done.

    Args:
        paths: the recordings.
        settings: which of their frames are taken.
        offset_stamps: let each recording begin where the one before it ends.

    Raises:
        StreamError: as :func:`open_selected`; or a recording begins before the one before it, and
            stamps are not offset.
    """
    sources: list[FrameSource] = []
    try:
        for path in paths:
            sources.append(open_selected(path, settings))
        if len(sources) == 1:
            return sources[0]
        stamped = "bag" in settings.kinds  # other outputs do not carry the stamps
        return ChainedRecordings(sources, offset_stamps, in_order=stamped)
    except BaseException:
        for source in sources:
            source.close()
        raise


class ChainedRecordings(Recording):
    """Recordings one after the other; indices go on counting, stamps never run backwards."""

    def __init__(
        self, sources: Sequence[FrameSource], offset_stamps: bool = False, in_order: bool = True
    ) -> None:
        """Read the first frame of each.

        Args:
            sources: the recordings.
            offset_stamps: let each begin where the one before it ends.
            in_order: refuse stamps that run backwards from one to the next.

        Raises:
            StreamError: they would.
        """
        totals = [source.total for source in sources]
        total = None if None in totals else sum(n for n in totals if n is not None)
        super().__init__(", ".join(source.name for source in sources), total, sources[0].fps)
        self._sources = sources
        self._offset_stamps = offset_stamps
        self._in_order = in_order and not offset_stamps
        self._begun: list[tuple[FrameSource, Frame | None, Iterator[Frame]]] = []
        for source in sources:
            frames = iter(source)
            self._begun.append((source, next(frames, None), frames))
            self.warnings += source.warnings
            source.warnings = self.warnings  # one list, so that none is late
        if self._in_order:
            present = [(s, first) for s, first, _ in self._begun if first is not None]
            for (one, first), (other, second) in pairwise(present):
                if second.stamp_ns <= first.stamp_ns:
                    raise StreamError(_backwards(one, other))

    @property
    def names(self) -> list[str]:
        """What the frames of image folders are named; those of other recordings are numbered."""
        return [name for source in self._sources for name in getattr(source, "names", ())]

    def __iter__(self) -> Iterator[Frame]:
        index, newest_ns, period_ns = 0, None, round(1e9 / (self.fps or 30.0))
        for number, (source, first, frames) in enumerate(self._begun):
            if first is not None:
                shift_ns = 0
                if newest_ns is not None and self._offset_stamps:
                    shift_ns = newest_ns + period_ns - first.stamp_ns
                elif newest_ns is not None and self._in_order and first.stamp_ns <= newest_ns:
                    raise StreamError(_backwards(self._sources[number - 1], source))
                given, end = 0, index
                for frame in chain([first], frames):
                    self.dropped = sum(other.dropped for other in self._sources)
                    frame = _shifted(frame, index, shift_ns)
                    newest_ns = max(frame.stamp_ns, newest_ns or frame.stamp_ns)
                    given, end = given + 1, frame.index + 1
                    yield frame
                index = max(end, index + given + source.dropped)
            self.dropped = sum(other.dropped for other in self._sources)
            source.close()

    def close(self) -> None:
        for source in self._sources:
            source.close()


def _shifted(frame: Frame, index: int, shift_ns: int) -> Frame:
    if not index and not shift_ns:
        return frame
    log_ns = None if frame.log_ns is None else frame.log_ns + shift_ns
    return replace(
        frame, index=index + frame.index, stamp_ns=frame.stamp_ns + shift_ns, log_ns=log_ns
    )


def _backwards(one: FrameSource, other: FrameSource) -> str:
    return (
        f"{other.name} begins before {one.name} ends: the stamps of one output would run backwards; "
        "--out-dir gives each an output of its own, --offset-stamps lets it begin where the other ends"
    )
