"""Frames from a source through a segmenter into sinks: what ``replay`` and ``webcam`` do."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from deeplab_rt.errors import StreamError
from deeplab_rt.frame import Frame
from deeplab_rt.masks import Masks
from deeplab_rt.segmenter import Segmenter
from deeplab_rt.streams.base import FrameSource, MaskSink, Stopped
from deeplab_rt.streams.pipeline import (
    FrameReader,
    FrameResult,
    SinkWriters,
    short_switch_interval,
)
from deeplab_rt.streams.signals import InterruptSignals
from deeplab_rt.streams.stats import RunStats


def replay(
    source: FrameSource,
    segmenter: Segmenter,
    sinks: Sequence[MaskSink] | Mapping[str, MaskSink],
    stats: RunStats | None = None,
    on_frame: Callable[[RunStats], None] | None = None,
    frames: int | None = None,
    seconds: float | None = None,
) -> tuple[RunStats, bool]:
    """Segment every frame of a recording, in order; of a camera, always the newest.

    A recording is read, segmented and written by overlapped threads (see
    :mod:`~deeplab_rt.streams.pipeline`), unless a :class:`RealTime` sink paces it for a viewer. The
    sinks are closed in every case, so that what was written is readable. In the main thread, SIGINT
    and SIGTERM end the stream between two frames, never in the middle of writing one.

    Args:
        source: is read to its end, and not closed.
        segmenter: with masks of the frame's size.
        sinks: each takes every frame; closed at the end. A mapping names them for the stats.
        stats: where to count; None for new ones.
        on_frame: called after every frame that was written.
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
    named = sinks if isinstance(sinks, Mapping) else _named(sinks)
    paced = any(isinstance(sink, RealTime) for sink in named.values())
    run = _run_in_turn if source.live or paced else _run_overlapped
    interrupted = False
    with InterruptSignals() as signals:
        stats.begin()
        try:
            run(source, segmenter, named, stats, signals, on_frame, frames, seconds)
        except Stopped:
            pass
        except KeyboardInterrupt:
            interrupted = True
        finally:
            stats.end()
    if not stats.frames and not interrupted:
        reason = source.warnings[0] if source.warnings else "it is empty"
        raise StreamError(f"{source.name}: gave no frame: {reason}")
    return stats, interrupted


def _named(sinks: Sequence[MaskSink]) -> dict[str, MaskSink]:
    names = [type(sink).__name__ for sink in sinks]
    return {
        name if names.count(name) == 1 else f"{name} {index}": sink
        for index, (name, sink) in enumerate(zip(names, sinks, strict=True))
    }


def _run_overlapped(
    source: FrameSource,
    segmenter: Segmenter,
    sinks: Mapping[str, MaskSink],
    stats: RunStats,
    signals: InterruptSignals,
    on_frame: Callable[[RunStats], None] | None,
    frames: int | None,
    seconds: float | None,
) -> None:
    """Every frame of a recording, by threads that do not wait for each other."""

    def count_written() -> None:
        for result in writers.written():
            stats.add(result.stages_ms)
            if on_frame is not None:
                on_frame(stats)

    def count_threads() -> None:
        elapsed = max(stats.elapsed_s, 1e-9)
        busy = {"read": reader.busy_s, "network": elapsed - reader.waited_s - writers.waited_s}
        busy |= {f"write {name}": seconds for name, seconds in writers.busy_s.items()}
        stats.threads = {name: seconds / elapsed for name, seconds in busy.items()}

    writers, reader = SinkWriters(sinks), FrameReader(source)
    with short_switch_interval(), ExitStack() as stack:
        stack.callback(count_threads)
        stack.callback(count_written)
        stack.callback(writers.close)
        stack.callback(reader.close)
        results = stack.enter_context(closing(_segmented(reader, segmenter)))
        given = 0
        while given != frames and (seconds is None or stats.elapsed_s < seconds):
            with signals.interruptible():
                result = next(results, None)
            if result is None:
                break
            writers.put(result)
            given += 1
            count_written()
        reader.check()


def _segmented(reader: FrameReader, segmenter: Segmenter) -> Generator[FrameResult, None, None]:
    """Every frame that the reader gives with its masks and the milliseconds of its stages."""
    decode_ms: deque[float] = deque()

    def decoded() -> Iterator[Frame]:
        for frame, took_ms in reader:
            decode_ms.append(took_ms)
            yield frame

    with closing(segmenter.stream(decoded())) as results:
        for frame, masks in results:
            yield FrameResult(frame, masks, {"decode": decode_ms.popleft(), **masks.timings})


def _run_in_turn(
    source: FrameSource,
    segmenter: Segmenter,
    sinks: Mapping[str, MaskSink],
    stats: RunStats,
    signals: InterruptSignals,
    on_frame: Callable[[RunStats], None] | None,
    frames: int | None,
    seconds: float | None,
) -> None:
    """One frame at a time: at a camera's pace one in flight behind another is late by a period."""
    with ExitStack() as stack:
        for sink in sinks.values():
            stack.callback(sink.close)
        taken = iter(source)
        while stats.frames != frames and (seconds is None or stats.elapsed_s < seconds):
            with signals.interruptible():
                begun = time.perf_counter()
                frame = next(taken, None)
                if frame is None:
                    break
                decode_ms = 1e3 * (time.perf_counter() - begun)
                masks = segmenter.segment(frame)
            if source.live:
                stages = {"age": (time.time_ns() - frame.stamp_ns) / 1e6}
            else:
                stages = {"decode": decode_ms}
            started = time.perf_counter()
            for sink in sinks.values():
                sink.write(frame, masks)
            stages["write"] = 1e3 * (time.perf_counter() - started)
            stats.add({**masks.timings, **stages})
            if on_frame is not None:
                on_frame(stats)


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


class RealTime:
    """A sink that writes nothing and makes a recording last as long as it did, for viewers."""

    LONGEST_S = 2.0  # a longer pause in the recording is skipped

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
