"""One page that is open somewhere, and what it is sent: the newest frame whenever it is ready."""

from __future__ import annotations

import asyncio
import time

from aiohttp import WebSocketError, web

_WINDOW = 2  # frames on their way at once: one is drawn while the next one travels


class Viewer:
    """Sends to one WebSocket, at the pace at which the page draws.

    A page says when a frame is on its screen. Until then only so many are on their way, and of
    those that come meanwhile the newest alone waits: neither memory nor delay grows, on any network.
    All methods belong to the server's event loop.
    """

    def __init__(self, socket: web.WebSocketResponse, stall_s: float) -> None:
        """Nothing is sent before :meth:`run`.

        Args:
            socket: to the page.
            stall_s: how long a page may leave what it was sent unread.
        """
        self._socket = socket
        self._stall_s = stall_s
        self._frame: bytes | None = None  # the newest one, if it is yet to be sent
        self._offered: bytes | None = None
        self._texts: dict[str, str] = {}  # kind -> the newest of that kind
        self._credit = _WINDOW
        self._heard = time.monotonic()
        self._wake = asyncio.Event()
        self._last = False
        self._stopped = False
        self.watching = True

    @property
    def ready(self) -> bool:
        """Whether a frame would be sent at once."""
        return self.watching and self._credit > 0

    @property
    def stalled(self) -> bool:
        """Whether it was sent all it may be and has not drawn any of it for too long."""
        return self._credit == 0 and time.monotonic() - self._heard > self._stall_s

    def offer(self, frame: bytes) -> None:
        """Send a frame, unless it was offered before."""
        if frame is not self._offered:
            self._offered = self._frame = frame
            self._wake.set()

    def tell(self, kind: str, text: str, last: bool = False) -> None:
        """Send a text, or let it wait in the place of an older one of its kind; then, perhaps, end."""
        self._texts[kind] = text
        self._last = self._last or last
        self._wake.set()

    def drawn(self) -> None:
        """Note that a frame is on the screen."""
        self._credit = min(self._credit + 1, _WINDOW)
        self._heard = time.monotonic()
        self._wake.set()

    def watch(self, on: bool) -> None:
        """Start or stop sending frames."""
        self.watching = on
        if not on:
            self._frame = self._offered = None
        self._heard = time.monotonic()
        self._wake.set()

    def stop(self) -> None:
        """End :meth:`run`. To cancel it is not enough: wait_for may swallow that."""
        self._stopped = True
        self._wake.set()

    async def run(self) -> None:
        """Send until the last text or the end of the connection.

        Raises:
            TimeoutError: the page reads nothing any more.
            ConnectionError: it has gone.
        """
        try:
            while not self._stopped and (not self._last or self._texts):
                await self._wake.wait()
                self._wake.clear()
                while self._texts:
                    text = self._texts.pop(next(iter(self._texts)))
                    await asyncio.wait_for(self._socket.send_str(text), self._stall_s)
                if self._frame is not None and self.ready:
                    frame, self._frame = self._frame, None
                    if self._credit == _WINDOW:
                        self._heard = time.monotonic()
                    self._credit -= 1
                    await asyncio.wait_for(self._socket.send_bytes(frame), self._stall_s)
        except (WebSocketError, RuntimeError) as error:  # aiohttp's words for a closed connection
            raise ConnectionResetError(str(error)) from None
