"""A recording as a player shows it, with real videos and image folders."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from deeplab_rt.frame import Frame
from deeplab_rt.streams.base import FrameSource
from deeplab_rt.streams.player import Player
from deeplab_rt.streams.sources import opener
from tests.unit.streams.media import number_of, numbered, numbered_messages, write_bag, write_video

COUNT = 20


@pytest.fixture(params=["video", "folder", "bag"])
def recording(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Frames that tell their number: sought in two ways, and read again from the front."""
    if request.param == "video":
        return write_video(tmp_path / "a.mp4", COUNT)
    if request.param == "bag":
        return write_bag(tmp_path / "bag", {"/image": numbered_messages(COUNT)})
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(COUNT):
        cv2.imwrite(str(folder / f"{index}.png"), numbered(index))
    return folder


class Watcher:
    """Takes a player's frames in a thread of its own, as a stream does."""

    def __init__(self, player: Player) -> None:
        self.player = player
        self._frames: queue.Queue[Frame | None] = queue.Queue()
        self._permits = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        frames = iter(self.player)
        while True:
            self._permits.acquire()
            frame = next(frames, None)
            self._frames.put(frame)
            if frame is None:
                return

    def ask(self) -> None:
        self._permits.release()

    def next(self) -> int | None:
        """The next frame's index, which is the number in its image; None at the end."""
        self.ask()
        return self.get()

    def get(self) -> int | None:
        frame = self._frames.get(timeout=20)
        if frame is None:
            return None
        assert number_of(frame.image) == frame.index
        return frame.index

    def silent(self) -> bool:
        try:
            self._frames.get(timeout=0.2)
        except queue.Empty:
            return True
        return False


@pytest.fixture
def watcher(recording: Path) -> Iterator[Watcher]:
    player = Player(opener(recording))
    yield Watcher(player)
    player.close()


def test_it_plays_as_the_recording_does(watcher: Watcher) -> None:
    assert watcher.player.total == COUNT and not watcher.player.live
    assert [watcher.next() for _ in range(COUNT + 1)] == [*range(COUNT), None]


def test_a_pause_holds_and_steps_go_one_by_one(watcher: Watcher) -> None:
    assert watcher.next() == 0
    watcher.player.pause()
    watcher.ask()
    assert watcher.silent() and watcher.player.paused
    watcher.player.step(1)
    assert watcher.get() == 1
    watcher.player.step(1)
    watcher.player.step(1)
    assert [watcher.next(), watcher.next()] == [2, 3]
    watcher.player.step(-1)
    assert watcher.next() == 2
    watcher.ask()
    assert watcher.silent()
    watcher.player.play()
    assert [watcher.get(), watcher.next()] == [3, 4]


def test_seeking_finds_the_frame_and_goes_on_from_there(watcher: Watcher) -> None:
    assert watcher.next() == 0
    for index in (13, 3, 19, 0):
        watcher.player.seek(index)
        assert watcher.next() == index
    assert watcher.next() == 1


def test_only_the_newest_wish_is_done_and_beyond_the_end_is_the_last_frame(
    watcher: Watcher,
) -> None:
    assert watcher.next() == 0
    watcher.player.pause()
    for index in (5, 9, 10**9):
        watcher.player.seek(index)
    assert watcher.next() == COUNT - 1
    watcher.player.step(1)  # there is none: it waits where it is, for the person still looks
    watcher.ask()
    assert watcher.silent()
    watcher.player.step(-1)
    assert watcher.get() == COUNT - 2


def test_a_loop_begins_again_and_ends_when_it_is_closed(recording: Path) -> None:
    player = Player(opener(recording), loop=True)
    indices = [frame.index for frame in itertools.islice(player, 2 * COUNT + 3)]
    assert indices == [*range(COUNT), *range(COUNT), 0, 1, 2]
    player.close()
    assert list(player) == []


def test_a_loop_over_nothing_ends(tmp_path: Path) -> None:
    path = tmp_path / "0.png"
    path.write_bytes(b"no image")
    assert list(Player(opener(path), loop=True)) == []


def test_warnings_are_told_once_however_often_it_is_played(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"no image")
    cv2.imwrite(str(tmp_path / "1.png"), numbered(1))
    player = Player(opener(tmp_path), loop=True)
    assert [frame.index for frame in itertools.islice(player, 5)] == [1] * 5
    assert len(player.warnings) == 1 and "frame 0 skipped" in player.warnings[0]
    assert player.dropped == 1


def test_a_player_is_a_source(recording: Path) -> None:
    source: FrameSource = Player(opener(recording))
    with source:
        assert next(iter(source)).index == 0
