"""Live cameras, tested with a real one: motion JPEG over HTTP on loopback."""

from __future__ import annotations

import os
import threading
import time

import cv2
import pytest

from deeplab_rt.errors import StreamError
from deeplab_rt.streams.live_camera import (
    CameraOptions,
    LiveCamera,
    Transport,
    is_camera,
    public_name,
)
from tests.unit.streams.media import HttpCamera, number_of
from tests.unit.streams.rtsp_camera import RtspCamera


def test_frames_come_in_order_stamped_with_the_time_of_arrival() -> None:
    before = time.time_ns()
    with HttpCamera() as camera, LiveCamera(camera.url) as source:
        frames = [frame for frame, _ in zip(source, range(10), strict=False)]
    assert [frame.index for frame in frames] == list(range(10))
    stamps = [frame.stamp_ns for frame in frames]
    assert stamps == sorted(set(stamps)) and before < stamps[0] and stamps[-1] < time.time_ns()
    numbers = [number_of(frame.image) for frame in frames]
    assert len(set(numbers)) == 10
    assert {frame.image.shape for frame in frames} == {(48, 64, 3)}


def test_a_slow_consumer_gets_the_newest_frame_and_the_rest_is_counted() -> None:
    with HttpCamera(fps=100) as camera, LiveCamera(camera.url) as source:
        frames = iter(source)
        first = next(frames)
        await_dropped(source, 10)
        mark_ns = time.time_ns()
        await_dropped(source, 20)
        second = next(frames)
    # A queue would hand out the frame that came right after the first one.
    assert second.stamp_ns > mark_ns > first.stamp_ns
    assert (first.index, second.index) == (0, 1)


def await_dropped(source: LiveCamera, count: int) -> None:
    deadline = time.monotonic() + 30
    while source.dropped < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_camera_that_stops_ends_the_stream_with_a_clear_line() -> None:
    with HttpCamera() as camera, LiveCamera(camera.url, CameraOptions(reconnect_s=0.5)) as source:
        count = 0
        for frame in source:
            count += 1
            if frame.index == 5:
                camera.stop()
    assert count > 5
    assert "stopped, and gave no frame for 0.5 s more" in source.warnings[-1]
    assert source.lost


def test_a_camera_that_comes_back_goes_on() -> None:
    with HttpCamera() as camera, LiveCamera(camera.url, CameraOptions(reconnect_s=10)) as source:
        indices = []
        for frame in source:
            indices.append(frame.index)
            if frame.index == 3:
                camera.stop()
                threading.Timer(0.7, camera.resume).start()
                deadline = time.monotonic() + 20
                while "trying again" not in source.status:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
            if camera.connections == 2:
                break
        camera.resume()
    assert indices == list(range(len(indices)))
    assert any("opened again" in warning for warning in source.warnings)
    assert source.status == "" and not source.lost


@pytest.mark.parametrize("uri", ["63", "/dev/null", "http://127.0.0.1:9/nothing"])
def test_no_camera_is_one_clear_line(uri: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        StreamError, match="no such camera, or it gives no frame; expected a number"
    ):
        LiveCamera(uri)
    assert capfd.readouterr().err == ""


def test_closing_leaves_no_thread() -> None:
    with HttpCamera() as camera, LiveCamera(camera.url) as source:
        next(iter(source))
        source.close()
        assert not any(thread.name.startswith("camera") for thread in threading.enumerate())


def test_a_camera_that_is_not_there_yet_is_waited_for() -> None:
    with HttpCamera() as camera:
        camera.stop()
        threading.Timer(0.7, camera.resume).start()
        with LiveCamera(camera.url, CameraOptions(reconnect_s=None)) as source:
            assert [frame.index for frame, _ in zip(source, range(3), strict=False)] == [0, 1, 2]
            assert source.warnings and not source.lost


def test_waiting_ends_when_it_is_closed() -> None:
    source = LiveCamera("/dev/null", CameraOptions(reconnect_s=None))
    threading.Timer(0.5, source.close).start()
    assert list(source) == [] and not source.lost


def test_a_camera_that_comes_and_goes_is_told_once() -> None:
    with HttpCamera() as camera, LiveCamera(camera.url, CameraOptions(reconnect_s=10)) as source:
        known = 0
        for _ in source:
            if camera.connections > known:
                known = camera.connections
                if known == 4:
                    break
                camera.stop()
                threading.Timer(0.4, camera.resume).start()
    assert len([warning for warning in source.warnings if "opened again" in warning]) == 1


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("rtsp://user:secret@10.0.0.2/main", "rtsp://user:***@10.0.0.2/main"),
        ("http://10.0.0.2/main", "http://10.0.0.2/main"),
        ("http://[", "http://["),
        ("0", "0"),
    ],
)
def test_a_password_is_never_shown(uri: str, shown: str) -> None:
    assert public_name(uri) == shown


def test_a_pipeline_without_gstreamer_is_one_clear_line() -> None:
    """OpenCV's wheels have none; where one has it, the pipeline is opened."""
    pipeline = "videotestsrc num-buffers=30 ! videoconvert ! appsink"
    assert is_camera(pipeline)
    if cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        with LiveCamera(pipeline) as source:
            assert next(iter(source)).image.shape == (240, 320, 3)
        return
    with pytest.raises(StreamError, match="built without GStreamer; take the distribution's"):
        LiveCamera(pipeline)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_rtsp_over_the_transport_that_was_asked_for(transport: Transport) -> None:
    with (
        RtspCamera() as camera,
        LiveCamera(camera.url, CameraOptions(rtsp_transport=transport)) as source,
    ):
        frames = [frame for frame, _ in zip(source, range(8), strict=False)]
    assert camera.played == [transport]
    assert len({number_of(frame.image) for frame in frames}) > 3
    assert {frame.image.shape for frame in frames} == {(48, 64, 3)}


@pytest.mark.parametrize(("asked", "other"), [("tcp", "udp"), ("udp", "tcp")])
def test_an_rtsp_camera_of_the_other_transport_names_the_option(
    asked: Transport, other: Transport, capfd: pytest.CaptureFixture[str]
) -> None:
    with RtspCamera([other]) as camera:
        with pytest.raises(
            StreamError, match=f"over {asked} within 2 s; `--rtsp-transport {other}`"
        ):
            LiveCamera(camera.url, CameraOptions(connect_s=2, rtsp_transport=asked))
        with LiveCamera(camera.url, CameraOptions(connect_s=2, rtsp_transport=other)) as source:
            assert next(iter(source)).index == 0
    assert capfd.readouterr().err == ""
    assert "OPENCV_FFMPEG_CAPTURE_OPTIONS" not in os.environ
