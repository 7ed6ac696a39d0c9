"""The newest frame of each camera, in turn."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from deeplab_rt.ros.slots import NewestFrames


def test_newer_frame_takes_the_place_of_the_older() -> None:
    slots: NewestFrames[str] = NewestFrames(1)
    assert slots.put(0, "a") is None
    assert slots.put(0, "b") == "a"
    assert slots.take(1) == [(0, "b")]


def test_cameras_are_served_in_turn_although_one_is_faster() -> None:
    slots: NewestFrames[int] = NewestFrames(3)
    served = []
    for step in range(9):
        for camera in range(3):
            slots.put(camera, step)
        slots.put(0, step)
        served += [camera for camera, _ in slots.take(1)]
    assert served == [0, 1, 2] * 3


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=60), st.integers(1, 4))
def test_every_frame_is_taken_replaced_or_cleared_once(
    steps: list[tuple[int, bool]], most: int
) -> None:
    slots: NewestFrames[int] = NewestFrames(3)
    seen: list[int] = []
    for number, (camera, take) in enumerate(steps):
        replaced = slots.put(camera, number)
        seen += [] if replaced is None else [replaced]
        if take:
            taken = slots.take(most)
            assert 1 <= len(taken) <= most
            assert len({index for index, _ in taken}) == len(taken)
            seen += [item for _, item in taken]
    seen += [item for _, item in slots.clear()]
    assert sorted(seen) == list(range(len(steps)))


def test_wake_ends_the_wait() -> None:
    slots: NewestFrames[int] = NewestFrames(1)
    taken: list[object] = []
    thread = threading.Thread(target=lambda: taken.append(slots.take(1)))
    thread.start()
    slots.wake()
    thread.join(10)
    assert taken == [[]]
    slots.wake()  # before the wait too
    assert slots.take(1) == []
    slots.put(0, 5)
    assert slots.take(1) == [(0, 5)]


def test_work_is_done_when_the_next_is_taken() -> None:
    slots: NewestFrames[int] = NewestFrames(1)
    assert slots.wait_done(0)
    slots.put(0, 1)
    slots.take(1)
    assert not slots.wait_done(0.01)
    slots.wake()
    slots.take(1)
    assert slots.wait_done(0)
