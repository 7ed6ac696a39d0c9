"""StatsSnapshot cameras, tested with a real one: motion JPEG over HTTP on loopback."""

from __future__ import annotations

import threading
import time

import pytest

from deeplab_rt.errors import StreamError
from deeplab_rt.streams.live_camera import LiveCamera
from tests.unit.streams.media import HttpCamera, number_of


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
    with HttpCamera() as camera, LiveCamera(camera.url, reconnect_s=0.5) as source:
        count = 0
        for frame in source:
            count += 1
            if frame.index == 5:
                camera.stop()
    assert count > 5
    assert "stopped, and gave no frame for 0.5 s more" in source.warnings[-1]


def test_a_camera_that_comes_back_goes_on() -> None:
    with HttpCamera() as camera, LiveCamera(camera.url, reconnect_s=10) as source:
        indices = []
        for frame in source:
            indices.append(frame.index)
            if frame.index == 3:
                camera.stop()
                threading.Timer(0.5, camera.resume).start()
            if camera.connections == 2:
                break
        camera.resume()
    assert indices == list(range(len(indices)))
    assert any("opened again" in warning for warning in source.warnings)


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
