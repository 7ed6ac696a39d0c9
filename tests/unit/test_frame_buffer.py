"""The newest frame of each camera, in turn."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_rt.frame_buffer import LatestFrameBuffer


def test_newer_frame_takes_the_place_of_the_older() -> None:
    buffer: LatestFrameBuffer[str] = LatestFrameBuffer(1)
    assert buffer.put(0, "a") is None
    assert buffer.put(0, "b") == "a"
    assert buffer.take(1) == [(0, "b")]


def test_cameras_are_served_in_turn_although_one_is_faster() -> None:
    buffer: LatestFrameBuffer[int] = LatestFrameBuffer(3)
    served = []
    for step in range(9):
        for camera in range(3):
            buffer.put(camera, step)
        buffer.put(0, step)
        served += [camera for camera, _ in buffer.take(1)]
    assert served == [0, 1, 2] * 3


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=60), st.integers(1, 4))
def test_every_frame_is_taken_replaced_or_cleared_once(
    steps: list[tuple[int, bool]], most: int
) -> None:
    buffer: LatestFrameBuffer[int] = LatestFrameBuffer(3)
    seen: list[int] = []
    for number, (camera, take) in enumerate(steps):
        replaced = buffer.put(camera, number)
        seen += [] if replaced is None else [replaced]
        if take:
            taken = buffer.take(most)
            assert 1 <= len(taken) <= most
            assert len({index for index, _ in taken}) == len(taken)
            seen += [item for _, item in taken]
    seen += [item for _, item in buffer.clear()]
    assert sorted(seen) == list(range(len(steps)))


def test_wake_ends_the_wait() -> None:
    buffer: LatestFrameBuffer[int] = LatestFrameBuffer(1)
    taken: list[object] = []
    thread = threading.Thread(target=lambda: taken.append(buffer.take(1)))
    thread.start()
    buffer.wake()
    thread.join(10)
    assert taken == [[]]
    buffer.wake()  # before the wait too
    assert buffer.take(1) == []
    buffer.put(0, 5)
    assert buffer.take(1) == [(0, 5)]


def test_work_is_done_when_the_next_is_taken() -> None:
    buffer: LatestFrameBuffer[int] = LatestFrameBuffer(1)
    assert buffer.wait_done(0)
    buffer.put(0, 1)
    buffer.take(1)
    assert not buffer.wait_done(0.01)
    buffer.wake()
    buffer.take(1)
    assert buffer.wait_done(0)


def simulate(costs: Sequence[float], rates_hz: Sequence[float], seconds: float) -> list[int]:
    """Frames served of each camera by one thread, in simulated time."""
    now = 0.0
    buffer: LatestFrameBuffer[int] = LatestFrameBuffer(len(costs), lambda: now)
    next_at = [index * 1e-4 for index in range(len(costs))]
    served = [0] * len(costs)

    def pass_time(until: float) -> None:
        """Frames come while the time passes."""
        nonlocal now
        while min(next_at) <= until:
            camera = next_at.index(min(next_at))
            now = next_at[camera]
            buffer.put(camera, 0)
            next_at[camera] += 1 / rates_hz[camera]
        now = until

    while now < seconds:
        wait = buffer.delay()
        if wait == 0:
            ((camera, _),) = buffer.take(1)
            pass_time(now + costs[camera])
            buffer.charge(camera, costs[camera])
            buffer.done()
            served[camera] += 1
        else:
            pass_time(min(next_at) if wait is None else min(now + wait, min(next_at)))
    return served


def test_huge_frames_of_one_camera_do_not_starve_another() -> None:
    """In turn alone the small one is served once for each huge frame: 97 times in 30 s, of 900."""
    huge, small = simulate((0.3, 0.01), (30, 30), 30)
    assert small > 0.5 * 900
    assert huge * 0.3 > 0.4 * 30  # half of the time is the other's
    one, two, three = simulate((0.2, 0.01, 0.01), (30, 30, 30), 30)
    assert min(two, three) > 0.6 * 900
    assert one * 0.2 > 0.25 * 30


def test_camera_of_huge_frames_has_all_the_time_that_others_leave() -> None:
    assert simulate((0.3,), (30,), 30)[0] >= 100
    huge, slow = simulate((0.3, 0.01), (30, 1), 30)
    assert (huge, slow) == (pytest.approx(99, abs=2), pytest.approx(30, abs=1))


@pytest.mark.parametrize("cost", [0.005, 0.015, 0.05])
def test_cameras_alike_share_alike_and_no_time_is_lost(cost: float) -> None:
    counts = simulate((cost,) * 3, (30,) * 3, 10)
    assert max(counts) - min(counts) <= 2
    assert sum(counts) >= 0.97 * min(900, 10 / cost)
