"""Reports: self-contained pages that a browser shows, and an index over them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from deeplab_rt.commands import main
from deeplab_rt.models import Model
from deeplab_rt.streams.report.page import write_index
from tests.unit.streams.media import write_video


class Page(HTMLParser):
    """What a page refers to, its images, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.references: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "br", "path", "use", "link"):
            self.open.append(tag)
        self.references += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def program(palette_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    return ["replay", "--model", str(palette_model.directory), "--backend", "cpu"]


def test_a_page_for_each_drive_and_an_index(program: list[str], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b <i>"):
        write_video(tmp_path / "in" / f"{name}.mp4", 30)
    arguments = [*program, "in", "--out-dir", "out", "--report", "rep", "--every", "2"]
    assert main(arguments) == 0
    assert {path.name for path in Path("rep").iterdir()} == {"a.html", "b <i>.html", "index.html"}
    page = Page(Path("rep/a.html"))
    assert page.open == []
    for words in ("15 frames in 0:01.1", "drivable", "Contact sheet", "Least confident", "every 2"):
        assert words in " ".join(page.text.split()), words
    images = [ref for ref in page.references if ref.startswith("data:image/jpeg;base64,")]
    assert len(images) - 12 in (3, 6)  # the contact sheet; one or two frames a second apart
    index = Page(Path("rep/index.html"))
    links = {ref for ref in index.references if not ref.startswith("data:")}
    assert links == {"a.html", "b%20%3Ci%3E.html"} and "2 drives" in index.text
    for path in Path("rep").iterdir():
        text = path.read_text()
        # Offline: nothing is fetched; what matplotlib names are XML namespaces.
        outside = set(re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(https?:[^"')]*)""", text))
        assert outside == set() and "<i>.mp4" not in text
    # What is done is not measured again, and the index stays.
    before = Path("rep/a.html").read_bytes()
    assert main(arguments) == 0 and Path("rep/a.html").read_bytes() == before


def test_plots_are_drawn_and_images_decode(program: list[str], tmp_path: Path) -> None:
    import base64

    write_video(tmp_path / "a.mp4", 20)
    assert main([*program, "a.mp4", "--report", "rep"]) == 0
    text = Path("rep/a.html").read_text()
    plots = re.findall(r"<svg .*?</svg>", text, re.DOTALL)
    titles = re.findall(r"<h3>(.*?)</h3>", text)
    assert titles == ["Drivable area", "Objects", "Flicker", "Confidence", "Latency", "Rate"] or (
        titles == ["Drivable area", "Flicker", "Confidence", "Latency", "Rate"]
    )
    assert len(plots) == len(titles)
    for plot in plots:
        assert ElementTree.fromstring(plot).get("viewBox")
    for data in re.findall(r"data:image/jpeg;base64,([^\"]*)", text):
        image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert image is not None and image.shape[1] <= 640


def test_a_report_that_exists_is_not_replaced(
    program: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "a.mp4", 5)
    assert main([*program, "a.mp4", "--report", "rep"]) == 0
    assert main([*program, "a.mp4", "--report", "rep"]) == 1
    assert "rep/a.html: exists already" in capsys.readouterr().err
    assert main([*program, "a.mp4", "--report", "rep", "--overwrite"]) == 0


def test_an_index_knows_reports_only(tmp_path: Path) -> None:
    (tmp_path / "other.html").write_text("<html>mine</html>")
    bad = '<script type="application/json" id="summary">{"x": 1}</script>'
    (tmp_path / "bad.html").write_text(bad)
    assert write_index(tmp_path) is None and not (tmp_path / "index.html").exists()
