"""Grid and scan as messages, and the camera's pose from transforms that come late.

tf2 is on no package index: in its place stands a buffer that answers as tf2_ros.Buffer does.
"""

from __future__ import annotations

import threading
from array import array
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from rclpy.time import Time
from std_msgs.msg import Header

from deeplab_rt.camera.ground import Lens, Mounting, rotation_of
from deeplab_rt.camera.ground_view import OCCUPIED, GroundView
from deeplab_rt.errors import FrameError
from deeplab_rt.masks import Masks
from deeplab_rt.ros.ground_output import (
    GroundThread,
    ParameterPose,
    TransformPose,
    grid_message,
    scan_message,
)
from deeplab_rt.ros.parameters import Settings

MS = 1_000_000
LENS = Lens((240, 320), (250.0, 0, 159.5, 0, 250, 119.5, 0, 0, 1))
HEADER = Header(frame_id="camera_optical")
HEADER.stamp.sec = 7


class NoTransformError(Exception):
    """What tf2_ros raises."""


class LateBuffer:
    """Transforms of a moving vehicle: ``heights`` by time in ms, which may be added later."""

    def __init__(self, **heights: float) -> None:
        self.heights = {int(name[1:]): height for name, height in heights.items()}
        self.asked = threading.Event()

    def lookup_transform(self, target: str, source: str, when: Time) -> TransformStamped:
        assert (target, source) == ("camera_optical", "base_footprint")
        self.asked.set()
        wanted = when.nanoseconds // MS
        if not wanted and self.heights:
            wanted = max(self.heights)
        if wanted not in self.heights:
            raise NoTransformError("Lookup would require extrapolation\ninto the future")
        found = TransformStamped()
        found.header.stamp = Time(nanoseconds=wanted * MS).to_msg()
        found.transform.translation.z = -self.heights[wanted]
        found.transform.rotation.w = 1.0
        return found


def header_at(milliseconds: int) -> Header:
    return Header(frame_id="camera_optical", stamp=Time(nanoseconds=milliseconds * MS).to_msg())


def pose_of(buffer: Any, tolerance_ms: float) -> TransformPose:
    settings = Settings.from_values({"grid_tf_tolerance_ms": tolerance_ms})
    return TransformPose(buffer, NoTransformError, lambda: settings)


def test_transform_of_the_frames_time_is_taken() -> None:
    mounting, exact = pose_of(LateBuffer(t1000=1.5, t1100=2.5), 0).find(header_at(1000))
    assert (mounting.position[2], exact) == (1.5, True)


def test_transform_that_comes_late_is_waited_for() -> None:
    buffer = LateBuffer(t900=1.0)

    def arrive() -> None:
        buffer.asked.wait(10)
        buffer.heights[1000] = 1.5

    sender = threading.Thread(target=arrive)
    sender.start()
    mounting, exact = pose_of(buffer, 5000).find(header_at(1000))
    sender.join()
    assert (mounting.position[2], exact) == (1.5, True)


def test_newest_transform_within_the_tolerance_takes_its_place() -> None:
    mounting, exact = pose_of(LateBuffer(t800=1.0, t950=2.0), 60).find(header_at(1000))
    assert (mounting.position[2], exact) == (2.0, False)


def test_transform_that_is_too_far_off_is_none() -> None:
    with pytest.raises(FrameError, match="the newest is 200 ms off, more than grid_tf_tolerance"):
        pose_of(LateBuffer(t800=1.0), 60).find(header_at(1000))
    with pytest.raises(FrameError, match="no transform: Lookup would require extrapolation into"):
        pose_of(LateBuffer(), 20).find(header_at(1000))
    old = header_at(0)
    old.stamp.sec = -5
    with pytest.raises(FrameError, match="before 1970"):
        pose_of(LateBuffer(), 20).find(old)


def test_waiting_ends_when_the_node_is_deactivated() -> None:
    pose = pose_of(LateBuffer(), 5000)
    pose.close()
    with pytest.raises(FrameError):
        pose.find(header_at(1000))


