"""What a vehicle asks of the node: several cameras, mismatched peers, simulated time, a planner."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from nav_msgs.msg import OccupancyGrid
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, LaserScan

from deeplab_rt.camera.ground_view import FREE, UNKNOWN
from deeplab_rt.labels import LabelSet
from deeplab_rt.models import Model
from tests.ros.peer import NodeProcess, Peer, image, node_arguments, stamp_of, wait_for

MASK = "/deeplab/label_mask"
Painted = tuple[np.ndarray, np.ndarray]


def test_several_cameras_share_the_engine_and_not_their_fate(
    palette_model: Model, tmp_path: Path, peer: Peer, camvid11: LabelSet
) -> None:
    names = ("front", "left", "right")
    arguments = node_arguments(palette_model, autostart="true", cameras="['front','left','right']")
    masks = {name: f"/deeplab/{name}/label_mask" for name in names}
    with NodeProcess(tmp_path / "log", *arguments) as node:
        publishers = {name: peer.publisher(f"/{name}/image") for name in names}
        probe = np.zeros((8, 8, 3), np.uint8)
        for name, publisher in publishers.items():
            peer.listen(masks[name])
            peer.matched(masks[name], send=lambda n, p=publisher: p.publish(image(probe, n)))
        before = {name: peer.settled_counts(name) for name in names}
        # One camera floods, one sends a frame now and then, one sends rubbish.
        colours = {"front": "sky", "left": "road"}
        pictures = {
            name: np.full((48, 64, 3), camvid11.palette[camvid11.index(label) + 1][::-1], np.uint8)
            for name, label in colours.items()
        }
        broken = image(pictures["front"], time.time_ns())
        broken.step = 1
        stamps = []
        for _ in range(10):
            for _ in range(10):
                publishers["front"].publish(image(pictures["front"], time.time_ns()))
            publishers["right"].publish(broken)
            stamps.append(time.time_ns())
            publishers["left"].publish(image(pictures["left"], stamps[-1]))
            sent = len(stamps)
            wait_for(lambda n=sent: len(peer.received[masks["left"]]) == n, "slow camera's mask")
        assert [stamp for stamp, _ in peer.masks(masks["left"])] == stamps
        for name, label in colours.items():
            wanted = camvid11.index(label) + 1
            assert all((mask == wanted).all() for _, mask in peer.masks(masks[name]))
        assert not peer.received[masks["right"]]
        assert peer.settled_counts("right")["bad"] - before["right"]["bad"] == 10
        assert peer.settled_counts("left")["dropped"] == before["left"]["dropped"]
        assert node.output.count("model palette") == 1
        node.stop()


def test_cameras_by_their_topics(
    palette_model: Model, tmp_path: Path, peer: Peer, painted: Painted
) -> None:
    arguments = node_arguments(
        palette_model, autostart="true", images="['/a/image_raw','/b/colour/image']"
    )
    with NodeProcess(tmp_path / "log", *arguments) as node:
        for name, topic in (("a", "/a/image_raw"), ("b", "/b/colour/image")):
            mask = f"/deeplab/{name}/label_mask"
            peer.listen(mask)
            peer.matched(mask, send=lambda n, t=topic: peer.send(painted[0], n, t))
        node.wait_for_line("listening to /b/colour/image")
        node.wait_for_line("and /b/colour/camera_info")
        node.stop()


def test_mismatched_quality_of_service_names_both_sides(
    palette_model: Model, tmp_path: Path, peer: Peer
) -> None:
    arguments = node_arguments(palette_model, autostart="true")
    with NodeProcess(tmp_path / "log", *arguments) as node:
        peer.offer("/image", reliable=False)
        peer.listen("/deeplab/object_mask", latched=True)
        node.wait_for_line(
            "no connection on /image: incompatible RELIABILITY: this node subscribes"
        )
        node.wait_for_line("reliable, volatile; publishers: /peer (best effort, volatile)")
        node.wait_for_line("no connection on /deeplab/object_mask: incompatible DURABILITY")
        node.wait_for_line("subscribers: /peer (reliable, transient local)")
        node.stop()


def test_overrides_of_quality_of_service_and_a_missed_deadline(
    palette_model: Model, tmp_path: Path, peer: Peer, painted: Painted
) -> None:
    overrides = {
        "image_qos": "sensor_data",
        "qos_overrides./image.subscription.reliability": "reliable",
        "qos_overrides./image.subscription.deadline": "100000000",
        "qos_overrides./deeplab/label_mask.publisher.reliability": "best_effort",
    }
    arguments = node_arguments(palette_model, autostart="true", **overrides)
    with NodeProcess(tmp_path / "log", *arguments) as node:
        peer.offer("/image", deadline_ms=100)
        peer.listen(MASK, reliable=False)
        peer.matched(MASK)
        wait_for(lambda: peer.node.get_subscriptions_info_by_topic("/image"), "subscription")
        (ours,) = peer.node.get_subscriptions_info_by_topic("/image")
        assert ours.qos_profile.reliability.name == "RELIABLE"
        (masks,) = peer.node.get_publishers_info_by_topic(MASK)
        assert masks.qos_profile.reliability.name == "BEST_EFFORT"
        peer.send(painted[0], time.time_ns())
        peer.masks(MASK)
        node.wait_for_line("/image: deadline missed")
        node.stop()


def test_compressed_images_on_a_remapped_topic_in_simulated_time(
    palette_model: Model, tmp_path: Path, peer: Peer, painted: Painted
) -> None:
    arguments = node_arguments(
        palette_model, autostart="true", image_transport="compressed", use_sim_time="true"
    )
    with NodeProcess(tmp_path / "log", "-r", "image:=/front/image_raw", *arguments) as node:
        clock = peer.publisher("/clock", Clock)
        topic = "/front/image_raw/compressed"
        publisher = peer.publisher(topic, CompressedImage)
        peer.listen(MASK)
        # The simulation stands at 100 s; the frames were taken 40 ms before.
        tick = Clock()
        tick.clock.sec = 100
        clock.publish(tick)
        time.sleep(0.3)
        taken = 100_000_000_000 - 40_000_000

        def send(number: int, kind: str = ".jpg") -> None:
            message = CompressedImage(data=cv2.imencode(kind, painted[0])[1].tobytes())
            message.header = image(painted[0], taken + number).header
            publisher.publish(message)

        peer.matched(MASK, send=send)
        for index, kind in enumerate((".jpg", ".png")):
            send(1000 + index, kind)
            stamp = taken + 1000 + index
            masks = wait_for(lambda s=stamp: [m for m in peer.masks(MASK) if m[0] == s], "mask")
            labels = masks[0][1]
            assert (labels[84, 64], labels[20, 64]) == (painted[1][84, 64], painted[1][20, 64])
        _, values = peer.diagnostics("camera", lambda s, v: "latency p50 (ms)" in v)
        assert float(values["latency p50 (ms)"]) == pytest.approx(40, abs=1)
        assert float(values["age of newest mask (ms)"]) == pytest.approx(40, abs=1)
        node.stop()


def test_drivable_grid_and_what_semantic_layers_of_nav2_ask_for(
    palette_model: Model, tmp_path: Path, peer: Peer, camvid11: LabelSet
) -> None:
    """A road of one colour below the horizon: the grid ahead of the blind spot is free.

    Nav2's semantic layers take a mono8 label mask and a mono8 confidence of the same size, stamp and
    frame, and labels that are latched, with 0 for none.
    """
    grid, confidence = "/deeplab/drivable_grid", "/deeplab/confidence"
    arguments = node_arguments(
        palette_model,
        autostart="true",
        publish_grid="true",
        publish_confidence="true",
        grid_frame="base_link",
        camera_height_m="1.5",
        camera_pitch_deg="0.0",
        grid_resolution_m="0.5",
        grid_length_m="20.0",
        grid_width_m="10.0",
    )
    picture = np.full((240, 320, 3), camvid11.palette[camvid11.index("sky") + 1][::-1], np.uint8)
    picture[120:] = camvid11.palette[camvid11.index("road") + 1][::-1]
    info = CameraInfo(width=320, height=240)
    info.k = np.array([250.0, 0, 159.5, 0, 250, 119.5, 0, 0, 1])
    with NodeProcess(tmp_path / "log", *arguments) as node:
        peer.listen(grid, OccupancyGrid)
        for topic in (MASK, confidence):
            peer.listen(topic)
        peer.matched(MASK, confidence)
        node.wait_for_line("no ground: no camera_info has come")
        publisher = peer.publisher("/camera_info", CameraInfo)

        def send(number: int) -> None:
            publisher.publish(info)
            peer.send(picture, number)

        peer.matched(grid, MASK, confidence, send=send)
        stamp = time.time_ns()
        peer.send(picture, stamp)
        message = wait_for(lambda: peer.received[grid], "grid")[0]
        peer.masks(MASK)
        peer.masks(confidence)
        node.stop()
    assert (message.header.frame_id, stamp_of(message)) == ("base_link", stamp)
    assert (message.info.width, message.info.height) == (40, 20)
    assert message.info.resolution == pytest.approx(0.5)
    assert (message.info.origin.position.x, message.info.origin.position.y) == (0.0, -5.0)
    assert message.info.origin.orientation.w == 1.0
    cells = np.array(message.data, np.int8).reshape(20, 40)
    assert (cells[8:12, 10:30] == FREE).all()
    assert (cells[:, :4] == UNKNOWN).all()  # nearer than 1.5 m x 250 / 120: below the picture

    labels, sure = peer.received[MASK][-1], peer.received[confidence][-1]
    assert labels.header == sure.header
    assert labels.encoding == sure.encoding == "mono8"
    assert (labels.height, labels.width) == (sure.height, sure.width) == (240, 320)
    assert 0 not in np.unique(labels.data)  # every pixel has a label
    assert np.median(np.array(sure.data, np.uint8)) > 25  # of eleven classes, the winner's share


def test_free_space_and_the_vehicles_own_pixels(
    palette_model: Model, tmp_path: Path, peer: Peer, camvid11: LabelSet
) -> None:
    """A road below the horizon; the lowest sixth of the image is the bonnet, in a vehicle's colour."""
    scan, grid = "/deeplab/free_space", "/deeplab/drivable_grid"
    arguments = node_arguments(
        palette_model,
        autostart="true",
        publish_grid="true",
        publish_free_space="true",
        ego_mask="['0,200 319,200 319,239 0,239']",
        free_space_range_m="15.0",
    )
    colours = camvid11.palette[:, ::-1]
    picture = np.full((240, 320, 3), colours[camvid11.index("sky") + 1], np.uint8)
    picture[120:] = colours[camvid11.index("road") + 1]
    picture[200:] = colours[camvid11.index("vehicle") + 1]
    info = CameraInfo(width=320, height=240)
    info.k = np.array([250.0, 0, 159.5, 0, 250, 119.5, 0, 0, 1])
    with NodeProcess(tmp_path / "log", *arguments) as node:
        peer.listen(scan, LaserScan)
        peer.listen(MASK)
        publisher = peer.publisher("/camera_info", CameraInfo)

        def send(number: int) -> None:
            publisher.publish(info)
            peer.send(picture, number)

        peer.matched(scan, MASK, send=send)
        stamp = time.time_ns()
        peer.send(picture, stamp)
        message = wait_for(lambda: peer.received[scan], "scan")[0]
        labels = peer.masks(MASK)[0][1]
        # Latched: who comes late gets the last one, as Nav2's static layer wants it.
        peer.listen(grid, OccupancyGrid, latched=True)
        late = wait_for(lambda: peer.received[grid], "the last grid")[0]
        node.stop()
    assert stamp_of(message) == stamp_of(late) == stamp
    assert (labels[200:] == 0).all()
    assert labels[:200].all()
    angles = message.angle_min + np.arange(len(message.ranges)) * message.angle_increment
    ahead = np.abs(angles) < np.radians(25)
    assert np.isposinf(np.array(message.ranges)[ahead]).all()  # the bonnet is no obstacle
    assert np.isnan(np.array(message.ranges)[np.abs(angles) > np.radians(40)]).all()
    assert message.range_max == 15.0
    cells = np.array(late.data, np.int8)
    assert (cells == FREE).any()
    assert set(np.unique(cells)) <= {FREE, UNKNOWN}


def test_tf2_is_asked_for_by_name_where_it_is_missing(
    palette_model: Model, tmp_path: Path, peer: Peer
) -> None:
    try:
        import tf2_ros  # noqa: F401
    except ImportError:
        arguments = node_arguments(palette_model, publish_grid="true", grid_tf="true")
        with NodeProcess(tmp_path / "log", *arguments) as node:
            assert peer.change("configure")
            assert not peer.change("activate")
            assert peer.state() == "inactive"
            node.wait_for_line("cannot activate: grid_tf needs tf2_ros")
            node.stop()
    else:
        pytest.skip("tf2_ros is installed")
