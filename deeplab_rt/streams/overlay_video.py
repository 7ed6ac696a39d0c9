"""The overlays of a stream as an H.264 video that every player plays.

While it is written, an .mp4 is fragmented: what reached the disk is readable when the process is
killed. When it is closed, it is copied, without encoding anew, into a file whose index stands in
front, so that a browser plays it before it is loaded, and the clip's sound is added.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from deeplab_rt.errors import StreamError
from deeplab_rt.files import PartialFile, leftovers
from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.streams.outputs import Claim, check_new_file, check_space, writing
from deeplab_rt.streams.overlays import DARK, OverlayStyle, draw_overlay, legend

CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
# As sharp as preset veryfast at crf 21 (42.5 dB on a street), in files half as large again, for a
# third of its time, which a CPU that runs the network has to spare. A key frame at least every 60
# frames bounds what a killed process loses.
_ENCODER = {"preset": "superfast", "crf": "23", "x264-params": "bframes=0:subme=0:weightp=0"}
_KEY_FRAMES = 60
# Every frame is a fragment (a cluster, in Matroska) of its own while the file is written: a process that
# is killed loses what the encoder holds, a few frames, and not a second or more.
_FRAGMENTED = {"movflags": "frag_every_frame+empty_moov+default_base_moof", "flush_packets": "1"}
_CLUSTERED = {"cluster_time_limit": "1", "flush_packets": "1"}  # milliseconds
# OpenCV makes BT.601 planes of limited range, whatever the size; untagged, players guess BT.709 for
# large videos and show other colours.
_BT601, _BT709, _LIMITED = 6, 1, 1
_TICKS = 90_000  # per second, the clock of the video
_LONGEST_S = 2.0  # a longer gap between two frames (another input, a pause) is skipped
_SOUND = ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac")  # what .mp4 and .mkv both hold


@contextmanager
def _encoding(path: Path) -> Iterator[None]:
    """As :func:`~deeplab_rt.streams.outputs.writing`, for what the encoder refuses too."""
    with writing(path):
        try:
            yield
        except av.FFmpegError as error:
            if isinstance(error, OSError):
                raise
            raise StreamError(f"{path}: cannot be encoded: {error}") from None


class OverlayVideo:
    """An H.264 video of the overlays, in real time by the frames' stamps.

    The first frame's size is the video's; later frames of other sizes are scaled to it. The file
    takes its name when it is closed; after a failure what was written is kept as
    ``NAME.partial.mp4``.

    Attributes:
        warnings: what the user should be told at the end.
    """

    def __init__(
        self,
        path: Path,
        labels: LabelSet,
        overwrite: bool = False,
        style: OverlayStyle | None = None,
        fps: float | None = None,
        sound: Path | None = None,
    ) -> None:
        """Check the name; the file is begun with the first frame.

        Args:
            path: ends in .mp4, .mov or .mkv.
            labels: of the masks.
            overwrite: whether a file of this name is replaced.
            style: how overlays are drawn.
            fps: nominal rate that the file tells players; frames are shown by their stamps.
            sound: the video whose frames are to come; its sound is copied.

        Raises:
            StreamError: it exists and may not be replaced, ends otherwise, or another command is
                writing it.
        """
        if path.suffix.lower() not in CONTAINERS:
            raise StreamError(f"{path}: expected a name that ends in {', '.join(CONTAINERS)}")
        self._claim = Claim(path)
        check_new_file(path, overwrite)
        self.path = path
        self.warnings = [
            f"{file}: left by a run that was killed; it plays as far as it was written"
            for file in leftovers(path)
        ]
        self._overwrite = overwrite
        self._labels = labels
        self._style = style or OverlayStyle()
        self._rate = Fraction(fps).limit_denominator(1001) if fps else Fraction(30)
        self._sound = sound
        self._file: PartialFile | None = None
        self._container: Any = None
        self._stream: Any = None
        self._canvas = np.empty((0, 0, 3), np.uint8)
        self._size = (0, 0)  # (height, width) of the frames in the canvas
        self._first_ns = 0
        self._stamp_ns = 0
        self._time = 0  # of the newest frame, in ticks
        self._step = max(1, round(_TICKS / self._rate))
        self._failed = False

    def write(self, frame: Frame, masks: Masks) -> None:
        """Encode one frame.

        Raises:
            StreamError: the disk is full or gone, or the encoder refuses the frame.
        """
        try:
            check_space(self.path)
            image = self.compose(frame, masks)
            with _encoding(self.path):
                if self._container is None:
                    self._begin(image, frame.stamp_ns)
                else:
                    self._time += self._ticks_since_last(frame.stamp_ns)
                self._stamp_ns = frame.stamp_ns
                self._encode(image)
        except BaseException:
            self._failed = True
            raise

    def compose(self, frame: Frame, masks: Masks) -> np.ndarray:
        """What is shown of a frame, uint8 [H, W, 3] BGR; for a subclass to show something else."""
        return draw_overlay(frame, masks, self._labels, self._style)

    def close(self) -> None:
        self._claim.release()
        container, self._container = self._container, None
        if container is None or self._file is None:
            return
        with self._file as file, _encoding(self.path):
            try:
                container.mux(self._stream.encode())
                container.close()
                if not self._failed:
                    self._finish(file)
            except BaseException:
                self._failed = True
                raise
            finally:
                if self._failed and file.path.stat().st_size:
                    self.warnings.append(f"{file.keep()}: plays as far as it was written")

    def _begin(self, image: np.ndarray, stamp_ns: int) -> None:
        self._first_ns = stamp_ns
        self._size = (image.shape[0], image.shape[1])
        strip = legend(self._labels, max(self._size[1], 320))
        # H.264 with colours at half resolution takes even sides only.
        height = self._size[0] + strip.shape[0] + self._size[0] % 2
        width = strip.shape[1] + strip.shape[1] % 2
        self._canvas = np.full((height, width, 3), DARK, np.uint8)
        self._canvas[height - strip.shape[0] :, : strip.shape[1]] = strip
        self._file = PartialFile(self.path, self._overwrite)
        kind = CONTAINERS[self.path.suffix.lower()]
        options = _CLUSTERED if kind == "matroska" else _FRAGMENTED
        self._container = av.open(str(self._file.path), "w", format=kind, options=options)
        self._stream = self._container.add_stream("libx264", rate=self._rate)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = _ENCODER
        context = self._stream.codec_context
        context.gop_size = _KEY_FRAMES
        context.time_base = Fraction(1, _TICKS)
        context.colorspace, context.color_range = _BT601, _LIMITED
        context.color_primaries = context.color_trc = _BT709

    def _encode(self, image: np.ndarray) -> None:
        height, width = self._size
        if image.shape[:2] != self._size:
            image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
        self._canvas[:height, :width] = image
        planes = np.asarray(cv2.cvtColor(self._canvas, cv2.COLOR_BGR2YUV_I420), np.uint8)
        encoded = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        encoded.pts, encoded.time_base = self._time, Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(encoded))

    def _ticks_since_last(self, stamp_ns: int) -> int:
        """At least 1. Where the stamps tell nothing usable, as long as the frame before it."""
        seconds = (stamp_ns - self._stamp_ns) / 1e9
        if 0 < seconds <= _LONGEST_S:
            self._step = max(1, round(seconds * _TICKS))
        return self._step

    def _finish(self, written: PartialFile) -> None:
        """Give the file its name; an .mp4 with its index in front, either with the clip's sound."""
        length_s = (self._time + self._step) / _TICKS
        is_matroska = CONTAINERS[self.path.suffix.lower()] == "matroska"
        if is_matroska and self._sound is None:
            written.commit()
            return
        with PartialFile(self.path, self._overwrite) as whole:
            reason = remux(written.path, whole.path, self._sound, self._first_ns / 1e9, length_s)
            if reason is not None:
                self.warnings.append(f"{self.path}: without the sound of {self._sound}: {reason}")
            whole.commit()


