"""The page as a browser shows and prints it: Debian's chromium, where it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy
import pytest
from PIL import Image

from clusteradm.cli.health_forms.html import html

from .test_forms import in_racks, load

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html(in_racks(load())), encoding="utf-8")
    return path


def chromium(page: Path, *options: str) -> str:
    profile = page.parent / "profile"
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", f"--user-data-dir={profile}", *options, page.as_uri()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=page.parent)
    finally:
        shutil.rmtree(profile, ignore_errors=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_a_browser_makes_of_it(page: Path) -> None:
    """Every row is in its table, and no name of a host became an element."""
    shown = chromium(page, "--dump-dom")
    tables = dict(re.findall(r'<table id="(\w+)">(.*?)</table>', shown, re.DOTALL))
    assert {name: body.count("<tr>") - 1 for name, body in tables.items()} == {"matrix": 10, "tpus": 9}
    assert shown.count('<ul class="rack">') == 3 and len(re.findall(r"<li ", shown)) == 10
    assert len(re.findall(r"<details id=", shown)) == 10 and shown.count("<details open") + shown.count(" open") >= 1
    assert "<script" not in shown and "&lt;script&gt;" in shown


def test_how_it_looks(page: Path) -> None:
    """The page is as wide as the window and not empty, and errors are red."""
    options = ("--window-size=1200,900", "--hide-scrollbars", "--run-all-compositor-stages-before-draw")
    chromium(page, *options, "--virtual-time-budget=5000", f"--screenshot={page.parent / 'page.png'}")
    picture = Image.open(page.parent / "page.png").convert("RGB")
    assert picture.size == (1200, 900)
    pixels = numpy.asarray(picture, dtype=int)
    red = (pixels[..., 0] > 180) & (pixels[..., 1] < 90) & (pixels[..., 2] < 100)
    assert red.sum() > 300 and numpy.median(pixels) > 200 and pixels[:, 1100].min() < 250


def test_it_fits_a_window_and_a_telephone(page: Path) -> None:
    """At no width is the page wider than its window: what is wide scrolls by itself. Chromium's window has a least
    width, so that a frame stands for it, and a script around it measures."""
    text = page.read_text(encoding="utf-8").replace("&", "&amp;").replace('"', "&quot;")
    around = page.with_name("around.html")
    frames = "".join(
        f'<iframe srcdoc="{text}" style="border:0;height:900px;width:{width}px"></iframe>' for width in (1200, 400)
    )
    page_of = "one.contentDocument.documentElement"
    script = f"""onload = () => document.body.append([...document.querySelectorAll("iframe")].map(
        one => {page_of}.scrollWidth - {page_of}.clientWidth).join(" "))"""
    around.write_text(f"<!DOCTYPE html><body>{frames}<script>{script}</script>", encoding="utf-8")
    shown = chromium(around, "--virtual-time-budget=5000", "--dump-dom")
    assert shown.rpartition("</script>")[2].split("<")[0].strip() == "0 0"


def test_on_paper(page: Path) -> None:
    chromium(page, "--no-pdf-header-footer", f"--print-to-pdf={page.parent / 'page.pdf'}")
    printed = (page.parent / "page.pdf").read_bytes()
    pages = len(re.findall(rb"/Type\s*/Page\b", printed))
    assert printed.startswith(b"%PDF") and 2 <= pages <= 6
