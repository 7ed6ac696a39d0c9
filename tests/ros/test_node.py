"""The node over real DDS, in a process of its own: frames, masks, parameters, health."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import CameraInfo, CompressedImage
from std_msgs.msg import String

from deeplab_rt.labels import LabelSet
from deeplab_rt.models import Model
from tests.ros.peer import NodeProcess, Peer, image, node_arguments, stamp_of, wait_for

MASK = "/deeplab/label_mask"


@pytest.fixture(scope="module")
def pair(
    palette_model: Model, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[NodeProcess, Peer]]:
    """An active node that listens to /image, and its peer."""
    log = tmp_path_factory.mktemp("node") / "log"
    peer = Peer()
    with NodeProcess(log, *node_arguments(palette_model, autostart="true")) as process:
        peer.publisher("/image")
        yield process, peer
    peer.close()


@pytest.fixture
def node(pair: tuple[NodeProcess, Peer]) -> NodeProcess:
    return pair[0]


@pytest.fixture
def peer(pair: tuple[NodeProcess, Peer]) -> Iterator[Peer]:
    """The peer, which has heard nothing and listens to nothing but label masks."""
    peer = pair[1]
    peer.forget()
    peer.listen(MASK)
    peer.matched(MASK)
    yield peer
    peer.forget()


def stamps_of(peer: Peer) -> list[int]:
    """Of the label masks that came, in order."""
    return [stamp_of(message) for message in list(peer.received[MASK])]


Painted = tuple[np.ndarray, np.ndarray]


def test_masks_carry_the_stamp_and_frame_of_their_image(
    peer: Peer, painted: Painted, camvid11: LabelSet
) -> None:
    frame, _ = painted
    others = ("/deeplab/drivable_mask", "/deeplab/object_mask")
    for topic in others:
        peer.listen(topic)
    peer.matched(MASK, *others)
    stamps = [time.time_ns() + i for i in range(3)]
    for index, stamp in enumerate(stamps):
        peer.send(frame, stamp)
        peer.masks(MASK, index + 1)
    labels = peer.masks(MASK)[0][1]
    for topic, lut in zip(others, (camvid11.drivable_lut, camvid11.objects_lut), strict=True):
        masks = peer.masks(topic, 3)
        assert [stamp for stamp, _ in masks] == stamps
        assert np.array_equal(masks[0][1], lut[labels])
    message = peer.received[MASK][0]
    assert (message.header.frame_id, message.encoding) == ("front_camera", "mono8")
    assert labels.shape == frame.shape[:2]
    assert labels[84, 64] == camvid11.index("road") + 1
    assert labels[60, 48] == camvid11.index("vehicle") + 1


@pytest.mark.parametrize("encoding", ["rgb8", "bgra8", "yuv422_yuy2", "nv12", "bayer_rggb8"])
def test_a_red_green_blue_picture_in_other_encodings(
    peer: Peer, painted: Painted, encoding: str, camvid11: LabelSet
) -> None:
    """Sky, road and vehicle are told by colour alone: swapped channels would show."""
    frame, expected = painted
    height, width = expected.shape
    codes = {"rgb8": cv2.COLOR_BGR2RGB, "bgra8": cv2.COLOR_BGR2BGRA}
    if encoding in codes:
        data = cv2.cvtColor(frame, codes[encoding])
    elif encoding == "bayer_rggb8":
        data = frame[..., 1].copy()
        data[::2, ::2], data[1::2, 1::2] = frame[::2, ::2, 2], frame[1::2, 1::2, 0]
    elif encoding == "nv12":
        planar = cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420)
        chroma = planar[height:].reshape(2, -1)
        data = np.vstack([planar[:height], chroma.T.reshape(-1, width)])
    else:
        data = cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_YUY2)
    message = image(data, time.time_ns(), encoding)
    message.height = height  # of nv12 the data have half as many rows again
    peer.publisher("/image").publish(message)
    labels = peer.masks(MASK)[0][1]
    for row, column in ((20, 64), (84, 64), (60, 48)):
        assert labels[row, column] == expected[row, column]


def test_the_newest_frame_wins_and_every_frame_is_counted(peer: Peer) -> None:
    frame = np.zeros((960, 1280, 3), np.uint8)
    before = peer.settled_counts()
    stamps = [time.time_ns() + i for i in range(60)]
    for stamp in stamps:
        peer.send(frame, stamp)
    wait_for(lambda: stamps[-1] in stamps_of(peer), "mask of the last frame")
    got = stamps_of(peer)
    assert got == sorted(set(got)) and set(got) <= set(stamps)
    after = peer.settled_counts()
    new = {name: after[name] - before[name] for name in after}
    assert len(got) <= new["received"] <= len(stamps)  # some may overrun the reader's history
    assert new["published"] == len(got) < new["received"]
    assert new["dropped"] == new["replaced"] > 0
    assert new["received"] == new["published"] + new["dropped"] + new["bad"]


def test_bad_frames_are_named_and_the_next_good_one_is_served(
    node: NodeProcess, peer: Peer, painted: Painted
) -> None:
    before = peer.settled_counts()
    bad = []
    for change in (
        {"encoding": "yuv999"},
        {"step": 5},
        {"height": 4000},
        {"height": 0, "width": 0},
        {"height": 1, "width": 30_000, "encoding": "mono8", "step": 30_000},
        {"height": 2**32 - 1, "width": 2**32 - 1, "step": 2**32 - 1},
    ):
        message = image(painted[0], time.time_ns())
        for name, value in change.items():
            setattr(message, name, value)
        bad.append(message)
    publisher = peer.publisher("/image")
    for message in bad:
        publisher.publish(message)
        time.sleep(0.02)  # a burst may overrun the reader's history
    stamp = time.time_ns()
    peer.send(painted[0], stamp)
    assert [s for s, _ in peer.masks(MASK)] == [stamp]
    status, _ = peer.diagnostics("camera", lambda s, v: "bad frames" in s.message)
    assert status.level >= DiagnosticStatus.WARN  # ERROR if the last mask was long ago
    assert peer.settled_counts()["bad"] - before["bad"] == len(bad)
    assert "unknown encoding 'yuv999'; known: bgr8" in node.output


@pytest.mark.parametrize("shape", [(1, 1), (3, 900), (481, 641)])
def test_frames_of_any_size(peer: Peer, shape: tuple[int, int]) -> None:
    peer.send(np.zeros((*shape, 3), np.uint8), time.time_ns())
    assert peer.masks(MASK)[0][1].shape == shape


def test_parameters_that_may_change_while_running(
    peer: Peer, painted: Painted, camvid11: LabelSet
) -> None:
    frame = cv2.resize(painted[0], (256, 192), interpolation=cv2.INTER_NEAREST)
    topics = ("/deeplab/drivable_mask", "/deeplab/confidence")
    for topic in topics:
        peer.listen(topic)
    assert not peer.set(publish_confidence=True)
    peer.matched(MASK, *topics)
    assert not peer.set(
        mask_size="network",
        publish_confidence=True,
        drivable_classes=["sky"],
        object_classes=["road"],
    )
    peer.send(frame, time.time_ns())
    drivable, confidence = (peer.masks(topic)[0][1] for topic in topics)
    labels = peer.masks(MASK)[0][1]
    assert labels.shape == confidence.shape == (96, 128)
    assert np.array_equal(drivable == 255, labels == camvid11.index("sky") + 1)
    assert not peer.set(
        mask_size="input",
        publish_confidence=False,
        drivable_classes=[""],
        object_classes=[""],
    )
    peer.send(frame, time.time_ns())
    assert peer.masks(MASK, 2)[1][1].shape == (192, 256)
    assert peer.masks(topics[0], 2)[1][1][168, 128] == 255  # road again
    assert len(peer.received[topics[1]]) == 1


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"drivable_classes": ["lane"]}, "unknown label 'lane'; this model knows: sky"),
        ({"drivable_classes": ["vehicle"]}, "vehicle: drivable and an object at once"),
        ({"model": "other"}, "model needs `cleanup`"),
        ({"image_qos": "sensor_data"}, "image_qos needs `deactivate`"),
        ({"mask_size": "huge"}, "mask_size is 'huge', expected one of: input, network"),
        ({"overlay_alpha": 0.1, "input_size": "641x480"}, "multiple of 32"),
        ({"overlay_alpha": 7.0}, "out of range"),
        ({"autostart": False}, "read-only"),
    ],
)
def test_parameters_that_are_refused_change_nothing(
    peer: Peer, values: dict[str, object], reason: str
) -> None:
    before = peer.get(*values)
    assert reason in peer.set(**values)
    assert peer.get(*values) == before


def test_label_info_reaches_those_who_come_late(peer: Peer, camvid11: LabelSet) -> None:
    vision_msgs = pytest.importorskip("vision_msgs.msg") if _has_vision_msgs() else None
    topic = "/deeplab/label_info"
    peer.listen(topic, vision_msgs.LabelInfo if vision_msgs else String, latched=True)
    wait_for(lambda: peer.received[topic], "label_info")
    message = peer.received[topic][0]
    if vision_msgs:
        classes = {entry.class_id: entry.class_name for entry in message.class_map}
    else:
        classes = {e["class_id"]: e["class_name"] for e in json.loads(message.data)["class_map"]}
    assert classes == {label.id: label.name for label in camvid11.labels}


def _has_vision_msgs() -> bool:
    from deeplab_rt.ros.outputs import LabelInfo

    return LabelInfo is not None


def test_camera_info_fits_the_mask(peer: Peer) -> None:
    topic = "/deeplab/camera_info"
    peer.listen(topic, CameraInfo)
    info = CameraInfo(width=1280, height=960, distortion_model="plumb_bob", d=[0.1, 0, 0, 0, 0])
    info.k = np.array([800.0, 0, 639.5, 0, 810, 479.5, 0, 0, 1])
    info.p = np.array([800.0, 0, 639.5, -80, 0, 810, 479.5, 0, 0, 0, 1, 0])
    publisher = peer.publisher("/camera_info", CameraInfo)

    def answered() -> bool:
        publisher.publish(info)
        peer.send(np.zeros((480, 640, 3), np.uint8), time.time_ns())
        time.sleep(0.05)
        return bool(peer.received[topic])

    wait_for(answered, "camera_info")
    scaled = peer.received[topic][0]
    assert (scaled.width, scaled.height, scaled.distortion_model) == (640, 480, "plumb_bob")
    assert np.allclose(scaled.k, [400, 0, 319.5, 0, 405, 239.5, 0, 0, 1])
    assert np.allclose(scaled.p, [400, 0, 319.5, -40, 0, 405, 239.5, 0, 0, 0, 1, 0])
    assert stamp_of(scaled) in [stamp for stamp, _ in peer.masks(MASK)]


def test_overlay_is_made_while_somebody_listens(
    peer: Peer, painted: Painted, camvid11: LabelSet
) -> None:
    raw, jpeg = "/deeplab/overlay", "/deeplab/overlay/compressed"
    peer.listen(raw)
    peer.listen(jpeg, CompressedImage)
    peer.matched(MASK, raw, jpeg)
    assert not peer.set(overlay_alpha=1.0)
    stamp = time.time_ns()
    peer.send(painted[0], stamp)
    wait_for(lambda: peer.received[raw] and peer.received[jpeg], "overlays")
    message = peer.received[raw][0]
    assert (message.encoding, stamp_of(message)) == ("bgr8", stamp)
    picture = np.frombuffer(message.data, np.uint8).reshape(96, 128, 3)
    labels = peer.masks(MASK)[0][1]
    assert np.array_equal(picture, camvid11.palette[labels][..., ::-1])
    decoded = cv2.imdecode(np.frombuffer(peer.received[jpeg][0].data, np.uint8), 1)
    assert decoded.shape == picture.shape
    assert not peer.set(overlay_alpha=0.5)


def test_enable_switches_the_masks(peer: Peer, painted: Painted) -> None:
    peer.enable(False)
    wait_for(lambda: not peer.publisher_count("/image"), "unsubscription")
    peer.diagnostics("camera", lambda s, v: s.message == "not listening" and s.level == b"\0")
    peer.publish_blindly(painted[0], time.time_ns())
    peer.enable(True)
    stamp = time.time_ns()
    peer.send(painted[0], stamp)
    assert [s for s, _ in peer.masks(MASK)] == [stamp]


def test_diagnostics_name_what_runs_and_what_is_wrong(peer: Peer, painted: Painted) -> None:
    peer.send(painted[0], time.time_ns())
    _, values = peer.diagnostics("engine", lambda s, v: v.get("state") == "active")
    assert (values["backend"], values["precision"]) == ("openvino", "fp32")
    assert values["input"].startswith("follows the frame's shape")  # and which it has taken so far
    status, values = peer.diagnostics("camera", lambda s, v: "no frame for" in s.message)
    assert status.level == DiagnosticStatus.ERROR
    assert status.hardware_id
    for stage in ("transport", "wait", "decode", "network", "publish", "node", "latency"):
        assert float(values[f"{stage} p50 (ms)"]) <= float(values[f"{stage} p99 (ms)"])


def test_old_frames_are_dropped(peer: Peer, painted: Painted) -> None:
    before = peer.settled_counts()
    assert not peer.set(max_age_ms=5000.0, expected_rate_hz=30.0)
    peer.send(painted[0], time.time_ns() - 6_000_000_000)
    fresh = time.time_ns()
    peer.send(painted[0], fresh)
    assert [stamp for stamp, _ in peer.masks(MASK)] == [fresh]
    status, _ = peer.diagnostics("camera", lambda s, v: "older than 5000 ms" in s.message)
    assert "expected 30" in status.message
    assert not peer.set(max_age_ms=0.0, expected_rate_hz=0.0)
    after = peer.settled_counts()
    assert after["stale"] - before["stale"] == after["dropped"] - before["dropped"] == 1


def test_frames_without_a_stamp_are_served(peer: Peer, painted: Painted) -> None:
    assert not peer.set(max_age_ms=100.0)
    peer.send(painted[0], 0)
    assert peer.masks(MASK)[0][0] == 0
    assert not peer.set(max_age_ms=0.0)