def test_ground_thread_does_all_in_order_and_outlives_a_failure() -> None:
    done: list[int] = []
    said: list[str] = []
    ended = threading.Event()
    thread = GroundThread(said.append)
    assert thread.put(lambda: done.append(1))
    assert thread.put(lambda: done.append(1 // 0))
    assert thread.put(lambda: done.append(2))
    assert thread.put(ended.set)
    assert ended.wait(10)
    thread.close()
    assert done == [1, 2]
    assert "ZeroDivisionError" in said[0]


def test_ground_thread_refuses_what_would_wait_too_long() -> None:
    gate = threading.Event()
    thread = GroundThread(lambda line: None)
    taken = [thread.put(lambda: gate.wait(10) and None) for _ in range(100)]
    assert taken[0]
    assert not taken[-1]
    gate.set()
    thread.close()


def drivable_but(obstacle: slice) -> Masks:
    masks = Masks(*(np.full(LENS.size, value, np.uint8) for value in (4, 255, 0)))
    masks.drivable[:120] = 0
    masks.drivable[obstacle] = 0
    masks.objects[obstacle] = 9
    return masks


SETTINGS = Settings.from_values(
    {"grid_resolution_m": 0.5, "grid_length_m": 20.0, "grid_width_m": 10.0}
)


def test_grid_of_a_rear_camera_lies_behind_along_the_axes() -> None:
    """What reads the position of the origin alone, as Nav2's static layer does, sees it behind."""
    half = np.pi / 2
    rotation = Mounting.from_angles(1.5, 0.0).matrix @ rotation_of(0, 0, np.sin(half), 0).T
    mounting = Mounting((-1.0, 0.0, 1.5), tuple(rotation.ravel()))
    view = GroundView(drivable_but(slice(160, 170)), LENS, mounting)
    message = grid_message(view, HEADER, SETTINGS)
    assert message.header.frame_id == "base_footprint"
    assert message.header.stamp == HEADER.stamp
    assert message.info.origin.orientation.w == 1.0
    assert message.info.origin.position.x == pytest.approx(-21.0)
    cells = np.array(message.data).reshape(message.info.height, message.info.width)
    columns = np.nonzero(cells == OCCUPIED)[1]
    x = message.info.origin.position.x + (columns + 0.5) * message.info.resolution
    # Row 169 shows what is 1.5 m x 250 / 49.5 = 7.6 m from the camera, 8.6 m behind the origin.
    nearest = x.max()
    assert nearest == pytest.approx(-8.6, abs=0.5)


def test_scan_is_of_the_frames_time_with_honest_limits() -> None:
    mounting, _ = ParameterPose(lambda: SETTINGS).find(HEADER)
    message = scan_message(
        GroundView(drivable_but(slice(160, 170)), LENS, mounting), HEADER, SETTINGS
    )
    assert (message.header.frame_id, message.header.stamp) == ("base_footprint", HEADER.stamp)
    ranges = np.array(message.ranges)
    angles = message.angle_min + np.arange(len(ranges)) * message.angle_increment
    assert angles[-1] == pytest.approx(message.angle_max)
    ahead = np.abs(angles) < np.radians(20)
    assert ranges[ahead] * np.cos(angles[ahead]) == pytest.approx(7.6, abs=0.2)
    assert np.isnan(ranges[np.abs(angles) > np.radians(40)]).all()
    assert isinstance(message.ranges, array)
    clear = Masks(*(np.full(LENS.size, value, np.uint8) for value in (4, 255, 0)))
    message = scan_message(GroundView(clear, LENS, mounting), HEADER, SETTINGS)
    assert np.isposinf(np.array(message.ranges)[ahead]).all()


def test_pose_from_parameters_has_roll() -> None:
    settings = replace(Settings(), camera_roll_deg=10.0, camera_pitch_deg=5.0)
    mounting, exact = ParameterPose(lambda: settings).find(SimpleNamespace())
    assert exact
    assert mounting == Mounting.from_angles(1.5, 5.0, 10.0)


class MovingTree:
    """A tf tree that is sent at 10 Hz: it answers for any time between two of its transforms."""

    def __init__(self) -> None:
        self.newest_ms = 0

    def lookup_transform(self, target: str, source: str, when: Time) -> TransformStamped:
        wanted = when.nanoseconds // MS or self.newest_ms
        if wanted > self.newest_ms:
            raise NoTransformError("Lookup would require extrapolation into the future")
        found = TransformStamped()
        found.header.stamp = Time(nanoseconds=wanted * MS).to_msg()
        found.transform.translation.z = -(1.0 + wanted / 1000)
        found.transform.rotation.w = 1.0
        return found


@pytest.mark.parametrize(("tolerance_ms", "published"), [(0.0, 0), (30_000.0, 24)])
def test_every_frame_of_a_moving_vehicle_has_its_ground(
    tolerance_ms: float, published: int
) -> None:
    """Frames at 30 Hz, each before its transform: without waiting, none has one."""
    tree, heights = MovingTree(), []
    settings = replace(Settings(), grid_tf_tolerance_ms=tolerance_ms)
    pose = TransformPose(tree, NoTransformError, lambda: settings)
    failed, ended = threading.Event(), threading.Event()

    def ground(stamp_ms: int) -> None:
        try:
            mounting, exact = pose.find(header_at(stamp_ms))
        except FrameError:
            failed.set()
            return
        assert exact
        heights.append(mounting.position[2])

    said: list[str] = []
    thread = GroundThread(said.append)
    stamps = [33 * (index + 1) for index in range(24)]
    for stamp in stamps:
        assert thread.put(lambda s=stamp: ground(s))
    assert thread.put(ended.set)
    if not published:
        assert failed.wait(10)
        assert ended.wait(10)
    for _ in range(10):
        tree.newest_ms += 100
    assert ended.wait(10)
    thread.close()
    assert said == []
    assert heights == pytest.approx([1.0 + stamp / 1000 for stamp in stamps[:published]])
