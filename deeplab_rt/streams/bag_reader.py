"""Frames from a recording of ROS 2 or ROS 1: a directory, an .mcap, .db3 or .bag file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_rt.camera.encodings import decode_compressed, decode_image
from deeplab_rt.camera.video_packets import VideoPackets
from deeplab_rt.errors import FrameError, StreamError
from deeplab_rt.frame import Channels, Frame, check_size
from deeplab_rt.streams.base import ReadOptions, Recording, check_image_size, natural_key
from deeplab_rt.streams.db3_file import Db3File
from deeplab_rt.streams.mcap_file import McapFile
from deeplab_rt.streams.messages import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    COMPRESSED_VIDEO,
    FFMPEG_PACKET,
    IMAGE,
    deserialize,
    frame_id,
    stamp_ns,
)
from deeplab_rt.streams.outputs import named_files
from deeplab_rt.streams.records import BagFile, BagFrame, RawMessage, at_time
from deeplab_rt.streams.ros1_file import Ros1File
from deeplab_rt.streams.unpack import ZSTD_MAGIC, unpack_file, unpack_zstd

SUFFIXES = (".mcap", ".db3", ".bag")
PACKED = ".zstd"  # added to the suffix of a file that rosbag2 compressed as a whole
IMAGES = (IMAGE, COMPRESSED_IMAGE, FFMPEG_PACKET, COMPRESSED_VIDEO)
_OWN = "/deeplab/"  # what this package records there are masks, no camera's images
_ENCODINGS = ("cdr", "ros1")
_TOLD = 20  # warnings about a file; more are counted


def is_bag(path: Path) -> bool:
    """Whether a path is a recording: one of its files, or a directory that holds some.

    A directory with images in it is an image folder, whatever else lies there, unless a
    metadata.yaml says that it is a bag.
    """
    if not path.is_dir():
        return _kind(path) is not None
    if (path / "metadata.yaml").is_file():
        return True
    return bool(_files_in(path)) and not _holds_images(path)


def _kind(path: Path) -> str | None:
    """``.mcap``, ``.db3`` or ``.bag``; None for another file."""
    suffix = Path(path.name.removesuffix(PACKED)).suffix
    return suffix if suffix in SUFFIXES else None


def _files_in(directory: Path) -> list[Path]:
    files = [file for file in directory.iterdir() if _kind(file) and not file.name.startswith(".")]
    return sorted(files, key=lambda file: natural_key(file.name))


def _holds_images(directory: Path) -> bool:
    from deeplab_rt.streams.folder import images_in

    return bool(images_in(directory))


@dataclass(frozen=True)
class _Origin:
    """What a frame takes from its message."""

    index: int
    stamp_ns: int
    frame_id: str
    log_ns: int | None
    wanted: bool


class _Unheard:
    """Takes losses that are reported again when their turn comes."""

    def warn(self, text: str) -> None: ...

    def lose(self, topic: str, count: int | None, text: str) -> None: ...


class BagImages(Recording):
    """The images of one or more topics of a bag, with their header's stamp and frame_id.

    Frames come in the order of recording. With several topics each carries its own as ``camera``.
    """

    def __init__(
        self, path: Path, topic: str | None = None, options: ReadOptions | None = None
    ) -> None:
        """Open the bag and choose the topics.

        Args:
            path: a rosbag2 directory, an .mcap, .db3 or .bag file.
            topic: an image topic; None for those of the options.
            options: how to read it.

        Raises:
            StreamError: the bag cannot be read, has no image topic, or has several and none was
                named; the message lists those it has.
        """
        self._options = options or ReadOptions()
        self._path = path
        self._parts: list[BagFile] = []
        self._unpacked: list[Path] = []
        self._told = 0
        self._counts: dict[str, int] = {}  # of the chosen topics
        self._early: Counter[str] = Counter()  # lost before they were chosen
        self._index = 0  # of the next frame
        self._streams: dict[str, VideoPackets[_Origin]] = {}
        self._infos: dict[str, Any] = {}  # topic of a camera_info -> the newest message
        self._rest: tuple[RawMessage, ...] = ()
        super().__init__(str(path), None, None)
        try:
            for file in self._files():
                self._parts.append(self._open(file))
            named = (topic,) if topic is not None else self._options.topics
            counts: dict[str, tuple[str, int]] = {}
            for part in self._parts:
                for channel, count in part.channels.items():
                    before = counts.get(channel.topic, ("", 0))[1]
                    counts[channel.topic] = (channel.type, before + count)
            self.topics = _choose(path, counts, named, self._options.all_topics)
            self._counts = {name: counts[name][1] for name in self.topics}
            self.dropped += sum(self._early[name] for name in self.topics)
            for name in self.topics:
                self._check_encoding(name)
            self._info_topics = _info_topics(self.topics, self._parts)
        except BaseException:
            self.close()
            raise
        selection = self._options.selection
        if selection.start_s == 0 and selection.stop_s is None:
            self.total = sum(-(-count // selection.every) for count in self._counts.values())

    @property
    def topic(self) -> str:
        """The first of the topics."""
        return self.topics[0]

    def __iter__(self) -> Iterator[Frame]:
        self._index = 0
        seen: Counter[str] = Counter()
        self._streams.clear()
        self._first_camera_infos()
        raw: list[RawMessage] = []
        for message in self._messages():
            if self._options.raw:
                raw.append(message)
            channel = message.channel
            if channel.topic not in self._counts:
                self._note_camera_info(message)
                continue
            place, self._index = self._index, self._index + 1
            wanted = self._options.selection.takes(seen[channel.topic])
            seen[channel.topic] += 1
            for frame in self._decoded(message, place, wanted):
                yield replace(frame, messages=tuple(raw))
                raw.clear()
        for topic, stream in self._streams.items():
            for frame in self._finished(topic, stream.flush()):
                yield replace(frame, messages=tuple(raw))
                raw.clear()
        self._rest = tuple(raw)

    def rest(self) -> tuple[RawMessage, ...]:
        """With ``ReadOptions.raw`` and after the last frame: the messages that follow it."""
        return self._rest

    def close(self) -> None:
        while self._parts:
            self._parts.pop().close()
        while self._unpacked:
            self._unpacked.pop().unlink(missing_ok=True)

    # The losses that the files report.

    def warn(self, text: str) -> None:
        """Keep a warning, unless there are many already."""
        self._told += 1
        if self._told <= _TOLD:
            self.warnings.append(text)
        elif self._told == _TOLD + 1:
            self.warnings.append(f"{self.name}: more of the kind; `dropped` counts lost frames")

    def lose(self, topic: str, count: int | None, text: str) -> None:
        """Count frames that are lost; their places in the order stay empty."""
        if not self._counts:
            self._early[topic] += count or 0
        elif topic in self._counts:
            self.dropped += count or 0
            self._index += count or 0
        self.warn(text)

    # Opening.

    def _files(self) -> list[Path]:
        """The files of the bag in their order: those that metadata.yaml names, or all there are."""
        if not self._path.is_dir():
            return [self._path]
        found = _files_in(self._path)
        metadata = self._path / "metadata.yaml"
        if not metadata.is_file():
            return found
        names = [Path(name).name for name in named_files(metadata)]
        named = [self._path / name for name in names if _kind(Path(name))]
        present = [file for file in named if file.is_file()]
        if not present:
            if not found:
                raise StreamError(f"{self._path}: cannot be read as a bag: its files are not there")
            self.warn(f"{metadata}: names no file that is there; all bag files beside it are read")
            return found
        for file in named:
            if file not in present:
                self.warn(f"{metadata}: names {file.name}, which is not there")
        for file in found:
            if file not in named:
                self.warn(f"{file}: not read: metadata.yaml does not name it")
        return present

    def _open(self, file: Path) -> BagFile:
        kind, limit = _kind(file), self._options.unpack_bytes
        if file.stat().st_size == 0:
            raise StreamError(f"{file}: cannot be read as a bag: the file is empty")
        if file.name.endswith(PACKED) and kind is not None:
            file = unpack_file(file, kind)
            self._unpacked.append(file)
        if kind == ".mcap":
            return McapFile(file, self, limit)
        if kind == ".db3":
            return Db3File(file, self)
        return Ros1File(file, self, limit)

    def _check_encoding(self, topic: str) -> None:
        for part in self._parts:
            for channel in part.channels:
                if channel.topic == topic and channel.encoding not in _ENCODINGS:
                    raise StreamError(
                        f"{self._path}: topic {topic} is encoded as {channel.encoding!r}; expected "
                        "cdr (ROS 2) or ros1"
                    )

    # Reading.

    def _messages(self) -> Iterator[RawMessage]:
        """Those of the topics and of their camera_info, or all."""
        selection = self._options.selection
        spans = [span for part in self._parts if (span := part.span()) is not None]
        begin = min((start for start, _ in spans), default=0)
        start = begin + round(1e9 * selection.start_s) if selection.start_s else None
        stop = None if selection.stop_s is None else begin + round(1e9 * selection.stop_s)
        infos = set(self._info_topics.values())
        for part in self._parts:
            wanted = [
                channel
                for channel in part.channels
                if self._options.raw or channel.topic in self._counts or channel.topic in infos
            ]
            for message in part.messages(wanted, self, start, stop):
                try:
                    yield self._unpack(message)
                except ValueError as error:
                    topic = message.channel.topic
                    text = f"a message of {topic} {at_time(message.log_ns)} is lost: {error}"
                    self.lose(topic, 1, f"{self.name}: {text}")

    def _unpack(self, message: RawMessage) -> RawMessage:
        """A message that was compressed by itself, decompressed.

        Raises:
            ValueError: it is damaged or too large.
        """
        if message.data[:4] != ZSTD_MAGIC:  # no CDR message begins so: its first byte is 0
            return message
        return replace(message, data=unpack_zstd(message.data, self._options.unpack_bytes))

    def _decoded(self, message: RawMessage, index: int, wanted: bool) -> Iterator[BagFrame]:
        """The frames that a message of an image topic makes ready."""
        kind = message.channel.type
        video = kind in (FFMPEG_PACKET, COMPRESSED_VIDEO)
        if not wanted and not video:
            return
        try:
            content = deserialize(message.data, kind, message.channel.encoding)
            log_ns = message.log_ns
            origin = _Origin(index, stamp_ns(content), frame_id(content), log_ns, wanted)
            if video:
                stream = self._streams.setdefault(message.channel.topic, VideoPackets())
                encoding, key = _packet(content, kind)
                packets = stream.decode(bytes(content.data), encoding, origin, key)
                yield from self._finished(message.channel.topic, packets)
                return
            if kind == IMAGE:
                image, channels = decode_image(content, image_range=self._options.image_range)
            else:
                image, channels = decode_compressed(content)
            check_image_size(image)
        except FrameError as error:
            if wanted:
                self.skip(index, f"{error} ({at_time(message.log_ns)})")
            return
        yield self._frame(message.channel.topic, origin, image, channels)

    def _finished(
        self, topic: str, packets: list[tuple[_Origin, np.ndarray | FrameError]]
    ) -> Iterator[BagFrame]:
        """The frames of a video stream that became ready."""
        for origin, image in packets:
            if not origin.wanted:
                continue
            if isinstance(image, FrameError):
                self.skip(origin.index, f"{image} ({at_time(origin.log_ns)})")
            else:
                yield self._frame(topic, origin, image, "bgr")

    def _frame(
        self, topic: str, origin: _Origin, image: np.ndarray, channels: Channels
    ) -> BagFrame:
        info = self._infos.get(self._info_topics.get(topic, ""))
        camera = topic if len(self.topics) > 1 else ""
        return BagFrame(
            image,
            origin.index,
            origin.stamp_ns,
            origin.frame_id,
            "",
            channels,
            origin.log_ns,
            camera,
            camera_info=info,
        )

    def _first_camera_infos(self) -> None:
        """The first camera_info of each topic, for images that were recorded before it."""
        self._infos.clear()
        for topic in set(self._info_topics.values()):
            for part in self._parts:
                channels = [channel for channel in part.channels if channel.topic == topic]
                first = next(part.messages(channels, _Unheard()), None) if channels else None
                if first is not None:
                    with suppress(ValueError):  # is told when its turn comes
                        self._note_camera_info(self._unpack(first))
                    break

    def _note_camera_info(self, message: RawMessage) -> None:
        if message.channel.topic not in self._info_topics.values():
            return
        try:
            self._infos[message.channel.topic] = deserialize(
                message.data, CAMERA_INFO, message.channel.encoding
            )
        except FrameError as error:
            self.warn(f"{self.name}: {message.channel.topic} {at_time(message.log_ns)}: {error}")


def _info_topics(topics: Sequence[str], parts: Sequence[BagFile]) -> dict[str, str]:
    """Image topic -> the topic of its camera_info, in the same namespace or the one above."""
    known = {
        channel.topic
        for part in parts
        for channel in part.channels
        if channel.type == CAMERA_INFO and channel.encoding in _ENCODINGS
    }
    found = {}
    for topic in topics:
        above = topic.rsplit("/", 1)[0]
        for space in (above, above.rsplit("/", 1)[0]):
            if f"{space}/camera_info" in known:
                found[topic] = f"{space}/camera_info"
                break
    return found


def _packet(content: Any, kind: str) -> tuple[str, bool | None]:
    """Codec of a video packet, and whether its sender says that it is a key frame."""
    if kind == COMPRESSED_VIDEO:
        return str(content.format), None
    check_size(int(content.height), int(content.width))
    return str(content.encoding), bool(int(content.flags) & 1)


def _choose(
    path: Path, counts: Mapping[str, tuple[str, int]], named: Sequence[str], every: bool
) -> tuple[str, ...]:
    """The image topics to read.

    Args:
        path: of the bag, for messages.
        counts: topic -> (type, number of messages).
        named: those that were asked for.
        every: whether all were.
    """
    images = {name: entry for name, entry in counts.items() if entry[0] in IMAGES}
    filled = {name: entry for name, entry in images.items() if entry[1]}
    cameras = {name: entry for name, entry in filled.items() if not name.startswith(_OWN)}
    if named:
        return tuple(dict.fromkeys(_resolve(path, counts, images, name) for name in named))
    if not images:
        has = f"it has: {_listed(counts)}" if counts else "it is empty"
        raise StreamError(
            f"{path}: no image topic (sensor_msgs Image or CompressedImage, FFMPEGPacket, "
            f"CompressedVideo); {has}"
        )
    if not filled:
        raise StreamError(
            f"{path}: topic {next(iter(images))} holds no message; it has: {_listed(counts)}"
        )
    if not cameras:
        raise StreamError(
            f"{path}: holds masks, and no camera's images; name one with --topic if it shall be "
            f"segmented all the same: {_listed(filled)}"
        )
    if len(cameras) > 1 and not every:
        raise StreamError(
            f"{path}: several image topics; choose one with --topic: {_listed(cameras)}"
        )
    return tuple(cameras)


def _resolve(
    path: Path,
    counts: Mapping[str, tuple[str, int]],
    images: Mapping[str, tuple[str, int]],
    wanted: str,
) -> str:
    """A topic by its name, with or without the leading slash."""
    for name in (wanted, f"/{wanted}", wanted.removeprefix("/")):
        if name in images:
            if not images[name][1]:
                has = _listed(counts)
                raise StreamError(f"{path}: topic {name} holds no message; it has: {has}")
            return name
    is_what = f"is a {counts[wanted][0]}" if wanted in counts else "is not in it"
    raise StreamError(
        f"{path}: topic {wanted} {is_what}; image topics: {_listed(images) or 'none'}"
    )


def _listed(topics: Mapping[str, tuple[str, int]]) -> str:
    return ", ".join(f"{name} ({kind}, {count})" for name, (kind, count) in sorted(topics.items()))
