"""A page to look at, and clients that are no browser."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import numpy as np
import pytest

from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.streams.base import Recording
from deeplab_rt.streams.page import Access, Limits, PageView
from deeplab_rt.streams.stats import RunStats

MakeView = Callable[..., PageView]


@pytest.fixture
def stats() -> RunStats:
    return RunStats(Recording("drive", None, None))  # type: ignore[arg-type]


@pytest.fixture
def make_view(camvid11: LabelSet, stats: RunStats) -> Iterator[MakeView]:
    """Makes pages on any free port of loopback, closed at the end."""
    made: list[PageView] = []

    def make(access: Access = Access(port=0), limits: Limits = Limits(), **more: Any) -> PageView:  # noqa: B008
        made.append(PageView(camvid11, stats, access, limits, **more))
        return made[-1]

    yield make
    for view in made:
        view.close()


@pytest.fixture
def view(make_view: MakeView) -> PageView:
    return make_view()


def show(view: PageView, index: int, size: tuple[int, int] = (48, 64)) -> None:
    """Write a gray frame of label 1."""
    labels = np.ones(size, np.uint8)
    view.write(
        Frame(np.full((*size, 3), index % 256, np.uint8), index), Masks(labels, labels, labels)
    )


def address(view: PageView) -> tuple[str, int]:
    parts = urlsplit(view.url)
    assert parts.hostname is not None and parts.port is not None
    return parts.hostname, parts.port


class Client:
    """One page that is open: its WebSocket, read by hand."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.frames: list[int] = []

    async def text(self, kind: str) -> dict[str, Any]:
        """The next text of a kind; frames before it are counted and answered for."""
        while True:
            message = await self.receive()
            if isinstance(message, dict) and message["type"] == kind:
                return message

    async def frame(self, answer: bool = True) -> int:
        """The next frame's index."""
        while True:
            message = await self.receive(answer)
            if isinstance(message, int):
                return message

    async def receive(self, answer: bool = True) -> dict[str, Any] | int:
        message = await self.socket.receive(timeout=20)
        if message.type is aiohttp.WSMsgType.TEXT:
            return dict(json.loads(message.data))
        assert message.type is aiohttp.WSMsgType.BINARY, message
        length = int.from_bytes(message.data[:4], "little")
        self.frames.append(json.loads(message.data[4 : 4 + length])["index"])
        if answer:
            await self.do("ack")
        return self.frames[-1]

    async def do(self, action: str, value: int = 0) -> None:
        await self.socket.send_json({"do": action, "value": value})


@asynccontextmanager
async def opened(view: PageView, **more: Any) -> AsyncIterator[Client]:
    """A client that was greeted."""
    url = view.url.replace("http", "ws").replace("/?", "/ws?")
    url = url if "token" in url else f"{url}ws"
    async with aiohttp.ClientSession() as session, session.ws_connect(url, **more) as socket:
        client = Client(socket)
        await client.text("hello")
        yield client


async def until(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Wait for something."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition():
        assert loop.time() < deadline, what
        await asyncio.sleep(0.01)
