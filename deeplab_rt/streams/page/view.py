"""The page as a sink of masks: what the stream's thread calls, and the server's thread behind it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from deeplab_rt.frame import Frame
from deeplab_rt.frame_buffer import LatestFrameBuffer
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.streams.page.access import Access, Endpoint
from deeplab_rt.streams.page.messages import VERSION, Command, frame_message
from deeplab_rt.streams.page.server import Limits, PageServer
from deeplab_rt.streams.player import Player
from deeplab_rt.streams.stats import RunStats

_ENCODE_S = 1 / 40  # no faster than eyes need: what is quicker leaves the cores to the network


class PageView:
    """Shows a stream on a page until closed.

    A frame is encoded once for all who look, and only while somebody looks; who is slow gets fewer
    frames, the newest ones. The stream's thread waits for none of it.
    """

    def __init__(
        self,
        labels: LabelSet,
        stats: RunStats,
        access: Access = Access(),  # noqa: B008  # frozen
        limits: Limits = Limits(),  # noqa: B008
        player: Player | None = None,
        facts: dict[str, str] | None = None,
        status: Callable[[], str] | None = None,
    ) -> None:
        """Start serving.

        Args:
            labels: of the masks.
            stats: of the stream.
            access: where to listen.
            limits: of clients.
            player: of a recording, for pause, step and the time line; None for a camera.
            facts: name -> text, shown beside the stream (model, device ...).
            status: what is wrong with the source at the moment, in words; empty if nothing.

        Raises:
            StreamError: the address or the port cannot be had.
        """
        self._labels, self._stats, self._player = labels, stats, player
        self._facts, self._status = facts or {}, status or (lambda: "")
        endpoint = Endpoint(access)
        self.url, self.is_open = endpoint.url, endpoint.is_open
        self._frames: LatestFrameBuffer[tuple[Frame, Masks]] = LatestFrameBuffer(1)
        self._written = time.monotonic()  # when the newest frame came
        self.encoded = 0  # frames that were encoded
        self._server = PageServer(endpoint, limits, self)
        self._loop = asyncio.new_event_loop()
        self._wake = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, name="page", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result()
        self._encoding = asyncio.run_coroutine_threadsafe(self._encode(), self._loop)

    @property
    def watched(self) -> bool:
        """Whether anybody looks."""
        return self._server.watched

    def write(self, frame: Frame, masks: Masks) -> None:
        """Show a frame to those who look, as soon as they are ready for it.

        Raises:
            Exception: whatever ended the encoding of frames.
        """
        if self._encoding.done():
            self._encoding.result()
        self._frames.put(0, (frame, masks))
        self._written = time.monotonic()
        if not self._server.watched:
            self._server.newest = None  # whoever comes later begins with a newer one
        else:
            self._loop.call_soon_threadsafe(self.notify)

    def close(self) -> None:
        """Tell the pages that the stream has ended, and stop serving. Safe to call twice."""
        if self._loop.is_closed():
            return
        self._encoding.cancel()
        warnings = self._stats.source.warnings
        stop = self._server.stop(warnings[-1] if warnings else "")
        asyncio.run_coroutine_threadsafe(stop, self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def notify(self) -> None:
        self._wake.set()

    async def _encode(self) -> None:
        """Encode the newest frame whenever somebody is ready for one."""
        due = self._loop.time()
        with ThreadPoolExecutor(1, "page encoder") as encoder:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await asyncio.sleep(due - self._loop.time())  # not at all if that is over
                if not self._server.ready:
                    continue
                due = self._loop.time() + _ENCODE_S
                for _, (frame, masks) in self._frames.clear():
                    message = await self._loop.run_in_executor(
                        encoder, frame_message, frame, masks, self._frame_facts(masks)
                    )
                    self.encoded += 1
                    self._server.newest = message
                self._server.offer_newest()

    def hello(self) -> dict[str, Any]:
        source = self._stats.source
        return {
            "version": VERSION,
            # Of a recording its name alone: where it lies is nobody else's business.
            "source": source.name if source.live else PurePath(source.name).name,
            "live": source.live,
            "total": source.total,
            "rate": source.fps,
            "seekable": self._player is not None and source.total is not None,
            "player": self._player is not None,
            "facts": self._facts,
            "labels": self._labels.to_list(),
            **self.tick(),
        }

    def tick(self) -> dict[str, Any]:
        return {
            **asdict(self._stats.live()),
            "silent_s": round(time.monotonic() - self._written, 1),
            "status": self._status(),
            "paused": self._player is not None and self._player.paused,
            "viewers": len(self._server.viewers),
        }

    def _frame_facts(self, masks: Masks) -> dict[str, Any]:
        return {
            "frames": self._stats.frames,
            "network_ms": round(masks.timings.get("total", 0.0), 1),
        }

    def obey(self, command: Command) -> None:
        """Do what a page asks of the recording; of a camera there is nothing to ask."""
        if self._player is None:
            return
        if command.action == "pause":
            self._player.pause()
        elif command.action == "play":
            self._player.play()
        elif command.action == "step":
            self._player.step(command.value)
        elif command.action == "seek":
            self._player.seek(command.value)
