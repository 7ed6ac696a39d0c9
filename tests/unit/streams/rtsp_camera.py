"""An RTSP camera on loopback, in the place of the real one that no test machine has.

PyAV makes the RTP packets (motion JPEG, RFC 2435); the few requests of RTSP 1.0 (RFC 2326) that FFmpeg
sends are answered here. TCP (interleaved) and UDP, or one of them alone.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction

import av

from tests.unit.streams.media import numbered

_SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 26\r\na=control:track0\r\n"
)


class RtspCamera:
    """Numbered images at 20 Hz to every client, until it is closed.

    Attributes:
        played: the transport of every client that was played to.
    """

    def __init__(self, transports: Sequence[str] = ("tcp", "udp")) -> None:
        self.played: list[str] = []
        self._transports = transports
        self._done = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"rtsp://127.0.0.1:{self._listener.getsockname()[1]}/main"
        self._start(self._accept)

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            self._start(self._answer, client)

    def _answer(self, client: socket.socket) -> None:
        transport, address = "", ("127.0.0.1", 0)
        with client, contextlib.suppress(OSError):
            for request in _requests(client):
                method = request.split(" ", 1)[0]
                headers, body, status = "", "", "200 OK"
                if method == "OPTIONS":
                    headers = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
                elif method == "DESCRIBE":
                    body = _SDP
                    headers = f"Content-Base: {self.url}/\r\nContent-Type: application/sdp\r\n"
                elif method == "SETUP":
                    wanted = re.search(r"Transport: *([^\r\n]*)", request)
                    assert wanted is not None
                    transport = "tcp" if "/TCP" in wanted[1] else "udp"
                    if transport not in self._transports:
                        status = "461 Unsupported Transport"
                    ports = re.search(r"client_port=(\d+)", wanted[1])
                    address = ("127.0.0.1", int(ports[1]) if ports else 0)
                    extra = "" if transport == "tcp" else ";server_port=5000-5001"
                    headers = f"Transport: {wanted[1]}{extra}\r\nSession: 1\r\n"
                elif method == "PLAY":
                    headers = "Session: 1\r\nRange: npt=0-\r\n"
                number = re.search(r"CSeq: *(\d+)", request)
                client.sendall(
                    f"RTSP/1.0 {status}\r\nCSeq: {number[1] if number else 0}\r\n{headers}"
                    f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
                )
                if method == "PLAY":
                    self.played.append(transport)
                    self._start(self._play, client, transport, address)

    def _play(self, client: socket.socket, transport: str, address: tuple[str, int]) -> None:
        """Have PyAV send RTP to a socket of our own, and hand it on."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtp:
            rtp.bind(("127.0.0.1", 0))
            rtp.settimeout(0.5)
            self._start(self._encode, rtp.getsockname()[1])
            with contextlib.suppress(OSError):  # the client has gone
                while not self._done.is_set():
                    packet = rtp.recv(65536)
                    if transport == "tcp":
                        client.sendall(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
                    else:
                        rtp.sendto(packet, address)

    def _encode(self, port: int) -> None:
        with av.open(f"rtp://127.0.0.1:{port}?pkt_size=1200", "w", format="rtp") as container:
            stream = container.add_stream("mjpeg", rate=20)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
            stream.codec_context.options = {"huffman": "default", "force_duplicated_matrix": "1"}
            index = 0
            while not self._done.wait(0.05):
                frame = av.VideoFrame.from_ndarray(numbered(index % 47), format="bgr24")
                frame.pts, frame.time_base = index, Fraction(1, 20)
                container.mux(stream.encode(frame.reformat(format="yuvj420p")))
                index += 1

    def __enter__(self) -> RtspCamera:
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._listener.close()
        deadline = time.monotonic() + 5
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def _requests(client: socket.socket) -> Iterator[str]:
    """The text of each request; what a client sends interleaved (RTCP) is passed over."""
    waiting = b""
    while True:
        while waiting[:1] == b"$" and len(waiting) >= 4:
            waiting = waiting[4 + int.from_bytes(waiting[2:4], "big") :]
        head, separator, rest = waiting.partition(b"\r\n\r\n")
        if separator and head[:1] != b"$":
            waiting = rest
            yield head.decode()
            continue
        data = client.recv(4096)
        if not data:
            return
        waiting += data
