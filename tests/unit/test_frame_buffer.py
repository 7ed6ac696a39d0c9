"""The newest frame of each camera, in turn."""

from __future__ import annotations

import threading

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
