"""Frames from rosbag2."""

from __future__ import annotations

import sqlite3
import struct
import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap import writer as mcap_writer
from mcap.data_stream import RecordBuilder
from mcap.reader import make_reader
from mcap.records import Chunk, DataEnd, Footer, McapRecord
from mcap.writer import IndexType
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.typesys import Stores, get_typestore

from deeplab_rt.camera.image_range import ImageRange
from deeplab_rt.errors import StreamError
from deeplab_rt.streams.bag_reader import BagImages, is_bag
from deeplab_rt.streams.base import ReadOptions, Selection
from deeplab_rt.streams.messages import (
    COMPRESSED_VIDEO,
    FFMPEG_PACKET,
    IMAGE,
    header,
    stamp_ns,
    typestore,
)
from deeplab_rt.streams.records import BagFrame
from tests.unit.camera.test_video_packets import packets_of
from tests.unit.streams.media import (
    camera_info,
    compressed_message,
    image_message,
    number_of,
    numbered,
    numbered_messages,
    stamp_of,
    write_bag,
)

TOPIC = "/camera/image_raw"


def imu(index: int) -> Any:
    return typestore().types["std_msgs/msg/Header"](
        stamp=header(stamp_of(index), "").stamp, frame_id="imu"
    )


def write_mcap(path: Path, messages: list[Any], kind: str = IMAGE, **options: Any) -> Path:
    """An .mcap file by mcap's own writer, which unlike rosbags adds checksums."""
    with path.open("wb") as stream:
        writer: Any = mcap_writer.Writer(stream, **options)
        writer.start("ros2")
        definition, _ = typestore().generate_msgdef(IMAGE, ros_version=2)
        schema = writer.register_schema(kind, "ros2msg", definition.encode())
        channel = writer.register_channel(TOPIC, "cdr", schema)
        for message in messages:
            log_ns = stamp_ns(message) + 5_000_000
            data = bytes(typestore().serialize_cdr(message, IMAGE))
            writer.add_message(channel, log_ns, data, log_ns)
        writer.finish()
    return path


def assert_numbered(path: Path, count: int, topic: str | None = None) -> BagImages:
    with BagImages(path, topic) as source:
        frames = list(source)
    assert [number_of(frame.image) for frame in frames] == list(range(count))
    assert [frame.index for frame in frames] == list(range(count))
    assert [frame.stamp_ns for frame in frames] == [stamp_of(index) for index in range(count)]
    assert [frame.log_ns for frame in frames] == [stamp_of(i) + 5_000_000 for i in range(count)]
    assert {frame.frame_id for frame in frames} == {"front_camera"}
    return source


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("compressed", [False, True], ids=["raw", "jpeg"])
@pytest.mark.parametrize("compression", [None, "message", "file"])
def test_every_kind_of_bag(
    tmp_path: Path, storage: str, compressed: bool, compression: str | None
) -> None:
    messages = numbered_messages(5)
    if compressed:
        messages = [compressed_message(numbered(i), stamp_of(i)) for i in range(5)]
    others = [imu(index) for index in range(5)]
    path = write_bag(tmp_path / "bag", {TOPIC: messages, "/imu": others}, storage, compression)
    assert is_bag(path)
    source = assert_numbered(path, 5)
    assert source.total == 5 and source.warnings == [] and source.topic == TOPIC


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_bag_is_read_by_another_thread_than_opened_it(tmp_path: Path, storage: str) -> None:
    """As the pipeline of ``replay`` does."""
    images = [image_message(numbered(index), stamp_of(index)) for index in range(3)]
    path = write_bag(tmp_path / "drive", {TOPIC: images}, storage)
    with BagImages(path) as source, ThreadPoolExecutor(1) as pool:
        frames = pool.submit(list, source).result()
    assert [number_of(frame.image) for frame in frames] == [0, 1, 2]


def test_zstd_chunks(tmp_path: Path) -> None:
    assert_numbered(write_bag(tmp_path / "bag", {TOPIC: numbered_messages(5)}, "mcap", "chunk"), 5)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_file_of_a_bag_alone(tmp_path: Path, storage: str) -> None:
    path = write_bag(tmp_path / "bag", {TOPIC: numbered_messages(3)}, storage)
    (file,) = (entry for entry in path.iterdir() if entry.name != "metadata.yaml")
    assert is_bag(file)
    assert_numbered(file, 3)


