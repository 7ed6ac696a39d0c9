"""The HTTP and WebSocket server of the page, in an event loop of its own.

aiohttp and not hand-written HTTP: WebSockets, header limits, malformed requests and many clients on
one thread are its daily work.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from importlib import resources
from typing import Any, Protocol

from aiohttp import WSMsgType, web

from deeplab_rt.streams.page.access import HEADERS, Endpoint
from deeplab_rt.streams.page.messages import MAX_COMMAND, Command, parse_command
from deeplab_rt.streams.page.viewer import Viewer

_TYPES = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}
_CHECK_S = 0.5
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What clients may take of this machine.

    Attributes:
        viewers: pages open at once.
        connections: of any kind.
        stall_s: how long a page may leave what it was sent unread before it is dropped.
        request_s: how long a connection may take to send its request.
    """

    viewers: int = 32
    connections: int = 96
    stall_s: float = 10.0
    request_s: float = 10.0


class Stream(Protocol):
    """What the server asks of the stream that it shows."""

    def hello(self) -> dict[str, Any]:
        """What a page is told first."""

    def tick(self) -> dict[str, Any]:
        """What it is told twice a second."""

    def obey(self, command: Command) -> None:
        """Do what a page asks of the recording."""

    def notify(self) -> None:
        """Look again who is ready for a frame: a viewer has come, gone, or drawn one."""


class PageServer:
    """Answers requests and keeps the viewers. All methods belong to one event loop."""

    def __init__(self, endpoint: Endpoint, limits: Limits, stream: Stream) -> None:
        """Nothing is answered before :meth:`start`."""
        self._endpoint, self._limits, self._stream = endpoint, limits, stream
        self._files = _static_files()
        self._silent: dict[Any, asyncio.TimerHandle] = {}  # connections without a request as yet
        self.viewers: list[Viewer] = []
        self.newest: bytes | None = None  # of the frames that were encoded

    @property
    def ready(self) -> bool:
        """Whether any viewer would take a frame."""
        return any(viewer.ready for viewer in self.viewers)

    @property
    def watched(self) -> bool:
        """Whether any viewer looks."""
        return any(viewer.watching for viewer in self.viewers)

    async def start(self) -> None:
        """Answer from now on."""
        app = web.Application(middlewares=[self._guard], client_max_size=1024)
        app.on_response_prepare.append(_add_headers)
        app.router.add_get("/ws", self._socket)
        app.router.add_get("/{file:.*}", self._file)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=self._limits.request_s,
            shutdown_timeout=1.0,
            logger=_logger,
            max_line_size=4096,
            max_field_size=4096,
        )
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._connection, sock=self._endpoint.socket)
        self._ticking = loop.create_task(self._tick_all())

    async def stop(self, reason: str) -> None:
        """Tell the viewers why, and close every connection."""
        self._listener.close()
        self._ticking.cancel()
        text = json.dumps({"type": "end", "reason": reason})
        for viewer in self.viewers:
            viewer.tell("end", text, last=True)
        deadline = asyncio.get_running_loop().time() + 1.0
        while self.viewers and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        await self._runner.cleanup()

    def offer_newest(self) -> None:
        """Give the newest frame to those who are ready for one and have not had it."""
        if self.newest is not None:
            for viewer in self.viewers:
                if viewer.ready:
                    viewer.offer(self.newest)

    def _connection(self) -> asyncio.Protocol:
        """A new connection, unless there are too many; closed if no request comes of it."""
        server = self._runner.server
        assert server is not None
        handler = server()
        loop = asyncio.get_running_loop()

        def abort() -> None:
            self._silent.pop(handler, None)
            if handler.transport is not None:
                handler.transport.abort()

        if len(server.connections) >= self._limits.connections:
            loop.call_later(0, abort)  # in the next round: the connection is made in this one
        else:
            self._silent[handler] = loop.call_later(self._limits.request_s, abort)
        return handler

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        timer = self._silent.pop(request.protocol, None)
        if timer is not None:
            timer.cancel()
        if request.path in ("/", "/ws"):
            refusal = self._endpoint.refusal(request.headers, request.query.get("token", ""))
            if refusal is not None:
                raise web.HTTPForbidden(text=f"{refusal}\n")
        response: web.StreamResponse = await handler(request)
        return response

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["file"] or "index.html"
        if name == "favicon.ico":
            name = "favicon.svg"
        if name not in self._files:
            raise web.HTTPNotFound(text="there is no such file\n")
        return web.Response(
            body=self._files[name], content_type=_TYPES[name.rpartition(".")[2]], charset="utf-8"
        )

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if len(self.viewers) >= self._limits.viewers:
            raise web.HTTPServiceUnavailable(text="too many pages are open\n")
        socket = web.WebSocketResponse(
            heartbeat=2 * self._limits.stall_s, compress=False, max_msg_size=MAX_COMMAND
        )
        await socket.prepare(request)
        viewer = Viewer(socket, self._limits.stall_s)
        viewer.tell("hello", json.dumps({"type": "hello", **self._stream.hello()}))
        self.viewers.append(viewer)
        self._stream.notify()
        sending = asyncio.create_task(viewer.run())
        receiving = asyncio.create_task(self._receive(socket, viewer))
        try:
            await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.viewers.remove(viewer)
            viewer.stop()
            for task in (sending, receiving):
                task.cancel()
            outcomes = await asyncio.gather(sending, receiving, return_exceptions=True)
            self._stream.notify()
        if viewer.stalled or any(isinstance(outcome, asyncio.TimeoutError) for outcome in outcomes):
            if request.transport is not None:
                request.transport.abort()  # a polite end would wait for what is never read
        else:
            await asyncio.wait_for(socket.close(), 1.0)
        for outcome in outcomes:
            if isinstance(outcome, Exception) and not isinstance(
                outcome, (OSError, asyncio.TimeoutError)
            ):
                _logger.error("a viewer of the page failed", exc_info=outcome)
        return socket

    async def _receive(self, socket: web.WebSocketResponse, viewer: Viewer) -> None:
        """What the page says, until it leaves, says what it cannot mean, or stops reading."""
        while not viewer.stalled:
            try:
                message = await socket.receive(timeout=_CHECK_S)
            except asyncio.TimeoutError:  # of Python 3.10, where it is not TimeoutError
                continue
            if message.type != WSMsgType.TEXT:
                return
            command = parse_command(message.data)
            if command is None:
                await socket.close(code=1008, message=b"no command of this page")
                return
            if command.action == "ack":
                viewer.drawn()
            elif command.action == "watch":
                viewer.watch(bool(command.value))
            else:
                self._stream.obey(command)
                self.tick_now()
            self._stream.notify()

    async def _tick_all(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_S)
            self.tick_now()

    def tick_now(self) -> None:
        """Tell everybody who looks how it stands."""
        if self.viewers:
            text = json.dumps({"type": "tick", **self._stream.tick()})
            for viewer in self.viewers:
                viewer.tell("tick", text)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


def _static_files() -> dict[str, bytes]:
    """The page's files by name: nothing else is ever read for a request."""
    folder = resources.files(__package__) / "static"
    return {
        entry.name: entry.read_bytes()
        for entry in folder.iterdir()
        if entry.name.rpartition(".")[2] in _TYPES
    }
