"""Frames from a source through a segmenter into sinks: what ``replay`` and ``webcam`` do."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from deeplab_rt.errors import StreamError
from deeplab_rt.frame import Frame
from deeplab_rt.masks import Masks
from deeplab_rt.segmenter import Segmenter
from deeplab_rt.streams.base import FrameSource, MaskSink, Stopped
from deeplab_rt.streams.stats import RunStats


def replay(
    source: FrameSource,
    segmenter: Segmenter,
    sinks: Sequence[MaskSink],
    stats: RunStats | None = None,
    on_frame: Callable[[RunStats], None] | None = None,
    frames: int | None = None,
    seconds: float | None = None,
) -> tuple[RunStats, bool]:
    """Segment every frame of a recording, in order; of a camera, always the newest.

    The next frame is decoded while the network works, unless :class:`RealTime` keeps a recording at
    its own pace. The sinks are closed in every case, so that what was written is readable. In the
    main thread, SIGINT and SIGTERM end the stream between two frames, never in the middle of writing
    one.

    Args:
        source: is read to its end, and not closed.
        segmenter: with masks of the frame's size.
        sinks: each takes every frame; closed at the end.
        stats: where to count; None for new ones.
        on_frame: called after every frame.
        frames: stop after so many.
        seconds: stop after so long.

    Returns:
        The stats, and whether the stream was interrupted. Stages: ``preprocess``, ``network``,
        ``labels`` and ``total`` (from submission to masks) as the segmenter gives them, ``write``
        (all sinks); for a recording ``decode``; for a camera ``age`` (from its stamp to the masks).

    Raises:
        StreamError: an output failed, or the source gave no frame at all.
        BackendError: the device failed.
    """
    stats = stats or RunStats(source)
    interrupted = False
    with _Signals() as signals, ExitStack() as stack:
        for sink in sinks:
            stack.callback(sink.close)
        stats.begin()
        try:
            watched = any(isinstance(sink, RealTime) for sink in sinks)
            results = stack.enter_context(closing(_segmented(source, segmenter, watched)))
            while stats.frames != frames and (seconds is None or stats.elapsed_s < seconds):
                with signals.interruptible():
                    result = next(results, None)
                if result is None:
                    break
                frame, masks, stages = result
                started = time.perf_counter()
                for sink in sinks:
                    sink.write(frame, masks)
                stats.add({**stages, "write": 1e3 * (time.perf_counter() - started)})
                if on_frame is not None:
                    on_frame(stats)
        except Stopped:
            pass
        except KeyboardInterrupt:
            interrupted = True
        stack.close()
        stats.end()
    if not stats.frames and not interrupted:
        reason = source.warnings[0] if source.warnings else "it is empty"
        raise StreamError(f"{source.name}: gave no frame: {reason}")
    return stats, interrupted


def summary(stats: RunStats, segmenter: Segmenter, outputs: Mapping[str, Path]) -> dict[str, Any]:
    """What ``--json`` prints of a run.

    Args:
        stats: of the run.
        segmenter: that did it.
        outputs: kind of output (``bag``, ``masks``, ``overlay``) -> path; one that was never begun
            is left out.
    """
    info = segmenter.info
    return {
        "input": stats.source.name,
        "output": {kind: str(path) for kind, path in outputs.items() if path.exists()},
        **stats.report(),
        "model": segmenter.model.name,
        "backend": info.name,
        "device": info.device,
        "precision": info.precision,
        "network_size": str(info.input_size),
        "warnings": stats.source.warnings,
    }


def _segmented(
    source: FrameSource, segmenter: Segmenter, watched: bool
) -> Generator[tuple[Frame, Masks, dict[str, float]], None, None]:
    """Every frame with its masks and the milliseconds of its stages; a recording that is watched
    frame by frame."""
    # At a camera's pace one at a time: a frame in flight behind another would be late by a period.
    if source.live:
        for frame in source:
            masks = segmenter.segment(frame)
            yield frame, masks, {**masks.timings, "age": (time.time_ns() - frame.stamp_ns) / 1e6}
        return
    decode_ms: deque[float] = deque()

    def decoded() -> Iterator[Frame]:
        frames = iter(source)
        while True:
            started = time.perf_counter()
            frame = next(frames, None)
            if frame is None:
                return
            decode_ms.append(1e3 * (time.perf_counter() - started))
            yield frame

    if watched:
        pairs = ((frame, segmenter.segment(frame)) for frame in decoded())
    else:
        pairs = segmenter.stream(decoded())
    with closing(pairs) as results:
        for frame, masks in results:
            yield frame, masks, {"decode": decode_ms.popleft(), **masks.timings}


class RealTime:
    """A sink that writes nothing and makes a recording last as long as it did, for viewers."""

    LONGEST_S = 2.0  # a longer pause in the recording is not sat through

    def __init__(self) -> None:
        self._stamp_ns = 0
        self._due = 0.0  # on the monotonic clock, of the newest frame

    def write(self, frame: Frame, masks: Masks) -> None:
        """Wait until it is the frame's turn."""
        step_s = (frame.stamp_ns - self._stamp_ns) / 1e9
        self._stamp_ns = frame.stamp_ns
        now = time.monotonic()
        self._due = self._due + step_s if 0 < step_s <= self.LONGEST_S else now
        if now < self._due:
            time.sleep(self._due - now)
        else:
            self._due = now  # the network is slower than the recording: nothing to catch up

    def close(self) -> None: ...


class _Signals:
    """SIGINT and SIGTERM become KeyboardInterrupt, but only where they are listened to.

    Elsewhere (a frame is being written, a bag closed) they are noted and come at the next place.
    Signals that the process ignores, and threads other than the main one, are left alone.
    """

    def __init__(self) -> None:
        self._noted = False
        self._hearing = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Raise KeyboardInterrupt inside, at once, or for a signal that came before."""
        if self._noted:
            raise KeyboardInterrupt
        self._hearing = True
        try:
            yield
        finally:
            self._hearing = False

    def _note(self, number: int, stack: object) -> None:
        self._noted = True
        if self._hearing:
            raise KeyboardInterrupt
