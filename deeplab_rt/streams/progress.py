"""How far a stream is."""

from __future__ import annotations

from deeplab_rt.progress import ProgressBar
from deeplab_rt.streams.base import FrameSource
from deeplab_rt.streams.stats import RunStats


class Progress(ProgressBar):
    """Called after every frame."""

    def __init__(self, source: FrameSource) -> None:
        super().__init__(source.total, "frames")

    def __call__(self, stats: RunStats) -> None:
        self.update(stats.frames, stats.line())
