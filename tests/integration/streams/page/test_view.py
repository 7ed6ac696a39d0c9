"""The page's stream, watched by real clients over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.streams.page import Access, Limits, PageView
from deeplab_rt.streams.player import Player
from deeplab_rt.streams.sources import opener
from deeplab_rt.streams.stats import RunStats
from tests.integration.streams.page.conftest import MakeView, address, opened, show, until
from tests.unit.streams.media import write_video


def test_a_page_is_told_what_it_shows(make_view: MakeView, camvid11: LabelSet) -> None:
    view = make_view(facts={"Model": "lite"}, status=lambda: "camera is silent")

    async def look() -> None:
        async with opened(view) as client:
            await client.socket.close()
        async with opened(view) as client:
            await client.do("watch", 1)
            tick = await client.text("tick")
            assert tick["status"] == "camera is silent" and not tick["paused"]

    asyncio.run(look())
    hello = view.hello()
    assert hello["source"] == "drive" and hello["facts"] == {"Model": "lite"}
    assert [label["name"] for label in hello["labels"]] == list(camvid11.names)
    assert not hello["seekable"] and not hello["player"]


def test_figures_are_told_twice_a_second(view: PageView, stats: RunStats) -> None:
    for _ in range(3):
        stats.add({"total": 12.0})
    stats.source.dropped = 2

    async def look() -> list[dict]:
        async with opened(view) as client:
            return [await client.text("tick") for _ in range(3)]

    started = time.monotonic()
    ticks = asyncio.run(look())
    assert 0.5 < time.monotonic() - started < 6
    for tick in ticks:
        assert (tick["frames"], tick["dropped"], tick["latency_ms"]) == (3, 2, 12.0)
        assert tick["viewers"] == 1


def test_a_slow_page_gets_the_newest_frame_and_never_many_at_once(view: PageView) -> None:
    async def look() -> None:
        async with opened(view) as client:
            show(view, 0)
            assert await client.frame(answer=False) == 0
            show(view, 1)
            assert await client.frame(answer=False) == 1
            for index in range(2, 60):  # two are on their way; none of these may follow them
                show(view, index)
                await asyncio.sleep(0.002)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.frame(), 0.7)

    asyncio.run(look())

    async def answer_late() -> list[int]:
        async with opened(view) as client:
            for index in range(100, 150):
                show(view, index)
                await asyncio.sleep(0.002)
            first = await client.frame(answer=False)
            second = await client.frame(answer=False)
            await client.do("ack")
            return [first, second, await client.frame()]

    seen = asyncio.run(answer_late())
    assert seen == sorted(seen) and seen[-1] == 149


def test_nothing_is_encoded_while_nobody_looks(view: PageView) -> None:
    async def look() -> None:
        for index in range(20):
            show(view, index)
        await asyncio.sleep(0.1)
        assert view.encoded == 0 and not view.watched
        async with opened(view) as client:
            assert await client.frame() == 19  # the newest one, not an old one
            assert view.encoded == 1 and view.watched
            await client.do("watch", 0)
            await until(lambda: not view.watched, "a hidden page watches")
            for index in range(20, 40):
                show(view, index)
            await asyncio.sleep(0.1)
            assert view.encoded == 1
            await client.do("watch", 1)
            assert await client.frame() == 39
        await until(lambda: not view.watched, "a page that has gone watches")

    asyncio.run(look())


def test_ten_pages_share_one_encoding_and_the_stream_waits_for_none(view: PageView) -> None:
    count, slowest = 60, []

    def publish() -> None:
        for index in range(count):
            started = time.perf_counter()
            show(view, index, (480, 640))
            slowest.append(time.perf_counter() - started)
            time.sleep(0.02)

    async def follow() -> list[int]:
        async with opened(view) as client:
            everybody.release()
            while not client.frames or client.frames[-1] < count - 1:
                await client.frame()
            return client.frames

    async def look() -> list[list[int]]:
        following = [asyncio.create_task(follow()) for _ in range(10)]
        await until(lambda: view.tick()["viewers"] == 10, "ten pages")
        publisher = threading.Thread(target=publish)
        publisher.start()
        frames = await asyncio.gather(*following)
        publisher.join()
        return frames

    everybody = threading.Semaphore(0)
    for frames in asyncio.run(look()):
        assert frames == sorted(set(frames)) and frames[-1] == count - 1
    assert 0 < view.encoded <= count
    assert float(np.median(slowest)) < 0.005  # encoding such a frame takes longer than that


def test_a_client_that_never_reads_is_dropped_and_slows_nobody(make_view: MakeView) -> None:
    view = make_view(limits=Limits(stall_s=1.0))
    request = (
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    async def look() -> int:
        _, writer = await asyncio.open_connection(*address(view), limit=1)
        writer.write(request.encode())
        async with opened(view) as client:
            await until(lambda: view.tick()["viewers"] == 2, "both")
            begun = time.monotonic()
            index = 0
            while view.tick()["viewers"] == 2:
                assert time.monotonic() - begun < 20
                show(view, index, (480, 640))
                assert await client.frame() <= index
                index += 1
            assert time.monotonic() - begun > 0.9
        writer.transport.abort()
        return len(client.frames)

    assert asyncio.run(look()) > 2


def test_a_client_that_answers_for_frames_it_never_reads_is_dropped(make_view: MakeView) -> None:
    view = make_view(limits=Limits(stall_s=1.0))
    size = (720, 1280)
    noise = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    labels = np.ones(size, np.uint8)

    async def look() -> None:
        async with opened(view, max_msg_size=0) as client:
            transport = client.socket._response.connection.transport  # type: ignore[union-attr]
            transport.pause_reading()
            begun = time.monotonic()
            while view.tick()["viewers"]:
                view.write(Frame(noise), Masks(labels, labels, labels))
                with contextlib.suppress(ConnectionError):  # it may be gone by now
                    await client.do("ack")
                await asyncio.sleep(0.005)
                assert time.monotonic() - begun < 30
            transport.abort()

    asyncio.run(look())


def test_a_page_asks_the_recording_to_pause_step_and_seek(
    make_view: MakeView, tmp_path: Path
) -> None:
    path = write_video(tmp_path / "a.mp4", 20)
    player = Player(opener(path), loop=True)
    view = make_view(player=player)

    def play() -> None:
        for frame in player:
            labels = np.ones(frame.size, np.uint8)
            view.write(frame, Masks(labels, labels, labels))
            time.sleep(0.01)

    async def look() -> None:
        async with opened(view) as client:
            await client.frame()
            await client.do("pause")
            while not (await client.text("tick"))["paused"]:
                pass
            await client.do("seek", 7)
            while await client.frame() != 7:
                pass
            await client.do("step", -1)
            assert await client.frame() == 6
            await client.do("step", 1)
            assert await client.frame() == 7
            await client.do("play")
            assert await client.frame() > 7

    thread = threading.Thread(target=play)
    thread.start()
    try:
        asyncio.run(look())
    finally:
        player.close()
        thread.join()


def test_a_camera_cannot_be_commanded(view: PageView) -> None:
    async def look() -> None:
        async with opened(view) as client:
            for action in ("pause", "play", "step", "seek"):
                await client.do(action, 0)
            show(view, 5)
            assert await client.frame() == 5

    asyncio.run(look())


def test_the_end_is_told_and_every_connection_closed(view: PageView, stats: RunStats) -> None:
    stats.source.warnings.append("camera 0: stopped")

    async def look() -> None:
        async with opened(view) as client:
            closing = asyncio.get_running_loop().run_in_executor(None, view.close)
            assert (await client.text("end"))["reason"] == "camera 0: stopped"
            assert (await client.socket.receive(timeout=10)).type.name in ("CLOSE", "CLOSED")
            await closing
        with pytest.raises(OSError, match="refused|Connect"):
            await asyncio.open_connection(*address(view))

    asyncio.run(look())
    view.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("page")]


def test_an_open_page_shows_nothing_without_its_token(make_view: MakeView) -> None:
    view = make_view(Access("0.0.0.0", 0))
    assert view.is_open

    async def look() -> None:
        async with opened(view) as client:
            show(view, 3)
            assert await client.frame() == 3

    asyncio.run(look())


def test_what_ends_the_encoding_is_not_swallowed(view: PageView) -> None:
    broken = np.ones((0, 3), np.uint8)

    async def look() -> None:
        async with opened(view):
            view.write(Frame(np.zeros((4, 4, 3), np.uint8)), Masks(broken, broken, broken, broken))
            await asyncio.sleep(0.5)
            with pytest.raises(Exception, match="empty|size"):
                show(view, 0)

    asyncio.run(look())
