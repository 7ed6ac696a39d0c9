"""The page's server, and strangers on the network."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import time

import pytest

from deeplab_rt.streams.page import Access, Limits, PageView
from tests.integration.streams.page.conftest import MakeView, address, opened, show, until

FILES = ("index.html", "page.css", "page.js", "stream.js", "compose.js", "graph.js", "still.js")
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def get(
    view: PageView, path: str, method: str = "GET", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(*address(view), timeout=10)
    connection.request(method, path, headers={"Host": "localhost", **headers})
    response = connection.getresponse()
    body = b"" if response.status == 101 else response.read()
    connection.close()
    return response.status, response.headers, body


@pytest.mark.parametrize("name", [*FILES, "playback.js", "favicon.svg", "favicon.ico", ""])
def test_the_files_of_the_page(view: PageView, name: str) -> None:
    status, headers, body = get(view, f"/{name}")
    assert status == 200 and len(body) > 100
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Content-Type"].startswith(("text/", "image/svg+xml"))


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/../view.py",
        "/..%2fview.py",
        "/%2e%2e/%2e%2e/view.py",
        "//etc/passwd",
        "/static/page.js",
        "/page.js/",
        "/\\..\\view.py",
        "/%00",
        "/view.py",
    ],
)
def test_nothing_else_is_there(view: PageView, path: str) -> None:
    status, headers, body = get(view, path)
    assert status in (400, 404) and b"import" not in body and b"root:" not in body
    assert status == 400 or headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "TRACE", "OPTIONS", "NONSENSE"])
def test_only_get_and_head(view: PageView, method: str) -> None:
    assert get(view, "/", method)[0] in (400, 405)


@pytest.mark.parametrize("host", ["evil.example", "[", "[::1", "a b", "localhost:x", "\x01"])
@pytest.mark.parametrize("path", ["/", "/ws"])
def test_another_host_gets_no_page_and_no_stream(
    view: PageView, host: str, path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert get(view, path, Host=host, **UPGRADE)[0] in (400, 403)
    assert get(view, path, Origin="http://evil.example", **UPGRADE)[0] == 403
    assert "Traceback" not in capfd.readouterr().err


def test_an_open_page_refuses_whoever_has_not_the_link(make_view: MakeView) -> None:
    view = make_view(Access("0.0.0.0", 0))
    token = view.url.partition("?token=")[2]
    for path in ("/", "/ws"):
        assert get(view, path, **UPGRADE)[0] == 403
        assert get(view, f"{path}?token={token[:-1]}", **UPGRADE)[0] == 403
    assert get(view, f"/?token={token}")[0] == 200
    assert get(view, f"/ws?token={token}", **UPGRADE)[0] == 101


NONSENSE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS handshake
    b"GET / HTTP/1.1\r\nHost: [\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /" + 100_000 * b"a" + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + 100_000 * b"b" + b"\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\nx",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"\r\n\r\n\r\n",
    b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET //[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
]


@pytest.mark.parametrize("request_bytes", NONSENSE)
def test_nonsense_is_refused_without_a_word_on_the_terminal(
    make_view: MakeView, request_bytes: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    view = make_view(limits=Limits(request_s=0.5))
    with socket.create_connection(address(view), timeout=10) as client:
        client.settimeout(10)
        client.sendall(request_bytes)
        answer = client.recv(100)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4", b"HTTP/1.1 200"))
    assert b"HTTP/1.1 200" not in answer or b"Transfer" in request_bytes
    assert get(view, "/")[0] == 200
    assert capfd.readouterr().err == ""


def test_a_connection_that_sends_no_request_is_closed(make_view: MakeView) -> None:
    view = make_view(limits=Limits(request_s=0.5))
    with socket.create_connection(address(view), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: local")
        started = time.monotonic()
        for _ in range(100):  # a byte now and then does not keep it open
            try:
                client.sendall(b"h")
                client.settimeout(0.1)
                if client.recv(100) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert 0.3 < time.monotonic() - started < 5


def test_connections_and_pages_have_a_cap(make_view: MakeView) -> None:
    view = make_view(limits=Limits(viewers=2, connections=6))

    async def look() -> None:
        async with opened(view) as first, opened(view) as second:
            assert (await asyncio.to_thread(get, view, "/ws", "GET", **UPGRADE))[0] == 503
            show(view, 1)
            assert await first.frame() == await second.frame() == 1

    asyncio.run(look())
    idle = [socket.create_connection(address(view), timeout=10) for _ in range(6)]
    time.sleep(0.2)
    with socket.create_connection(address(view), timeout=10) as late:
        try:
            late.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert late.recv(10) == b""
        except ConnectionError:
            pass
    for connection in idle:
        connection.close()
    deadline = time.monotonic() + 10
    while True:
        try:
            assert get(view, "/")[0] == 200
            break
        except (ConnectionError, http.client.HTTPException):
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize(
    "text", ["nonsense", "[]", json.dumps({"do": "seek", "value": -1}), 5000 * "x"]
)
def test_a_client_that_speaks_no_command_is_shown_out(
    view: PageView, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async def look() -> None:
        async with opened(view) as client:
            await client.socket.send_str(text)
            while not client.socket.closed:
                message = await client.socket.receive(timeout=10)
                if message.type.name in ("CLOSE", "CLOSED", "CLOSING"):
                    break
            assert client.socket.close_code in (1008, 1009)
        await until(lambda: view.tick()["viewers"] == 0, "it is still there")

    asyncio.run(look())
    assert capfd.readouterr().err == ""


def test_a_client_that_leaves_is_no_error(
    view: PageView, capfd: pytest.CaptureFixture[str]
) -> None:
    async def look() -> None:
        for _ in range(5):
            async with opened(view) as client:
                show(view, 1, (480, 640))
                await client.frame()
                client.socket._response.connection.transport.abort()  # type: ignore[union-attr]
                show(view, 2, (480, 640))
        await until(lambda: view.tick()["viewers"] == 0, "one is still there")

    asyncio.run(look())
    assert capfd.readouterr().err == ""