def remux(
    video: Path, target: Path, sound: Path | None, begin_s: float, length_s: float
) -> str | None:
    """Copy a video, and the sound of another, without encoding anew.

    Args:
        video: as :class:`OverlayVideo` writes it.
        target: is replaced; its suffix says the container.
        sound: a video whose sound is taken, or None.
        begin_s: where in the sound the video begins, seconds.
        length_s: how long the sound may be, seconds.

    Returns:
        Why the sound is missing, or None where it is there or was not asked for.
    """
    reason: str | None = None
    kind = CONTAINERS[target.suffix.lower()]
    options = {} if kind == "matroska" else {"movflags": "faststart"}
    with (
        av.open(str(video)) as source,
        av.open(str(target), "w", format=kind, options=options) as out,
    ):
        clip, track = None, None
        if sound is not None:
            clip, reason = _open_sound(sound)
        images = out.add_stream_from_template(source.streams.video[0])
        if clip is not None:
            track = out.add_stream_from_template(clip.streams.audio[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = images
                out.mux(packet)
        if clip is not None:
            with clip:
                for packet in clip.demux(audio=0):
                    if packet.pts is None:
                        continue
                    time_s = float(packet.pts * packet.time_base) - begin_s
                    if 0 <= time_s < length_s:
                        shift = round(begin_s / packet.time_base)
                        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                        packet.stream = track
                        out.mux(packet)
    return reason


def _open_sound(path: Path) -> tuple[Any, str | None]:
    """The clip, open, if its sound can be copied; otherwise None and why not."""
    try:
        clip = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        return None, f"it cannot be read ({error})"
    if not clip.streams.audio:
        clip.close()
        return None, None
    codec = clip.streams.audio[0].codec_context.name
    if codec not in _SOUND:
        clip.close()
        return None, f"{codec} cannot be copied into a video file"
    return clip, None
