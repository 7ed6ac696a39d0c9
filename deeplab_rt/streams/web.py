"""A page on this machine's loopback that shows the stream: for machines without a display.

From another machine: ``ssh -L 8088:127.0.0.1:8088 THIS_MACHINE``, then open the printed address
there. The page is on loopback only, since it shows what the camera sees.
"""

from __future__ import annotations

import html
import json
import sys
import threading
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import cv2

from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.streams.overlays import frame_overlay
from deeplab_rt.streams.stats import RunStats

PORT = 8088  # another one where this is taken
_JPEG_QUALITY = 80
_HOSTS = ("127.0.0.1", "localhost", "::1")
_BOUNDARY = "frame"

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>deeplab_rt</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ margin: 0 auto; padding: 1rem; max-width: 80rem; background: #181818; color: #eee;
  font: 1rem/1.4 system-ui, sans-serif }}
img {{ width: 100%; image-rendering: auto; background: #000 }}
ul {{ display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; padding: 0; list-style: none }}
i {{ display: inline-block; width: .9em; height: .9em; margin-right: .4em }}
.drivable {{ text-decoration: underline }}
</style></head><body>
<img src="stream.mjpg" alt="The camera's picture with the label colours over it">
<p id="stats" role="status">waiting for the first frame</p>
<ul>{legend}</ul>
<script>
const line = document.getElementById('stats');
let ended = false;
async function update() {{
  try {{
    const f = await (await fetch('stats.json')).json();
    if (ended) location.reload();
    line.textContent = `${{f.fps}} frames/s, ${{f.latency_ms}} ms, ${{f.frames}} frames, `
      + `${{f.dropped}} dropped`;
  }} catch {{ ended = true; line.textContent = 'the stream has ended'; }}
}}
setInterval(update, 500);
</script></body></html>
"""


class WebView:
    """Serves the newest overlay as motion JPEG, with legend and live stats, until closed.

    Each client gets the newest frame when it is ready for one; a picture is made only while somebody
    looks, once for all who look.
    """

    def __init__(self, labels: LabelSet, stats: RunStats, port: int = PORT) -> None:
        """Start serving.

        Args:
            labels: of the masks.
            stats: of the stream.
            port: to listen on; another free one is taken where it is in use. 0 for any.
        """
        self._labels = labels
        self._figures = stats
        self._changed = threading.Condition()
        self._newest: tuple[Frame, Masks] | None = None
        self._number = 0
        self._closed = False
        self._encoding = threading.Lock()
        self._encoded = (0, b"")
        handler = type("Handler", (_Handler,), {"view": self})
        try:
            self._server = _Server(("127.0.0.1", port), handler)
        except OSError:
            self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="web view", daemon=True
        )
        self._thread.start()

    def write(self, frame: Frame, masks: Masks) -> None:
        with self._changed:
            self._newest = (frame, masks)
            self._number += 1
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def page(self) -> bytes:
        """The page in HTML."""
        drivable = self._labels.group("drivable")
        legend = "".join(
            f"<li{' class=drivable' if label.name in drivable else ''}>"
            f'<i style="background:rgb{label.color}"></i>{html.escape(label.name)}</li>'
            for label in self._labels.labels
        )
        return _PAGE.format(legend=legend).encode()

    def stats(self) -> bytes:
        """The live stats in JSON."""
        return json.dumps(asdict(self._figures.live())).encode()

    def next_jpeg(self, after: int) -> tuple[int, bytes] | None:
        """The newest overlay that is newer than number ``after``, and its number; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._number > after or self._closed)
            if self._closed or self._newest is None:
                return None
            number, (frame, masks) = self._number, self._newest
        with self._encoding:
            if self._encoded[0] < number:
                picture = frame_overlay(frame, masks, self._labels)
                jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
                self._encoded = (number, jpeg.tobytes())
            return self._encoded


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle of an answer is no error: whoever closes the page
        ends its stream that way."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    view: WebView

    def do_GET(self) -> None:  # the name that http.server calls
        # A page of elsewhere whose name was made to resolve to this machine gets no picture.
        if urlsplit(f"//{self.headers.get('Host', '')}").hostname not in _HOSTS:
            self.send_error(403, "only for this machine")
        elif self.path == "/":
            self._send("text/html; charset=utf-8", self.view.page())
        elif self.path == "/stats.json":
            self._send("application/json", self.view.stats())
        elif self.path == "/stream.mjpg":
            self._stream()
        else:
            self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not worth a line on the terminal."""

    def _send(self, kind: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        number = 0
        while (picture := self.view.next_jpeg(number)) is not None:
            number, jpeg = picture
            self.wfile.write(
                f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\n"
                f"Content-Length: {len(jpeg)}\r\n\r\n".encode()
            )
            self.wfile.write(jpeg + b"\r\n")
