"""The page in a real browser: what it shows, and what every control does to the pixels."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from deeplab_rt.frame import Frame
from deeplab_rt.labels import Label, LabelSet
from deeplab_rt.streams.page import Access, PageView
from deeplab_rt.streams.player import Player
from deeplab_rt.streams.sources import opener
from deeplab_rt.streams.stats import RunStats
from tests.browser.conftest import HEIGHT, WIDTH, Browser, Camera, masks_of, split_labels
from tests.unit.streams.media import write_video

SKY, ROAD, VEHICLE = (0.5, 0.2), (0.1, 0.9), (0.5, 0.75)  # places of split_labels
GRAY = 200


def blend(labels: LabelSet, name: str, opacity: float) -> np.ndarray:
    return opacity * np.array(labels.labels[labels.index(name)].color) + (1 - opacity) * GRAY


def shows(browser: Browser, place: tuple[float, float], expected: np.ndarray) -> None:
    """Wait until a place has a colour, give or take what JPEG and rounding change."""
    browser.until(
        lambda: np.abs(np.subtract(browser.pixel(*place), expected)).max() < 6,
        f"{expected} at {place}, not {browser.pixel(*place)}",
        5,
    )


@pytest.fixture
def page(browser: Browser, camera: Camera) -> Browser:
    """The page of a camera that sends one gray, its class colours half over it."""
    camera.gray = GRAY
    browser.open(camera.view.url)
    return browser


def test_the_image_moves_and_the_figures_are_told(browser: Browser, camera: Camera) -> None:
    browser.open(camera.view.url)
    seen = set()
    browser.until(lambda: seen.add(browser.pixel(*ROAD)) or len(seen) > 5, "a moving image")
    browser.until(lambda: float(browser.text("fps")) > 1, "the rate")
    assert browser.text("latency") == "12.0" and browser.text("dropped") == "0"
    assert browser.text("source") == "front camera" and browser.text("pill") == "Live"
    graph = "return [...document.getElementById('fps-graph').getContext('2d')" + (
        ".getImageData(0, 0, 160, 44).data].filter((v, i) => i % 4 === 3 && v).length"
    )
    assert browser.until(lambda: browser.run(graph) > 200, "a graph")


def test_the_legend_names_every_class_in_its_colour(page: Browser, camvid11: LabelSet) -> None:
    names = [
        item.text.split("\n")[0]
        for item in page.driver.find_elements("css selector", "#legend button")
    ]
    assert names == list(camvid11.names)
    swatch = "return getComputedStyle(document.querySelectorAll('#legend i')[arguments[0]]).backgroundColor"
    for index, label in enumerate(camvid11.labels):
        assert page.run(swatch, index) == "rgb({}, {}, {})".format(*label.color)


def test_a_class_is_hidden_and_shown_by_press_and_by_key(page: Browser, camvid11: LabelSet) -> None:
    road, gray = blend(camvid11, "road", 0.5), np.full(3, GRAY)
    shows(page, ROAD, road)
    page.click(f"#legend [data-label='{camvid11.index('road') + 1}']")
    shows(page, ROAD, gray)
    shows(page, SKY, blend(camvid11, "sky", 0.5))
    page.press(str(camvid11.index("road") + 1))
    shows(page, ROAD, road)


def test_opacity(page: Browser, camvid11: LabelSet) -> None:
    page.press("+", "+", "+", "+")
    shows(page, ROAD, blend(camvid11, "road", 0.7))
    page.run(
        "const o = document.getElementById('opacity'); o.value = 0; o.dispatchEvent(new Event('input'))"
    )
    shows(page, ROAD, np.full(3, GRAY))
    assert page.text("opacity-value") == "0 %"
    page.press("-")
    assert page.text("opacity-value") == "0 %"


def test_drivable_only_and_objects_only(page: Browser, camvid11: LabelSet) -> None:
    gray = np.full(3, GRAY)
    page.press("d")
    for place, expected in (ROAD, blend(camvid11, "road", 0.5)), (SKY, gray), (VEHICLE, gray):
        shows(page, place, expected)
    page.click("#modes [data-mode=objects]")
    for place, expected in (ROAD, gray), (SKY, gray), (VEHICLE, blend(camvid11, "vehicle", 0.5)):
        shows(page, place, expected)
    page.press("a")
    shows(page, SKY, blend(camvid11, "sky", 0.5))


def test_contours(page: Browser, camvid11: LabelSet) -> None:
    edge = (49.5 / WIDTH, VEHICLE[1])  # one pixel inside, and the first one
    inside, border = (52.5 / WIDTH, VEHICLE[1]), (48.5 / WIDTH, VEHICLE[1])
    page.press("c")
    shows(page, border, blend(camvid11, "vehicle", 1))
    shows(page, inside, blend(camvid11, "vehicle", 0.5))
    shows(page, edge, blend(camvid11, "vehicle", 0.5))
    page.press("c")
    shows(page, border, blend(camvid11, "vehicle", 0.5))


def test_side_by_side(page: Browser, camvid11: LabelSet) -> None:
    page.click("#side")
    page.until(lambda: page.run("return document.getElementById('view').width") == 2 * WIDTH, "two")
    shows(page, (0.05, 0.9), np.full(3, GRAY))
    shows(page, (0.55, 0.9), blend(camvid11, "road", 0.5))
    page.resize(390, 844, mobile=True)  # upright they are below each other
    page.until(
        lambda: page.run("return document.getElementById('view').height") == 2 * HEIGHT, "both"
    )
    shows(page, (0.1, 0.45), np.full(3, GRAY))


def test_class_and_confidence_under_the_pointer(page: Browser, camera: Camera) -> None:
    box = page.run(  # the image in its element, which is wider than it
        "const v = document.getElementById('view'), w = v.clientHeight * v.width / v.height;"
        "return [w / v.clientWidth, v.clientWidth]"
    )
    camera.running.clear()  # no round trip: nothing more comes from the server
    page.point(0.5, VEHICLE[1])
    page.until(lambda: page.text("tip") == "vehicle · 80 %", "the vehicle")
    page.point(0.5 + 0.4 * box[0], 0.9)
    page.until(lambda: page.text("tip") == "road · 80 %", "the road")
    page.point(0.5 - 0.495, 0.5)
    page.until(lambda: page.text("tip") == "", "nothing beside the image")


def test_a_cursor_for_those_without_a_pointer(page: Browser) -> None:
    from selenium.webdriver.common.keys import Keys

    page.press("i")
    page.until(lambda: page.text("tip").startswith(("road", "sky")), "the middle")
    page.press(*[Keys.ARROW_UP] * 8)
    page.until(lambda: page.text("tip").startswith("sky"), "above it")
    page.press("i")
    page.until(lambda: page.text("tip") == "", "no cursor")


def test_a_camera_is_paused_stepped_back_and_goes_on(browser: Browser, camera: Camera) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(camera.view.url)
    time.sleep(1)  # some frames to step through
    browser.press(" ")
    browser.until(lambda: browser.text("pill") == "Paused", "a pause")
    frozen = browser.pixel(*ROAD)
    time.sleep(0.5)
    assert browser.pixel(*ROAD) == frozen and not camera.view.watched
    browser.press(Keys.ARROW_LEFT)
    browser.until(lambda: browser.pixel(*ROAD) != frozen, "the frame before")
    assert browser.text("position").startswith("-1 of the last")
    browser.press(Keys.ARROW_RIGHT)
    browser.until(lambda: browser.pixel(*ROAD) == frozen, "the same frame again")
    browser.press(" ")
    browser.until(lambda: browser.pixel(*ROAD) != frozen, "it goes on")
    assert camera.view.watched


def test_a_still_is_saved_with_its_label_map(
    page: Browser, tmp_path: Path, camvid11: LabelSet
) -> None:
    page.press("s")
    image = page.until(lambda: list(tmp_path.glob("front_camera_*.jpg")), "a download")[0]
    labels = image.with_name(image.name.replace(".jpg", ".labels.png"))
    page.until(labels.exists, "its label map")
    page.until(lambda: not list(tmp_path.glob("*.crdownload")), "the end of the downloads")
    saved = cv2.imread(str(labels), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(saved, split_labels(camvid11))
    assert np.abs(cv2.imread(str(image)).astype(int) - GRAY).max() < 4


def test_full_screen_keeps_image_and_legend(page: Browser) -> None:
    page.press("f")
    page.until(lambda: page.run("return document.body.classList.contains('full')"), "full screen")
    assert page.run("return document.getElementById('legend').checkVisibility()")
    assert not page.run("return document.querySelector('header').checkVisibility()")
    page.press("f")
    page.until(
        lambda: not page.run("return document.body.classList.contains('full')"), "the end of it"
    )


def prefer(page: Browser, theme: str) -> None:
    """Have the system prefer a theme, and wait for the page to follow."""
    features = [{"name": "prefers-color-scheme", "value": theme}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    page.until(lambda: page.run("return document.documentElement.dataset.theme") == theme, theme)


def test_dark_and_light(page: Browser) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    prefer(page, "dark")
    prefer(page, "light")
    light = page.run(ground)
    page.press("t")
    assert page.run(ground) != light
    page.driver.refresh()
    page.until(lambda: page.banner() == "", "a frame")
    assert page.run(ground) != light  # what was chosen stays chosen


def test_every_key_is_listed(page: Browser) -> None:
    from selenium.webdriver.common.keys import Keys

    page.press("?")
    page.until(lambda: page.run("return document.getElementById('keys').open"), "the list")
    listed = page.text("key-table")
    for what in ("Pause", "frame back", "Drivable", "Objects", "Contours", "Side by side", "Save",
                 "Full screen", "Dark or light", "cursor", "First frame", "This list"):  # fmt: skip
        assert what in listed
    page.press(Keys.ESCAPE)
    page.until(lambda: not page.run("return document.getElementById('keys').open"), "it is closed")


def test_what_was_chosen_is_kept(page: Browser, camvid11: LabelSet) -> None:
    page.press("d", "+", "+")
    page.driver.refresh()
    page.until(lambda: page.banner() == "", "a frame")
    shows(page, ROAD, blend(camvid11, "road", 0.6))
    shows(page, SKY, np.full(3, GRAY))


@pytest.mark.parametrize(
    ("width", "height"), [(390, 844), (844, 390), (320, 568), (568, 320), (1280, 760)]
)
def test_a_phone_upright_and_on_its_side(page: Browser, width: int, height: int) -> None:
    page.resize(width, height, mobile=width < 1000)
    time.sleep(0.5)
    boxes = page.run(
        "return Object.fromEntries(['stage', 'legend', 'pause', 'save', 'help', 'fps'].map((id) => {"
        "const b = document.getElementById(id).getBoundingClientRect();"
        "return [id, [b.left, b.top, b.right, b.bottom]]}))"
    )
    for name, (left, top, right, bottom) in boxes.items():
        assert left >= 0 and top >= 0 and right <= width + 0.5, name
        # Only the smallest screens have to scroll for the last classes of the legend.
        assert bottom <= height + 0.5 or (name == "legend" and min(width, height) < 330), name
    left, top, right, bottom = boxes["stage"]
    scale = min((right - left) / WIDTH, (bottom - top) / HEIGHT)
    assert scale * WIDTH * scale * HEIGHT > 0.17 * width * height  # the whole image, large enough
    assert page.run("return document.documentElement.scrollWidth") <= width
    drivable = page.driver.find_element("css selector", "#legend [data-group=drivable]")
    assert drivable.is_displayed()


def test_a_silent_source_is_told_and_comes_back(browser: Browser, camera: Camera) -> None:
    browser.open(camera.view.url)
    camera.running.clear()
    browser.until(lambda: browser.banner().startswith("No frame for"), "silence")
    assert browser.text("pill") == "Silent"
    camera.running.set()
    browser.until(lambda: browser.banner() == "" and browser.text("pill") == "Live", "frames")


def test_a_source_that_says_what_is_wrong(
    browser: Browser, camvid11: LabelSet, stats: RunStats
) -> None:
    status = ["camera 0 gives no frame; trying again for 3 s"]
    camera = Camera(
        PageView(camvid11, stats, Access(port=0), status=lambda: status[0]), stats, camvid11
    )
    try:
        camera.running.clear()
        browser.driver.get(camera.view.url)
        browser.until(lambda: browser.text("banner-detail") == status[0], "the reason")
        status[0] = ""
        camera.running.set()
        browser.until(lambda: browser.banner() == "", "frames")
    finally:
        camera.close()


def test_the_end_is_told_nothing_is_asked_any_more_and_it_can_come_back(
    browser: Browser, camera: Camera, camvid11: LabelSet, stats: RunStats
) -> None:
    stats.source.warnings.append("camera 0: stopped")
    browser.open(camera.view.url)
    port = urlsplit(camera.view.url).port
    camera.close()
    browser.until(lambda: browser.banner() == "The stream has ended", "the end")
    assert browser.text("banner-detail") == "camera 0: stopped" and browser.text("pill") == "Ended"
    with socket.create_server(("127.0.0.1", port or 0)) as listener:
        listener.settimeout(3)
        with pytest.raises(TimeoutError):
            listener.accept()  # no request, no WebSocket
    again = Camera(PageView(camvid11, stats, Access(port=port)), stats, camvid11)
    try:
        browser.press("r")
        browser.until(
            lambda: browser.banner() == "" and browser.text("pill") == "Live", "it is back"
        )
    finally:
        again.close()


class Cable:
    """Carries bytes between browser and page, until it is pulled."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # closed
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [near, far]
            for a, b in (near, far), (far, near):
                threading.Thread(target=self._carry, args=(a, b), daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def pull(self) -> None:
        sockets, self._sockets = self._sockets, []
        for end in sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        self._listener.close()
        self.pull()


def test_a_lost_connection_is_told_and_made_again(browser: Browser, camera: Camera) -> None:
    cable = Cable(urlsplit(camera.view.url).port or 0)
    try:
        browser.open(f"http://127.0.0.1:{cable.port}/")
        browser.run(
            "window.said = []; const pill = document.getElementById('pill');"
            "new MutationObserver(() => window.said.push(pill.textContent))"
            ".observe(pill, {childList: true})"
        )
        losses = (
            "return window.said.filter((s, i, all) => s === 'Offline' && all[i - 1] !== s).length"
        )
        cable.pull()
        browser.until(lambda: browser.run(losses) == 1, "the loss is told")
        browser.until(lambda: browser.text("pill") == "Live", "it is back")
        cable.pull()
        browser.until(lambda: browser.run(losses) == 2, "and again")
        browser.until(lambda: browser.text("pill") == "Live", "and back")
    finally:
        cable.close()


def test_a_hidden_page_costs_nothing(browser: Browser, camera: Camera) -> None:
    browser.open(camera.view.url)
    assert camera.view.watched
    tab = browser.driver.current_window_handle
    browser.driver.switch_to.new_window("tab")
    try:
        deadline = time.monotonic() + 10
        while camera.view.watched:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        browser.driver.close()
        browser.driver.switch_to.window(tab)
    browser.until(lambda: camera.view.watched, "it is shown again")


def test_names_of_classes_cannot_become_markup(browser: Browser, stats: RunStats) -> None:
    labels = LabelSet((Label(1, "<img src=x onerror=alert(1)>", (1, 2, 3)),))
    view = PageView(labels, stats, Access(port=0), facts={"<b>": "<script>alert(1)</script>"})
    everywhere = np.ones((8, 8), np.uint8)
    view.write(Frame(np.zeros((8, 8, 3), np.uint8)), masks_of(everywhere, labels))
    try:
        browser.driver.get(view.url)
        browser.until(lambda: "<img src=x" in browser.text("legend"), "its name")
        assert "<script>" in browser.text("facts")
        assert (
            browser.run("return document.querySelectorAll('#legend img, #facts script').length")
            == 0
        )
    finally:
        view.close()


@pytest.fixture
def drive(browser: Browser, tmp_path: Path, camvid11: LabelSet) -> Iterator[tuple[Browser, Player]]:
    """The page of a recording of 40 numbered frames that begins again at its end."""
    path = write_video(tmp_path / "drive.mp4", 40, size=(HEIGHT, WIDTH))
    player = Player(opener(path), loop=True)
    stats = RunStats(player)
    view = PageView(camvid11, stats, Access(port=0), player=player)

    def play() -> None:
        for frame in player:
            view.write(frame, masks_of(split_labels(camvid11), camvid11))
            stats.add({"total": 12.0})
            time.sleep(0.04)

    thread = threading.Thread(target=play)
    thread.start()
    browser.open(view.url)
    yield browser, player
    player.close()
    thread.join()
    view.close()


def number(browser: Browser) -> int:
    """The number that the frame on the screen shows, at a hidden class."""
    return round((browser.pixel(*SKY)[0] - 18) / 5)


def test_a_recording_is_paused_stepped_and_dragged(drive: tuple[Browser, Player]) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser, player = drive
    browser.run(
        "const o = document.getElementById('opacity'); o.value = 0; o.dispatchEvent(new Event('input'))"
    )
    browser.run("document.activeElement.blur()")
    browser.press(" ")
    browser.until(lambda: player.paused and browser.text("pill") == "Paused", "a pause")
    browser.press(Keys.HOME)
    browser.until(
        lambda: number(browser) == 0 and "1 / 40" in browser.text("position"), "the first"
    )
    browser.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    browser.until(lambda: number(browser) == 2, "two steps")
    browser.press(",")
    browser.until(lambda: number(browser) == 1, "one back")
    browser.press(Keys.END)
    browser.until(
        lambda: number(browser) == 39 and "40 / 40" in browser.text("position"), "the last"
    )
    line = browser.driver.find_element("id", "timeline")
    chain = ActionChains(browser.driver).move_to_element_with_offset(line, 0, 0).click_and_hold()
    chain.move_by_offset(-round(line.size["width"] / 4), 0).release().perform()
    browser.until(
        lambda: 8 <= number(browser) <= 12 and player.position == number(browser), "a quarter"
    )
    browser.run("document.activeElement.blur()")
    browser.press(" ")
    browser.until(lambda: number(browser) > 13, "it plays on from there")
    browser.until(lambda: number(browser) < 8, "and from the start again")
