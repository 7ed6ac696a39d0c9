"""The masks bag."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mcap.reader import make_reader
from mcap.records import Chunk
from mcap.stream_reader import StreamReader
from rosbags.interfaces import QosDurability, QosReliability
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from deeplab_rt.errors import StreamError
from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.streams.bag_reader import BagImages
from deeplab_rt.streams.bag_writer import BagSink
from deeplab_rt.streams.base import ReadOptions
from deeplab_rt.streams.records import BagFrame
from tests.unit.streams.media import (
    camera_info,
    image_message,
    number_of,
    numbered,
    stamp_of,
    write_bag,
)

TOPICS = ["/deeplab/label_info", "/deeplab/drivable_mask", "/deeplab/object_mask"]
TOPICS.append("/deeplab/label_mask")


def frame_of(index: int, size: tuple[int, int] = (5, 7)) -> Frame:
    log_ns = stamp_of(index) + 1000
    return Frame(numbered(index, size), index, stamp_of(index), "front", "", "bgr", log_ns)


def masks_of(index: int, size: tuple[int, int] = (5, 7)) -> Masks:
    labels = np.full(size, index + 1, np.uint8)
    labels[0] = 9
    drivable = np.where(labels == 4, 255, 0).astype(np.uint8)
    return Masks(labels, drivable, np.where(labels == 9, 9, 0).astype(np.uint8))


def write(path: Path, labels: LabelSet, count: int = 4, **options: Any) -> None:
    sink = BagSink(path, labels, **options)
    for index in range(count):
        sink.write(frame_of(index), masks_of(index))
    sink.close()


def read(path: Path) -> list[tuple[str, int, Any]]:
    """Every message as rosbags alone reads it, with the types that the bag itself describes."""
    store = get_typestore(Stores.EMPTY)
    with Reader(path) as reader:
        for connection in reader.connections:
            store.register(get_types_from_msg(connection.msgdef.data, connection.msgtype))
        return [
            (connection.topic, log_ns, store.deserialize_cdr(data, connection.msgtype))
            for connection, log_ns, data in reader.messages()
        ]


@pytest.mark.parametrize("name", ["masks", "masks.mcap", "masks.db3"])
def test_a_bag_of_every_kind_describes_itself(
    tmp_path: Path, camvid11: LabelSet, name: str
) -> None:
    path = tmp_path / name
    write(path, camvid11)
    assert os.listdir(tmp_path) == [name]
    messages = read(path)
    topics = [topic for topic, _, _ in messages]
    assert topics == [TOPICS[0], *TOPICS[1:] * 4]
    info = messages[0][2]
    named = {entry.class_id: entry.class_name for entry in info.class_map}
    assert named == {label.id: label.name for label in camvid11.labels}
    for number, (topic, log_ns, message) in enumerate(messages[1:]):
        index = number // 3
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        assert (stamp, log_ns) == (stamp_of(index), stamp_of(index) + 1000)
        assert message.header.frame_id == "front"
        assert (message.encoding, message.height, message.width, message.step) == ("mono8", 5, 7, 7)
        kind = {"drivable_mask": "drivable", "object_mask": "objects", "label_mask": "labels"}
        expected = getattr(masks_of(index), kind[topic.split("/")[-1]])
        assert np.array_equal(message.data.reshape(5, 7), expected)


@pytest.mark.parametrize("name", ["masks", "masks.mcap", "masks.db3"])
def test_qos_is_what_the_node_offers(tmp_path: Path, camvid11: LabelSet, name: str) -> None:
    write(tmp_path / name, camvid11)
    with Reader(tmp_path / name) as reader:
        offered = {c.topic: c.ext.offered_qos_profiles for c in reader.connections}  # type: ignore[union-attr]
    assert sorted(offered) == sorted(TOPICS)
    for topic, (profile,) in offered.items():
        latched = topic == "/deeplab/label_info"
        assert profile.reliability == QosReliability.RELIABLE
        assert (profile.durability == QosDurability.TRANSIENT_LOCAL) == latched
        assert profile.depth == (1 if latched else 5)


def test_metadata_of_the_directory(tmp_path: Path, camvid11: LabelSet) -> None:
    write(tmp_path / "masks", camvid11)
    content = yaml.safe_load((tmp_path / "masks" / "metadata.yaml").read_text())
    bag = content["rosbag2_bagfile_information"]
    assert bag["storage_identifier"] == "mcap"
    assert bag["relative_file_paths"] == ["masks_0.mcap"] == [bag["files"][0]["path"]]
    assert bag["message_count"] == 13 == bag["files"][0]["message_count"]
    assert bag["starting_time"]["nanoseconds_since_epoch"] == stamp_of(0) + 1000
    assert bag["duration"]["nanoseconds"] == stamp_of(3) - stamp_of(0)
    counts = [topic["message_count"] for topic in bag["topics_with_message_count"]]
    assert counts == [1, 4, 4, 4]


def test_frames_are_recorded_on_request_and_can_be_replayed(
    tmp_path: Path, camvid11: LabelSet
) -> None:
    write(tmp_path / "a.mcap", camvid11, with_frames=True)
    with BagImages(tmp_path / "a.mcap", "/image/compressed") as source:
        frames = list(source)
    assert [number_of(frame.image) for frame in frames] == [0, 1, 2, 3]
    assert [frame.stamp_ns for frame in frames] == [stamp_of(index) for index in range(4)]


def test_rgb_frames_are_recorded_in_their_true_colours(tmp_path: Path, camvid11: LabelSet) -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    image[..., 0] = 255  # red
    sink = BagSink(tmp_path / "a.mcap", camvid11, with_frames=True)
    sink.write(Frame(image, 0, 0, channels="rgb"), masks_of(0))
    sink.close()
    (frame,) = BagImages(tmp_path / "a.mcap", "/image/compressed")
    blue, _, red = frame.image[8, 8]
    assert red > 240 and blue < 15


def test_masks_of_changing_size(tmp_path: Path, camvid11: LabelSet) -> None:
    sink = BagSink(tmp_path / "a.mcap", camvid11)
    for index, size in enumerate([(1, 1), (480, 641), (3, 2)]):
        sink.write(frame_of(index, size), masks_of(index, size))
    sink.close()
    with BagImages(tmp_path / "a.mcap", "/deeplab/label_mask") as source:
        assert [frame.image.shape[:2] for frame in source] == [(1, 1), (480, 641), (3, 2)]


def test_without_a_frame_nothing_is_written(tmp_path: Path, camvid11: LabelSet) -> None:
    write(tmp_path / "masks", camvid11, count=0)
    assert os.listdir(tmp_path) == []


class TestOverwriting:
    @pytest.mark.parametrize("name", ["masks", "masks.mcap", "masks.db3"])
    def test_an_output_that_exists_is_refused_and_kept(
        self, tmp_path: Path, camvid11: LabelSet, name: str
    ) -> None:
        write(tmp_path / name, camvid11, count=2)
        with pytest.raises(StreamError, match=f"{name}: exists already.*--overwrite"):
            BagSink(tmp_path / name, camvid11)
        assert len(read(tmp_path / name)) == 7

    @pytest.mark.parametrize("name", ["masks", "masks.mcap", "masks.db3"])
    def test_or_replaced_once_the_first_frame_is_there(
        self, tmp_path: Path, camvid11: LabelSet, name: str
    ) -> None:
        write(tmp_path / name, camvid11, count=2)
        sink = BagSink(tmp_path / name, camvid11, overwrite=True)
        assert len(read(tmp_path / name)) == 7
        sink.write(frame_of(0), masks_of(0))
        sink.close()
        assert len(read(tmp_path / name)) == 4

    def test_a_folder_of_other_things_is_never_removed(
        self, tmp_path: Path, camvid11: LabelSet
    ) -> None:
        folder = tmp_path / "holiday"
        folder.mkdir()
        (folder / "beach.jpg").write_bytes(b"picture")
        with pytest.raises(StreamError, match="not replaced: its metadata.yaml"):
            BagSink(folder, camvid11, overwrite=True)
        assert (folder / "beach.jpg").read_bytes() == b"picture"

    def test_a_folder_that_is_not_there(self, tmp_path: Path, camvid11: LabelSet) -> None:
        with pytest.raises(StreamError, match="there is no folder"):
            BagSink(tmp_path / "nope" / "masks", camvid11)


def test_two_commands_do_not_write_one_bag(tmp_path: Path, camvid11: LabelSet) -> None:
    for name in ("masks", "masks.mcap", "masks.db3"):
        first = BagSink(tmp_path / name, camvid11)
        with pytest.raises(StreamError, match="another command is writing it"):
            BagSink(tmp_path / name, camvid11, overwrite=True)
        first.write(frame_of(0), masks_of(0))
        with pytest.raises(StreamError, match="another command is writing it"):
            BagSink(tmp_path / name, camvid11, overwrite=True)
        first.close()
        BagSink(tmp_path / name, camvid11, overwrite=True).close()
        assert len(read(tmp_path / name)) == 4


@pytest.mark.parametrize("name", ["masks#1.db3", "50%41.db3", "what?mode=memory.db3"])
def test_names_that_mean_something_in_a_uri(tmp_path: Path, camvid11: LabelSet, name: str) -> None:
    write(tmp_path / name, camvid11)
    assert os.listdir(tmp_path) == [name]
    with BagImages(tmp_path / name, "/deeplab/label_mask") as source:
        assert len(list(source)) == 4


@pytest.mark.parametrize("name", ["masks.mcap", "masks.db3"])
def test_several_cameras_confidence_and_calibration(
    tmp_path: Path, camvid11: LabelSet, name: str
) -> None:
    sink = BagSink(tmp_path / name, camvid11)
    for index, camera in enumerate(["/left/image_raw", "/right/image_raw", "/left/image_raw"]):
        frame = frame_of(index)
        fields = {field.name: getattr(frame, field.name) for field in dataclasses.fields(frame)}
        fields["camera"] = camera
        masks = masks_of(index)
        masks.confidence = np.full((5, 7), 200, np.uint8)
        sink.write(BagFrame(**fields, camera_info=camera_info(index)), masks)
    sink.close()
    counts = Counter(topic for topic, _, _ in read(tmp_path / name))
    for camera, count in (("left", 2), ("right", 1)):
        space = f"/deeplab/{camera}/image_raw"
        assert counts.pop(f"{space}/label_info") == 1
        for kind in ("drivable_mask", "object_mask", "label_mask", "confidence", "camera_info"):
            assert counts.pop(f"{space}/{kind}") == count
    assert not counts
    infos = [
        m for topic, _, m in read(tmp_path / name) if topic.endswith("left/image_raw/camera_info")
    ]
    assert (infos[1].width, infos[1].height) == (7, 5)
    assert infos[1].k[0] == pytest.approx(100 * 7 / 64)


def raw_bag(path: Path) -> Path:
    messages = [image_message(numbered(i), stamp_of(i)) for i in range(3)]
    return write_bag(path, {"/image": messages, "/info": [camera_info(i) for i in range(4)]})


@pytest.mark.parametrize("name", ["out.mcap", "out.db3"])
def test_the_input_is_copied_untouched(tmp_path: Path, camvid11: LabelSet, name: str) -> None:
    bag = raw_bag(tmp_path / "in")
    sink = BagSink(tmp_path / name, camvid11, with_input=True)
    with BagImages(bag, options=ReadOptions(raw=True)) as source:
        for frame in source:
            sink.write(frame, masks_of(frame.index))
        sink.add_messages(source.rest())
    sink.close()
    with Reader(bag) as reader:
        before = [(c.topic, t, bytes(d)) for c, t, d in reader.messages()]
    with Reader(tmp_path / name) as reader:
        after = [(c.topic, t, bytes(d)) for c, t, d in reader.messages()]
    assert [entry for entry in after if not entry[0].startswith("/deeplab/")] == before
    assert Counter(topic for topic, _, _ in read(tmp_path / name)) == {
        "/image": 3,
        "/info": 4,
        "/deeplab/label_info": 1,
        "/deeplab/drivable_mask": 3,
        "/deeplab/object_mask": 3,
        "/deeplab/label_mask": 3,
    }


def test_old_masks_of_the_input_are_not_mixed_with_the_new(
    tmp_path: Path, camvid11: LabelSet
) -> None:
    write(tmp_path / "old.mcap", camvid11, count=2, with_frames=True)
    sink = BagSink(tmp_path / "new.mcap", camvid11, with_input=True)
    with BagImages(tmp_path / "old.mcap", options=ReadOptions(raw=True)) as source:
        assert source.topic == "/image/compressed"
        for frame in source:
            sink.write(frame, masks_of(frame.index))
        sink.add_messages(source.rest())
    sink.close()
    counts = Counter(topic for topic, _, _ in read(tmp_path / "new.mcap"))
    assert counts["/deeplab/label_mask"] == 2 and counts["/image/compressed"] == 2
    assert "without /deeplab/label_info: the new masks" in sink.warnings[0]


def test_mcap_s_own_reader_finds_every_checksum_right(tmp_path: Path, camvid11: LabelSet) -> None:
    write(tmp_path / "a.mcap", camvid11, count=5)
    with (tmp_path / "a.mcap").open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None
        assert summary.statistics.message_count == 16 and summary.statistics.chunk_count == 5
        assert len(list(reader.iter_messages())) == 16
        assert [record.name for record in reader.iter_metadata()] == ["rosbag2"]
        stream.seek(0)
        chunks = [r for r in StreamReader(stream, emit_chunks=True).records if isinstance(r, Chunk)]
    assert all(chunk.uncompressed_crc for chunk in chunks) and len(chunks) == 5


@pytest.mark.parametrize("name", ["masks.mcap", "masks.db3"])
def test_memory_does_not_grow_with_the_recording(
    tmp_path: Path, camvid11: LabelSet, name: str
) -> None:
    sink = BagSink(tmp_path / name, camvid11)
    used = {}
    tracemalloc.start()
    for index in range(2001):
        sink.write(frame_of(index % 40), masks_of(index % 40))
        if index in (500, 2000):
            used[index] = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    sink.close()
    assert used[2000] - used[500] < 20_000  # 13 bytes a frame; an index in memory takes 1,000


KILLED = """
import os, signal, sys
from pathlib import Path
from deeplab_rt.labels import load_label_set
from deeplab_rt.streams.bag_writer import BagSink
from tests.integration.streams.test_bag_writer import frame_of, masks_of
sink = BagSink(Path(sys.argv[1]), load_label_set("camvid11"))
for index in range(7):
    sink.write(frame_of(index), masks_of(index))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("name", ["masks", "masks.mcap", "masks.db3"])
