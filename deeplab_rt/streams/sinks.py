"""The outputs of a replay, opened from its settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deeplab_rt.errors import StreamError
from deeplab_rt.labels import LabelSet
from deeplab_rt.segmenter import Segmenter
from deeplab_rt.streams.bag_reader import BagImages
from deeplab_rt.streams.bag_writer import BagSink
from deeplab_rt.streams.base import FrameSource, MaskSink
from deeplab_rt.streams.overlay_video import OverlayVideo
from deeplab_rt.streams.png import PngSink, check_names
from deeplab_rt.streams.report.sink import ReportSink, about_run
from deeplab_rt.streams.settings import ReplaySettings
from deeplab_rt.streams.video import VideoFile


class InputBagSink(BagSink):
    """A masks bag that holds the messages of the input too, those after its last frame included."""

    def __init__(
        self,
        path: Path,
        labels: LabelSet,
        overwrite: bool,
        with_input: bool,
        source: FrameSource,
    ) -> None:
        """As :class:`~deeplab_rt.streams.bag_writer.BagSink`; ``source`` is that of the frames."""
        super().__init__(path, labels, overwrite, with_input=with_input)
        self._source = source

    def close(self) -> None:
        try:
            if isinstance(self._source, BagImages):
                self.add_messages(self._source.rest())
        finally:
            super().close()


def open_sinks(
    paths: Mapping[str, Path],
    segmenter: Segmenter,
    settings: ReplaySettings,
    source: FrameSource,
    overwrite: bool = False,
) -> dict[str, MaskSink]:
    """One sink for every output.

    Args:
        paths: kind of output (see :data:`~deeplab_rt.streams.settings.KINDS`) -> path.
        segmenter: of the masks.
        settings: what is written, and how.
        source: of the frames to come.
        overwrite: whether outputs that exist are replaced.

    Raises:
        StreamError: an output exists and may not be replaced, or cannot be written.
    """
    labels = segmenter.labels
    sinks: dict[str, MaskSink] = {}
    if "bag" in paths:
        sinks["bag"] = InputBagSink(paths["bag"], labels, overwrite, settings.with_input, source)
    if "masks" in paths:
        check_names(getattr(source, "names", ()), paths["masks"])
        sinks["masks"] = PngSink(paths["masks"], labels, overwrite, settings.color)
    if "overlay" in paths:
        if len(getattr(source, "topics", ())) > 1:
            raise StreamError(
                f"{paths['overlay']}: an overlay video shows one camera; choose one of the topics: "
                f"{', '.join(source.topics)}"  # type: ignore[attr-defined]
            )
        sound = Path(source.name) if isinstance(source, VideoFile) else None
        sinks["overlay"] = OverlayVideo(
            paths["overlay"], labels, overwrite, settings.style, source.fps, sound
        )
    if "report" in paths:
        about = about_run(segmenter, settings)
        sinks["report"] = ReportSink(paths["report"], labels, source, about, overwrite)
    return sinks


def warnings_of(sinks: Mapping[str, MaskSink]) -> list[str]:
    """What the outputs want the user to be told at the end."""
    return [text for sink in sinks.values() for text in getattr(sink, "warnings", ())]
