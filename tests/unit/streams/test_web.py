"""The page that shows a stream, looked at by real HTTP clients and by a real browser."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from deeplab_rt.frame import Frame
from deeplab_rt.labels import Label, LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.streams.base import Recording
from deeplab_rt.streams.stats import RunStats
from deeplab_rt.streams.web import WebView


@pytest.fixture
def stats() -> RunStats:
    return RunStats(Recording("drive", None, None))  # type: ignore[arg-type]


@pytest.fixture
def view(camvid11: LabelSet, stats: RunStats) -> Iterator[WebView]:
    view = WebView(camvid11, stats, port=0)
    yield view
    view.close()


def get(view: WebView, path: str, host: str = "localhost") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(view.url).netloc, timeout=10)
    connection.request("GET", path, headers={"Host": host})
    response = connection.getresponse()
    return response.status, response.read()


def show(view: WebView, gray: int) -> None:
    empty = np.zeros((48, 64), np.uint8)
    view.write(Frame(np.full((48, 64, 3), gray, np.uint8), 0, 0), Masks(empty, empty, empty))


def test_page_shows_the_stream_the_legend_and_the_figures(
    view: WebView, camvid11: LabelSet
) -> None:
    status, page = get(view, "/")
    seen: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.extend([tag, *(value for _, value in attrs if value)])

        def handle_data(self, data: str) -> None:
            seen.append(data)

    Parser().feed(page.decode())
    assert status == 200 and "stream.mjpg" in seen
    for label in camvid11.labels:
        assert label.name in seen and f"background:rgb{label.color}" in seen


def test_names_of_labels_cannot_become_markup(stats: RunStats) -> None:
    view = WebView(LabelSet((Label(1, "<script>", (1, 2, 3)),)), stats, port=0)
    assert b"&lt;script&gt;</li>" in get(view, "/")[1]
    view.close()


def test_live_figures(view: WebView, stats: RunStats) -> None:
    for _ in range(3):
        stats.add({"total": 12.0})
    stats.source.dropped = 2
    content = json.loads(get(view, "/stats.json")[1])
    assert content["frames"] == 3 and content["dropped"] == 2 and content["latency_ms"] == 12.0


def test_a_client_gets_the_newest_picture_only(view: WebView) -> None:
    done = threading.Event()

    def publish() -> None:
        for gray in list(range(20, 250, 2)) * 100:
            if done.is_set():
                return
            show(view, gray)
            time.sleep(0.002)

    publisher = threading.Thread(target=publish)
    publisher.start()
    capture = cv2.VideoCapture(f"{view.url}stream.mjpg", cv2.CAP_FFMPEG)
    pictures = [capture.read() for _ in range(10)]
    capture.release()
    done.set()
    publisher.join()
    assert all(read and picture.shape == (48, 64, 3) for read, picture in pictures)
    # Half of the frame's own brightness: the overlay of label 0, which is black, is half of it.
    values = [int(picture.mean()) for _, picture in pictures]
    assert len(set(values)) == 10 and all(8 <= value <= 126 for value in values)


BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
HEADLESS = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu"]
needs_browser = pytest.mark.skipif(
    not BROWSER, reason="no Chromium on the PATH (Debian: apt install chromium)"
)


def browse(url: str, profile: Path, *options: str) -> str:
    """What headless Chromium writes to stdout after two seconds on the page."""
    command = [*HEADLESS, "--virtual-time-budget=2000", f"--user-data-dir={profile}", *options, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


@needs_browser
def test_a_browser_shows_the_picture_and_the_figures(
    view: WebView, stats: RunStats, camvid11: LabelSet, tmp_path: Path
) -> None:
    road = camvid11.labels[camvid11.names.index("road")]
    everywhere = np.full((48, 64), road.id, np.uint8)
    done = threading.Event()

    def publish() -> None:
        while not done.wait(0.02):
            frame = Frame(np.full((48, 64, 3), 200, np.uint8), 0, 0)
            view.write(frame, Masks(everywhere, everywhere, everywhere))
            stats.add({"total": 12.0})

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        page = browse(view.url, tmp_path / "profile", "--dump-dom")
        shot = tmp_path / "page.png"
        browse(view.url, tmp_path / "profile", f"--screenshot={shot}", "--window-size=640,640")
    finally:
        done.set()
        publisher.join()
    assert re.search(r"<p id=.stats.*>[\d.]+ frames/s, 12 ms, \d+ frames, 0 dropped</p>", page)
    screen = cv2.imread(str(shot))
    assert screen is not None
    between = np.add(road.color[::-1], 200) / 2  # the frame's gray and the label's colour, BGR
    assert np.abs(screen[200, 320] - between).max() < 8


@needs_browser
def test_a_page_left_open_comes_back_with_the_stream(
    camvid11: LabelSet, stats: RunStats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[float] = []
    page = WebView.page
    monkeypatch.setattr(WebView, "page", lambda view: loads.append(time.monotonic()) or page(view))

    def shown(view: WebView, times: int) -> None:
        deadline = time.monotonic() + 30
        while len(loads) < times or view._encoded[0] == 0:
            show(view, 100)
            time.sleep(0.02)
            assert time.monotonic() < deadline

    view = WebView(camvid11, stats, port=0)
    port = urlsplit(view.url).port
    assert port is not None
    command = [*HEADLESS, "--remote-debugging-port=0", f"--user-data-dir={tmp_path}", view.url]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
        try:
            shown(view, times=1)
            view.close()
            time.sleep(1.5)  # the page asks for the stats twice a second
            view = WebView(camvid11, stats, port=port)
            shown(view, times=2)
        finally:
            browser.terminate()
    view.close()
    assert len(loads) == 2 and urlsplit(view.url).port == port


def test_a_client_that_leaves_is_no_error(view: WebView, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(view.url).port or 0)) as client:
        client.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        show(view, 100)
        assert client.recv(4)
    deadline = time.monotonic() + 10
    while any("process_request" in thread.name for thread in threading.enumerate()):
        show(view, 100)  # its stream ends at the first picture that cannot be sent
        time.sleep(0.01)
        assert time.monotonic() < deadline
    assert "Traceback" not in capfd.readouterr().err


def test_nothing_is_drawn_while_nobody_looks(
    view: WebView, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(
        "deeplab_rt.streams.web.frame_overlay", lambda *args: drawn.append(args) or args[0].image
    )
    for gray in range(10):
        show(view, gray)
    assert drawn == []
    assert view.next_jpeg(0) == view.next_jpeg(9)
    assert len(drawn) == 1


def test_other_paths_and_other_hosts_get_nothing(view: WebView) -> None:
    assert get(view, "/etc/passwd")[0] == 404
    assert get(view, "/", host="evil.example:80")[0] == 403
    assert get(view, "/", host="127.0.0.1:9000")[0] == 200


def test_a_port_in_use_is_replaced(view: WebView, camvid11: LabelSet, stats: RunStats) -> None:
    port = urlsplit(view.url).port
    assert port is not None
    other = WebView(camvid11, stats, port=port)
    assert other.url != view.url and get(other, "/")[0] == 200
    other.close()


def test_closing_ends_every_stream(camvid11: LabelSet, stats: RunStats) -> None:
    view = WebView(camvid11, stats, port=0)
    connection = http.client.HTTPConnection(urlsplit(view.url).netloc, timeout=10)
    connection.request("GET", "/stream.mjpg")
    response = connection.getresponse()
    show(view, 100)
    assert response.read(2) == b"--"
    view.close()
    assert b"image/jpeg" in response.read()
    with pytest.raises(ConnectionError):
        get(view, "/")