def test_killed_in_the_middle_every_frame_written_is_readable(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    with BagImages(path, "/deeplab/label_mask") as source:
        values = [int(frame.image[2, 2, 0]) for frame in source]
    assert values == [1, 2, 3, 4, 5, 6, 7]
    assert os.listdir(tmp_path) == [name]
    if name != "masks.db3":
        assert "not closed properly" in source.warnings[0]


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from deeplab_rt.errors import StreamError
from deeplab_rt.labels import load_label_set
from deeplab_rt.masks import Masks
from deeplab_rt.streams.bag_writer import BagSink
from tests.integration.streams.test_bag_writer import frame_of
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
sink = BagSink(Path(sys.argv[1]), load_label_set("camvid11"))
noise = np.random.default_rng(0).integers(0, 255, (480, 640), np.uint8)
written = 0
try:
    while written < 100:
        sink.write(frame_of(written), Masks(noise, noise, noise))
        written += 1
except StreamError as error:
    sink.close()
    print(written)
    sys.exit(str(error))
"""


@pytest.mark.parametrize("name", ["masks", "masks.mcap", "masks.db3"])
def test_a_write_that_fails_is_one_line_and_loses_nothing_before_it(
    tmp_path: Path, name: str
) -> None:
    """A limit on the file's size stands for every error that shows only when writing."""
    path = tmp_path / name
    command = [sys.executable, "-c", LIMITED, str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    partial = path.with_name(f"masks.partial{path.suffix}")
    reason = "disk I/O error" if path.suffix == ".db3" else "File too large"
    kept = f"the {int(done.stdout)} frames before are in {partial}"
    assert done.stderr.strip() == f"{path}: cannot write: {reason}; {kept}"
    assert os.listdir(tmp_path) == [partial.name]
    with BagImages(partial, "/deeplab/drivable_mask") as source:
        assert 1 < len(list(source)) == int(done.stdout)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("name", ["masks", "masks.mcap", "masks.db3"])
def test_a_disk_that_fills_up_leaves_a_whole_bag(
    tmp_path: Path, camvid11: LabelSet, name: str
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "none", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mount does not work here")
    try:
        sink = BagSink(disk / name, camvid11)
        noise = np.random.default_rng(0).integers(0, 255, (480, 640), np.uint8)
        written = 0

        def fill() -> None:
            nonlocal written
            while written < 100:
                sink.write(frame_of(written), Masks(noise, noise, noise))
                written += 1

        with pytest.raises(StreamError, match="the disk is full .* frames before are in"):
            fill()
        sink.close()
        (partial,) = disk.iterdir()
        assert partial.name == f"masks.partial{Path(name).suffix}"
        assert 4 < 1 + 3 * written == len(read(partial))
    finally:
        subprocess.run(["umount", str(disk)], check=True)
