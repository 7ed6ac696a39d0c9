"""Reports of drives in a real browser: on a desk, on a phone, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deeplab_rt.commands import main
from deeplab_rt.models import Model
from tests.unit.streams.media import write_video


@pytest.mark.parametrize("width", [390, 1280])
def test_a_report_fits_its_window_and_needs_nothing_else(
    browser: Any, palette_model: Model, tmp_path: Path, width: int
) -> None:
    write_video(tmp_path / "a_long_name_of_a_recording_2026_11_30-12_00_00.mp4", 40)
    model = ["--model", str(palette_model.directory), "--backend", "cpu"]
    recording = str(next(tmp_path.glob("*.mp4")))
    assert main(["replay", *model, recording, "--report", str(tmp_path / "rep")]) == 0
    driver = browser.driver
    # Headless Chromium has a narrowest window; the size of a phone is set by its tools.
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for page in sorted((tmp_path / "rep").glob("*.html")):
            driver.get(page.as_uri())
            assert browser.run("return document.documentElement.scrollWidth") <= width
            images = browser.run("return [...document.images].map(i => i.naturalWidth)")
            assert images and min(images) > 0
            fetched = "return performance.getEntriesByType('resource').map(r => r.name)"
            assert [url for url in browser.run(fetched) if not url.startswith("data:")] == []
            plots = browser.run(
                "return [...document.querySelectorAll('svg')].map(s => s.clientWidth)"
            )
            assert all(100 < plot <= width for plot in plots)
            assert bool(plots) == (page.name != "index.html")
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