def test_a_bag_of_several_files_without_metadata_is_read_in_natural_order(tmp_path: Path) -> None:
    parts = tmp_path / "split"
    parts.mkdir()
    for part, name in enumerate(("drive_9", "drive_10")):
        messages = [image_message(numbered(i), stamp_of(i)) for i in range(2 * part, 2 * part + 2)]
        bag = write_bag(tmp_path / name, {TOPIC: messages})
        (bag / f"{name}.mcap").rename(parts / f"{name}.mcap")
    with BagImages(parts) as source:
        assert [number_of(frame.image) for frame in source] == [0, 1, 2, 3]
    assert source.total == 4


def test_rgb_and_padded_rows(tmp_path: Path) -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    padded = np.zeros((2, 4, 3), np.uint8)
    padded[:, :3] = image
    message = image_message(padded, stamp_of(0), "rgb8")
    message.width = 3
    (frame,) = BagImages(write_bag(tmp_path / "bag", {TOPIC: [message]}))
    assert frame.channels == "rgb" and np.array_equal(frame.image, image)


def test_no_image_topic_lists_those_there_are(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag", {"/imu": [imu(0), imu(1)]})
    with pytest.raises(StreamError, match=r"no image topic.*/imu \(std_msgs/msg/Header, 2\)"):
        BagImages(path)


def test_several_image_topics_are_listed_and_one_is_chosen(tmp_path: Path) -> None:
    left = numbered_messages(3)
    right = [compressed_message(numbered(7), stamp_of(0))]
    path = write_bag(tmp_path / "bag", {"/left": left, "/right/compressed": right, "/none": []})
    with pytest.raises(StreamError, match=r"--topic: /left \(.*, 3\), /right/compressed \(.*, 1\)"):
        BagImages(path)
    assert_numbered(path, 3, "/left")
    (frame,) = BagImages(path, "/right/compressed")
    assert number_of(frame.image) == 7
    with pytest.raises(StreamError, match="topic /none holds no message"):
        BagImages(path, "/none")


def test_a_topic_that_is_not_there_or_no_image(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag", {TOPIC: numbered_messages(1), "/imu": [imu(0)]})
    with pytest.raises(StreamError, match=f"/nope is not in it; image topics: {TOPIC}"):
        BagImages(path, "/nope")
    with pytest.raises(StreamError, match="/imu is a std_msgs/msg/Header; image topics"):
        BagImages(path, "/imu")


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_empty_bag(tmp_path: Path, storage: str) -> None:
    with pytest.raises(StreamError, match="no image topic.*empty"):
        BagImages(write_bag(tmp_path / "bag", {}, storage))


def test_bad_messages_keep_their_place(tmp_path: Path) -> None:
    messages: list[Any] = numbered_messages(6)
    messages[1] = b"\x00\x01\x00\x00 no image at all"
    messages[2].step = 5
    messages[3].encoding = "what"
    messages[4].height = 0
    with BagImages(write_bag(tmp_path / "bag", {TOPIC: messages})) as source:
        frames = list(source)
    assert [(frame.index, number_of(frame.image)) for frame in frames] == [(0, 0), (5, 5)]
    assert source.dropped == 4
    reasons = [
        "frame 1 skipped: the message is damaged",
        "step 5",
        "unknown encoding 'what'",
        "64x0",
    ]
    for warning, reason in zip(source.warnings, reasons, strict=True):
        assert reason in warning


def write_ros1(
    path: Path, count: int, compression: str | None = None, chunk: int = 1 << 20
) -> Path:
    """A ROS 1 bag of numbered images."""
    store = get_typestore(Stores.ROS1_NOETIC)
    types = store.types
    writer = Ros1Writer(path)
    if compression:
        writer.set_compression(Ros1Writer.CompressionFormat[compression.upper()])
    writer.chunk_threshold = chunk
    with writer:
        connection = writer.add_connection(TOPIC, IMAGE, typestore=store)
        for index in range(count):
            seconds, nanoseconds = divmod(stamp_of(index), 10**9)
            stamp = types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
            image = numbered(index)
            message = types[IMAGE](
                header=types["std_msgs/msg/Header"](
                    seq=index, stamp=stamp, frame_id="front_camera"
                ),
                height=48,
                width=64,
                encoding="bgr8",
                is_bigendian=0,
                step=192,
                data=image.reshape(-1),
            )
            data = store.serialize_ros1(message, IMAGE)
            writer.write(connection, stamp_of(index) + 5_000_000, data)
    return path


def ffmpeg_packet(data: bytes, index: int, key: bool) -> Any:
    return typestore().types[FFMPEG_PACKET](
        header=header(stamp_of(index), "front_camera"),
        width=64,
        height=48,
        encoding="libx264",
        pts=index,
        flags=int(key),
        is_bigendian=False,
        data=np.frombuffer(data, np.uint8),
    )


def compressed_video(data: bytes, index: int) -> Any:
    return typestore().types[COMPRESSED_VIDEO](
        timestamp=header(stamp_of(index), "").stamp,
        frame_id="front_camera",
        data=np.frombuffer(data, np.uint8),
        format="h264",
    )


class TestOptions:
    """Several topics, a part of the time, and the messages around the frames."""

    @pytest.fixture(params=["mcap", "sqlite3"])
    def bag(self, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
        topics = {
            "/left/image_raw": numbered_messages(6),
            "/left/camera_info": [camera_info(index) for index in range(6)],
            "/right/image/compressed": [
                compressed_message(numbered(i + 10), stamp_of(i)) for i in range(6)
            ],
            "/imu": [imu(index) for index in range(8)],
        }
        return write_bag(tmp_path / "bag", topics, request.param)

    @pytest.mark.parametrize(
        "options",
        [
            ReadOptions(topics=("/left/image_raw", "right/image/compressed")),
            ReadOptions(all_topics=True),
        ],
    )
    def test_several_cameras_in_one_pass(self, bag: Path, options: ReadOptions) -> None:
        with BagImages(bag, options=options) as source:
            frames = list(source)
        assert source.total == 12 and [frame.index for frame in frames] == list(range(12))
        left = [f for f in frames if f.camera == "/left/image_raw"]
        right = [f for f in frames if f.camera == "/right/image/compressed"]
        assert [number_of(frame.image) for frame in left] == list(range(6))
        assert [number_of(frame.image) for frame in right] == list(range(10, 16))
        assert [frame.stamp_ns for frame in frames] == sorted(f.stamp_ns for f in frames)

    def test_camera_info_beside_the_images(self, bag: Path) -> None:
        with BagImages(bag, options=ReadOptions(all_topics=True)) as source:
            frames = [frame for frame in source if isinstance(frame, BagFrame)]
        left = [frame.camera_info for frame in frames if frame.camera == "/left/image_raw"]
        assert [info.width for info in left] == [64] * 6
        assert all(f.camera_info is None for f in frames if f.camera != "/left/image_raw")

    def test_a_span_of_time_and_every_second_frame(self, bag: Path) -> None:
        period = 1 / 30
        span = Selection(start_s=1.5 * period, stop_s=4.5 * period)
        with BagImages(bag, "/left/image_raw", ReadOptions(selection=span)) as source:
            frames = list(source)
        assert [number_of(frame.image) for frame in frames] == [2, 3, 4]
        assert [frame.index for frame in frames] == [0, 1, 2]
        every = ReadOptions(selection=Selection(every=4))
        with BagImages(bag, "/left/image_raw", every) as source:
            frames = list(source)
        assert source.total == 2
        assert [(f.index, number_of(f.image)) for f in frames] == [(0, 0), (4, 4)]

    def test_raw_messages_come_with_the_frames(self, bag: Path) -> None:
        options = ReadOptions(raw=True, selection=Selection(every=2))
        with BagImages(bag, "/left/image_raw", options) as source:
            frames = [frame for frame in source if isinstance(frame, BagFrame)]
            rest = source.rest()
        messages = [message for frame in frames for message in frame.messages]
        assert len(frames) == 3 and messages[0].log_ns == stamp_of(0) + 5_000_000
        assert frames[1].messages[-1].channel.topic == "/left/image_raw"
        everything = Counter(message.channel.topic for message in [*messages, *rest])
        assert everything == {
            "/left/image_raw": 6,
            "/left/camera_info": 6,
            "/right/image/compressed": 6,
            "/imu": 8,
        }
        for message in messages:
            if message.channel.topic == "/imu":
                assert message.channel.type == "std_msgs/msg/Header"
                content = typestore().deserialize_cdr(message.data, message.channel.type)
                assert content.frame_id == "imu"

    def test_spans_that_are_none(self) -> None:
        for bad in ({"start_s": -1.0}, {"start_s": 2.0, "stop_s": 2.0}, {"every": 0}):
            with pytest.raises(StreamError, match="expected"):
                Selection(**bad)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    place = tmp_path_factory.mktemp("whole")
    messages = numbered_messages(4)
    paths = [
        write_bag(place / "a", {TOPIC: messages}) / "a.mcap",
        write_bag(place / "b", {TOPIC: messages}, "sqlite3") / "b.db3",
        write_mcap(place / "chunks.mcap", messages, chunk_size=1),
        write_mcap(place / "plain.mcap", messages, use_chunking=False),
    ]
    return {path.name: path.read_bytes() for path in paths}


class TestDamaged:
    """Bags that were cut off, never closed, or lost bytes in the middle."""

    @pytest.fixture
    def mcap(self, tmp_path: Path) -> Path:
        # 600x800 images: each fills a chunk, so chunks and images are one to one.
        messages = [image_message(numbered(i, (600, 800)), stamp_of(i)) for i in range(8)]
        path = write_bag(tmp_path / "bag", {TOPIC: messages, "/imu": [imu(0)]}) / "bag.mcap"
        (path.parent / "metadata.yaml").unlink()
        return path

    @pytest.mark.parametrize("directory", [False, True])
    def test_cut_off_mcap_is_recovered(self, mcap: Path, directory: bool) -> None:
        content = mcap.read_bytes()
        mcap.write_bytes(content[: len(content) * 11 // 16])
        source = assert_numbered(mcap.parent if directory else mcap, 5)
        assert "not closed properly or cut off" in source.warnings[0]
        assert source.total == 5

    def test_mcap_without_index(self, tmp_path: Path) -> None:
        path = write_mcap(
            tmp_path / "a.mcap",
            numbered_messages(4),
            use_chunking=False,
            index_types=IndexType.NONE,
        )
        assert_numbered(path, 4)

    @pytest.mark.parametrize("chunked", [True, False])
    def test_messages_out_of_order_come_in_the_order_of_recording(
        self, tmp_path: Path, chunked: bool
    ) -> None:
        messages = [numbered_messages(4)[i] for i in (0, 2, 1, 3)]
        options = {} if chunked else {"use_chunking": False, "index_types": IndexType.NONE}
        assert_numbered(write_mcap(tmp_path / "a.mcap", messages, chunk_size=1, **options), 4)

    @pytest.mark.parametrize("indexed", [True, False])
    def test_a_damaged_chunk_is_left_out_and_the_rest_read(
        self, tmp_path: Path, indexed: bool
    ) -> None:
        path = write_mcap(tmp_path / "a.mcap", numbered_messages(6), chunk_size=1)
        content = bytearray(path.read_bytes())
        with path.open("rb") as stream:
            chunks = make_reader(stream).get_summary().chunk_indexes  # type: ignore[union-attr]
        content[chunks[2].chunk_start_offset + 60] ^= 0xFF
        path.write_bytes(content if indexed else content[:-100])
        with BagImages(path) as source:
            frames = list(source)
        assert [number_of(frame.image) for frame in frames] == [0, 1, 3, 4, 5]
        assert any("is damaged" in warning for warning in source.warnings)

    def test_sqlite_cut_off_is_one_clear_line(self, tmp_path: Path) -> None:
        path = write_bag(tmp_path / "bag", {TOPIC: numbered_messages(8)}, "sqlite3") / "bag.db3"
        path.write_bytes(path.read_bytes()[:30_000])
        with pytest.raises(StreamError, match="cannot be read as a bag"):
            BagImages(path)

    def test_sqlite_damaged_in_the_middle_loses_one_message(self, tmp_path: Path) -> None:
        messages = [image_message(numbered(i, (480, 640)), stamp_of(i)) for i in range(8)]
        path = write_bag(tmp_path / "bag", {TOPIC: messages}, "sqlite3") / "bag.db3"
        content = bytearray(path.read_bytes())
        # A page in the middle of a message that names a next page which does not exist.
        middle = len(content) // 2 // 4096 * 4096
        content[middle : middle + 4] = b"\x7f\xff\xff\xff"
        path.write_bytes(content)
        with BagImages(path) as source:
            frames = list(source)
        assert len(frames) == 7 and source.dropped == 1
        assert "a message of /camera/image_raw at 170000" in source.warnings[0]
        for frame in frames:
            assert number_of(frame.image) == (frame.stamp_ns - stamp_of(0)) // 33_333_333

    @given(data=st.data())
    @settings(max_examples=60, deadline=None)
    def test_whatever_the_damage_frames_come_in_order_or_one_line(
        self, whole: dict[str, bytes], data: st.DataObject
    ) -> None:
        name = data.draw(st.sampled_from(sorted(whole)))
        content = bytearray(whole[name])
        del content[data.draw(st.integers(0, len(content))) :]
        for _ in range(data.draw(st.integers(0, 3)) if content else 0):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        with TemporaryDirectory() as place:
            path = Path(place) / name
            path.write_bytes(content)
            try:
                with BagImages(path) as source:
                    indices = [frame.index for frame in source]
            except StreamError as error:
                assert str(error).count("\n") == 0  # noqa: PT017
            else:
                assert indices == sorted(set(indices))

    def test_messages_still_in_sqlites_journal_are_read(self, tmp_path: Path) -> None:
        path = write_bag(tmp_path / "bag", {TOPIC: numbered_messages(3)}, "sqlite3") / "bag.db3"
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA journal_mode=WAL")
            data = bytes(typestore().serialize_cdr(numbered_messages(4)[3], IMAGE))
            row = (stamp_of(3) + 5_000_000, data)
            database.execute("INSERT INTO messages VALUES (9, 1, ?, ?)", row)
            database.commit()
            before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
            source = assert_numbered(path, 4)
            assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before
        assert "bag.db3-wal is read too" in source.warnings[0]

    @pytest.mark.parametrize("name", ["a.mcap", "a.db3"])
    @pytest.mark.parametrize("content", [b"", b"garbage" * 1000])
    def test_what_is_no_bag_is_one_clear_line(
        self, tmp_path: Path, name: str, content: bytes
    ) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(StreamError, match="cannot be read as a bag|nothing can be recovered"):
            BagImages(tmp_path / name)

    def test_compressed_file_cut_off(self, tmp_path: Path) -> None:
        bag = write_bag(tmp_path / "bag", {TOPIC: numbered_messages(8)}, "mcap", "file")
        (file,) = bag.glob("*.zstd")
        file.write_bytes(file.read_bytes()[:100])
        with pytest.raises(StreamError, match="cannot be read as a bag"):
            BagImages(bag)


class TestStrangers:
    """Bags that others wrote: other spellings, ROS 1, video packets."""

    def rename_type(self, path: Path, spelling: str) -> Path:
        """The same .db3 file with another spelling of the type."""
        with closing(sqlite3.connect(path)) as database:
            database.execute("UPDATE topics SET type = ?", (spelling,))
            database.execute("UPDATE message_definitions SET topic_type = ?", (spelling,))
            database.commit()
        return path

    @pytest.mark.parametrize(
        "spelling", ["sensor_msgs/Image", "sensor_msgs/msg/Image", "sensor_msgs::msg::dds_::Image_"]
    )
    def test_spellings_of_the_type(self, tmp_path: Path, spelling: str) -> None:
        assert_numbered(write_mcap(tmp_path / "a.mcap", numbered_messages(3), kind=spelling), 3)
        bag = write_bag(tmp_path / "bag", {TOPIC: numbered_messages(3)}, "sqlite3")
        assert_numbered(self.rename_type(bag / "bag.db3", spelling), 3)

    @pytest.mark.parametrize("topic", [TOPIC, TOPIC[1:]])
    def test_a_topic_with_or_without_its_slash(self, tmp_path: Path, topic: str) -> None:
        messages = {TOPIC: numbered_messages(2), "/other": numbered_messages(1)}
        assert_numbered(write_bag(tmp_path / "bag", messages), 2, topic)

    @pytest.mark.parametrize("compression", [None, "bz2", "lz4"])
    def test_ros1_bag(self, tmp_path: Path, compression: str | None) -> None:
        path = write_ros1(tmp_path / "a.bag", 5, compression)
        assert is_bag(path)
        source = assert_numbered(path, 5)
        assert source.total == 5 and source.warnings == []
        span = ReadOptions(selection=Selection(start_s=0.05, stop_s=0.12))
        with BagImages(path, options=span) as source:
            assert [number_of(frame.image) for frame in source] == [2, 3]

    def test_ros1_messages_in_mcap(self, tmp_path: Path) -> None:
        ros1 = write_ros1(tmp_path / "a.bag", 4)
        with Ros1Reader(ros1) as reader, (tmp_path / "a.mcap").open("wb") as stream:
            writer: Any = mcap_writer.Writer(stream)
            writer.start("ros1")
            definition = reader.connections[0].msgdef.data.encode()
            schema = writer.register_schema("sensor_msgs/Image", "ros1msg", definition)
            channel = writer.register_channel(TOPIC, "ros1", schema)
            for _, log_ns, data in reader.messages():
                writer.add_message(channel, log_ns, data, log_ns)
            writer.finish()
        assert_numbered(tmp_path / "a.mcap", 4)

    def test_ros1_bag_that_is_damaged_loses_what_is(self, tmp_path: Path) -> None:
        path = write_ros1(tmp_path / "a.bag", 12, "bz2", chunk=30_000)
        with Ros1Reader(path) as reader:
            chunk = sorted(reader.chunks.items())[1][1]
        content = bytearray(path.read_bytes())
        content[chunk.datapos + chunk.datasize // 2] ^= 0xFF
        path.write_bytes(content)
        with BagImages(path) as source:
            given = [number_of(frame.image) for frame in source]
        assert 0 < source.dropped == 12 - len(given) < 12 and given == sorted(given)
        assert any("damaged" in warning for warning in source.warnings)

    def test_ros1_bag_without_an_index_names_what_makes_one(self, tmp_path: Path) -> None:
        content = write_ros1(tmp_path / "a.bag", 3).read_bytes()
        (tmp_path / "a.bag").write_bytes(content[: len(content) // 2])
        with pytest.raises(StreamError, match="cannot be read as a ROS 1 bag.*`rosbag reindex"):
            BagImages(tmp_path / "a.bag")

    @pytest.mark.parametrize("suffix", [".bmp", ".webp", ".tiff", ".png"])
    def test_other_formats_in_compressed_images(self, tmp_path: Path, suffix: str) -> None:
        messages = [compressed_message(numbered(i), stamp_of(i), suffix) for i in range(2)]
        assert_numbered(write_bag(tmp_path / "bag", {TOPIC: messages}), 2)

    @pytest.mark.parametrize("kind", ["ffmpeg", "foxglove"])
    def test_video_packets(self, tmp_path: Path, kind: str) -> None:
        packets = packets_of("h264", 12)
        if kind == "ffmpeg":
            messages = [ffmpeg_packet(packets[i], i, i % 5 == 0) for i in range(12)]
        else:
            messages = [compressed_video(packets[i], i) for i in range(12)]
        source = assert_numbered(write_bag(tmp_path / "bag", {TOPIC: messages}), 12)
        assert source.dropped == 0
        with BagImages(write_bag(tmp_path / "late", {TOPIC: messages[3:]})) as source:
            frames = list(source)
        assert [number_of(frame.image) for frame in frames] == list(range(5, 12))
        assert source.dropped == 2 and "waits for its next key frame" in source.warnings[0]
        every = ReadOptions(selection=Selection(every=3))
        with BagImages(tmp_path / "bag", options=every) as source:
            assert [number_of(frame.image) for frame in source] == [0, 3, 6, 9]
        assert source.dropped == 0

    def test_twelve_bits(self, tmp_path: Path) -> None:
        samples = np.full((48, 64, 1), 2048, "<u2")
        message = image_message(samples.view(np.uint8), stamp_of(0), "mono16")
        message.width = 64
        path = write_bag(tmp_path / "bag", {TOPIC: [message]})
        (dark,) = BagImages(path)
        (light,) = BagImages(path, options=ReadOptions(image_range=ImageRange(0, 4095)))
        assert (dark.image == 8).all() and (light.image == 128).all()


class TestNothingLostInSilence:
    """One flipped bit, wherever it is: all frames, or a word about those that are missing."""

    @pytest.mark.parametrize("crcs", [True, False])
    def test_every_bit_of_the_message_indexes(self, tmp_path: Path, crcs: bool) -> None:
        path = write_mcap(tmp_path / "a.mcap", numbered_messages(6), chunk_size=1, enable_crcs=crcs)
        whole = path.read_bytes()
        places = []
        with path.open("rb") as stream:
            for chunk in make_reader(stream).get_summary().chunk_indexes:  # type: ignore[union-attr]
                start = chunk.chunk_start_offset + chunk.chunk_length
                places += range(start, start + chunk.message_index_length)
        for place in places[::7]:
            content = bytearray(whole)
            content[place] ^= 1 << place % 8
            path.write_bytes(content)
            with BagImages(path) as source:
                frames = list(source)
            assert [number_of(frame.image) for frame in frames] == list(range(6)), place

    @pytest.mark.parametrize("crcs", [True, False])
    def test_every_byte_of_a_small_file(self, tmp_path: Path, crcs: bool) -> None:
        messages = [image_message(numbered(i, (2, 4)), stamp_of(i)) for i in range(3)]
        path = write_mcap(tmp_path / "a.mcap", messages, chunk_size=1, enable_crcs=crcs)
        whole = path.read_bytes()
        for place in range(8, len(whole), 5):
            content = bytearray(whole)
            content[place] ^= 1 << place % 8
            path.write_bytes(content)
            try:
                with BagImages(path) as source:
                    frames = list(source)
            except StreamError:
                continue
            assert len(frames) == 3 or source.warnings or source.dropped, place

    def test_a_damaged_first_chunk_loses_its_own_frames(self, tmp_path: Path) -> None:
        path = write_mcap(tmp_path / "a.mcap", numbered_messages(6), chunk_size=1)
        with path.open("rb") as stream:
            chunks = make_reader(stream).get_summary().chunk_indexes  # type: ignore[union-attr]
        content = bytearray(path.read_bytes())
        for chunk in chunks[:2]:  # mcap's writer puts schema and channel into the first
            content[chunk.chunk_start_offset + 70] ^= 0xFF
        path.write_bytes(content)
        with BagImages(path) as source:
            frames = list(source)
        given = [number_of(frame.image) for frame in frames]
        assert given == list(range(6 - len(given), 6)) and len(given) >= 4
        assert source.dropped == 6 - len(frames)
        assert "is damaged" in source.warnings[0] and " s to " in source.warnings[0]

    def test_what_the_index_leaves_out_is_found(self, tmp_path: Path) -> None:
        """A summary that is sound, and knows less than the file has."""
        path = write_mcap(tmp_path / "a.mcap", numbered_messages(4), chunk_size=1)
        content = path.read_bytes()
        with path.open("rb") as stream:
            summary = make_reader(stream).get_summary()
        assert summary is not None and summary.statistics is not None
        kept = [c for c in summary.chunk_indexes if c.message_index_offsets][1:]
        records = [*summary.schemas.values(), *summary.channels.values()]
        summary.statistics.chunk_count = len(kept)
        body = b"".join(_bytes_of(r) for r in [*records, summary.statistics, *kept])
        footer = struct.unpack("<QQI", content[-28:-8])
        start = footer[0]
        path.write_bytes(content[:start] + body + _bytes_of(Footer(start, 0, 0)) + content[-8:])
        with BagImages(path) as source:
            assert sorted(number_of(frame.image) for frame in source) == [0, 1, 2, 3]

    def test_a_small_file_that_grows_without_end(self, tmp_path: Path) -> None:
        bomb = zstandard.ZstdCompressor().compress(bytes(64 << 20))
        chunk = Chunk("zstd", bomb, 1, 1, 0, 64 << 20)
        path = tmp_path / "a.mcap"
        whole = write_mcap(tmp_path / "b.mcap", numbered_messages(2), chunk_size=1).read_bytes()
        end = whole.rindex(_bytes_of(DataEnd(0)))
        path.write_bytes(whole[:end] + _bytes_of(chunk))
        with BagImages(path, options=ReadOptions(unpack_bytes=1 << 20)) as source:
            assert len(list(source)) == 2
        assert any("--unpack-limit" in warning for warning in source.warnings)

    @pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
    def test_a_message_that_grows_without_end(self, tmp_path: Path, storage: str) -> None:
        bomb = zstandard.ZstdCompressor().compress(bytes(64 << 20))
        messages = [*numbered_messages(2), bomb]
        path = write_bag(tmp_path / "bag", {TOPIC: messages}, storage)
        tracemalloc.start()
        with BagImages(path, options=ReadOptions(unpack_bytes=1 << 20)) as source:
            assert len(list(source)) == 2
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert source.dropped == 1 and "grows beyond 1 MB" in source.warnings[0]
        assert peak < 8 << 20


class TestTimes:
    def test_text_and_negative_times_of_db3(self, tmp_path: Path) -> None:
        path = write_bag(tmp_path / "bag", {TOPIC: numbered_messages(4)}, "sqlite3") / "bag.db3"
        with closing(sqlite3.connect(path)) as database:
            database.execute("UPDATE messages SET timestamp = 'yesterday' WHERE id = 2")
            database.execute("UPDATE messages SET timestamp = -5 WHERE id = 3")
            database.commit()
        with BagImages(path) as source:
            frames = list(source)
        assert [number_of(frame.image) for frame in frames] == [2, 0, 3]
        assert frames[0].log_ns is None and source.dropped == 1
        assert "is recorded at 'yesterday', which is no time" in source.warnings[0]

    def test_log_times_beyond_63_bits(self, tmp_path: Path) -> None:
        messages = numbered_messages(2)
        with (tmp_path / "a.mcap").open("wb") as stream:
            writer: Any = mcap_writer.Writer(stream)
            writer.start("ros2")
            channel = writer.register_channel(
                TOPIC, "cdr", writer.register_schema(IMAGE, "ros2msg", b"")
            )
            for message, log_ns in zip(messages, (5, (1 << 64) - 1), strict=True):
                data = bytes(typestore().serialize_cdr(message, IMAGE))
                writer.add_message(channel, log_ns, data, log_ns)
            writer.finish()
        with BagImages(tmp_path / "a.mcap") as source:
            assert [frame.log_ns for frame in source] == [5, None]

    def test_stamps_that_no_message_can_carry_are_skipped(self, tmp_path: Path) -> None:
        messages = numbered_messages(2)
        messages[0].header.stamp.nanosec = 4_000_000_000
        with BagImages(write_bag(tmp_path / "bag", {TOPIC: messages})) as source:
            assert [frame.index for frame in source] == [1]
        assert "4000000000 ns: expected" in source.warnings[0]


def test_a_folder_of_images_stays_one_when_a_bag_lies_in_it(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), numbered(0))
    write_mcap(tmp_path / "masks.mcap", numbered_messages(2))
    assert not is_bag(tmp_path)
    (tmp_path / "a.png").unlink()
    assert is_bag(tmp_path)


def test_files_that_metadata_does_not_name_are_told(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", {TOPIC: numbered_messages(3)})
    write_mcap(bag / "masks.mcap", numbered_messages(2))
    source = assert_numbered(bag, 3)
    assert "masks.mcap: not read: metadata.yaml does not name it" in source.warnings[0]


def _bytes_of(record: McapRecord) -> bytes:
    builder: Any = RecordBuilder()
    record.write(builder)
    return bytes(builder.end())
