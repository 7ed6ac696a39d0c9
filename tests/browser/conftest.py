"""A real browser: Debian's Chromium, headless, driven by Selenium."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.streams.base import Recording
from deeplab_rt.streams.page import Access, PageView
from deeplab_rt.streams.stats import RunStats

HEIGHT, WIDTH = 96, 128


class Browser:
    """One tab of Chromium, and what it shows."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def run(self, script: str, *arguments: Any) -> Any:
        """What a piece of JavaScript returns."""
        return self.driver.execute_script(script, *arguments)

    def open(self, url: str) -> None:
        """A page, with its first frame on the screen."""
        self.driver.get_log("browser")
        self.driver.get(url)
        self.until(lambda: self.banner() == "", "the first frame")

    def pixel(self, x: float, y: float) -> tuple[int, int, int]:
        """RGB at a place of the canvas, 0 to 1 of its sides."""
        return tuple(
            self.run(
                "const c = document.getElementById('view');"
                "return [...c.getContext('2d').getImageData(arguments[0] * c.width, "
                "arguments[1] * c.height, 1, 1).data].slice(0, 3)",
                x,
                y,
            )
        )

    def text(self, element: str) -> str:
        return str(self.driver.find_element("id", element).text)

    def banner(self) -> str:
        return self.text("banner-text")

    def click(self, selector: str) -> None:
        self.driver.find_element("css selector", selector).click()

    def press(self, *keys: str) -> None:
        """Keys, as the person at the keyboard presses them."""
        from selenium.webdriver.common.action_chains import ActionChains

        chain = ActionChains(self.driver)
        for key in keys:
            chain.send_keys(key)
        chain.perform()

    def point(self, x: float, y: float) -> None:
        """Move the pointer over the canvas element, to 0 to 1 of its sides."""
        from selenium.webdriver.common.action_chains import ActionChains

        view = self.driver.find_element("id", "view")
        size = view.size
        offset = round((x - 0.5) * size["width"]), round((y - 0.5) * size["height"])
        ActionChains(self.driver).move_to_element_with_offset(view, *offset).perform()

    def resize(self, width: int, height: int, mobile: bool = False) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile},
        )

    def until(self, condition: Callable[[], Any], what: str, seconds: float = 20) -> Any:
        """Wait for something on the page."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, f"{what}; the page says {self.text('pill')!r}"
            time.sleep(0.05)
        return found

    def errors(self) -> list[str]:
        """What the page complained of since it was opened."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE" and "WebSocket connection" not in entry["message"]
        ]


@pytest.fixture(scope="session")
def _driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("no Chromium here (Debian: apt install chromium chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(chromedriver))
    yield driver
    driver.quit()


@pytest.fixture
def browser(_driver: Any, tmp_path: Path) -> Iterator[Browser]:
    browser = Browser(_driver)
    browser.resize(1280, 760)
    parameters = {"behavior": "allow", "downloadPath": str(tmp_path)}
    _driver.execute_cdp_cmd("Browser.setDownloadBehavior", parameters)
    yield browser
    errors = browser.errors()
    _driver.get("about:blank")
    assert errors == [], json.dumps(errors, indent=1)


def split_labels(labels: LabelSet) -> np.ndarray:
    """uint8 [96, 128]: sky above, road below, a vehicle in the middle of the road."""
    label_map = np.full((HEIGHT, WIDTH), labels.index("road") + 1, np.uint8)
    label_map[: HEIGHT // 2] = labels.index("sky") + 1
    label_map[60:84, 48:80] = labels.index("vehicle") + 1
    return label_map


def masks_of(label_map: np.ndarray, labels: LabelSet) -> Masks:
    confidence = np.full(label_map.shape, 204, np.uint8)  # 80 %
    drivable, objects = labels.drivable_lut[label_map], labels.objects_lut[label_map]
    return Masks(label_map, drivable, objects, confidence, {"total": 12.0})


class Camera:
    """Writes gray frames to a page, as a stream's thread does, until it is stopped."""

    def __init__(self, view: PageView, stats: RunStats, labels: LabelSet) -> None:
        self.view = view
        self.gray: int | None = None  # of all frames; None for another one each time
        self.running = threading.Event()
        self.running.set()
        self._masks = masks_of(split_labels(labels), labels)
        self._stats = stats
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        index = 0
        while not self._done.wait(0.03):
            if not self.running.is_set():
                continue
            gray = 40 + index * 37 % 160 if self.gray is None else self.gray
            image = np.full((HEIGHT, WIDTH, 3), gray, np.uint8)
            self.view.write(Frame(image, index), self._masks)
            self._stats.add({"total": 12.0})
            index += 1

    def close(self) -> None:
        self._done.set()
        self._thread.join()
        self.view.close()


@pytest.fixture
def stats() -> RunStats:
    source = Recording("front camera", None, 30.0)
    source.live = True
    return RunStats(source)  # type: ignore[arg-type]


@pytest.fixture
def camera(camvid11: LabelSet, stats: RunStats) -> Iterator[Camera]:
    camera = Camera(PageView(camvid11, stats, Access(port=0)), stats, camvid11)
    yield camera
    camera.close()
