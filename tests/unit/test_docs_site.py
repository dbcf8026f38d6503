"""The documentation as a site: built in strict mode, with nothing that a browser loads from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason='mkdocs is not installed (the extra "docs")')
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_and_picture_is_there(site: Path) -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} | {
        "index",
        "contributing",
        "changelog",
        "vulnerabilities",
    }
    assert pages <= {path.stem for path in site.glob("*.html")}
    pictures = {path.name for path in (ROOT / "docs/pictures").iterdir()}
    assert pictures <= {path.name for path in (site / "pictures").iterdir()}
    assert list(site.rglob("*.py")) == []


def test_a_page_loads_nothing_from_elsewhere(site: Path) -> None:
    loads = r"<(?:script|img|iframe)[^>]+src=[\"']?(https?:[^\"' >]+)|<link[^>]+href=[\"']?(https?:[^\"' >]+)"
    found = {match for page in site.glob("*.html") for match in re.findall(loads, page.read_text(encoding="utf-8"))}
    assert found == set()


def test_diagrams_are_left_to_mermaid(site: Path) -> None:
    text = (site / "design.html").read_text(encoding="utf-8")
    assert text.count('<pre class="mermaid">') == (ROOT / "docs/design.md").read_text().count("```mermaid") >= 5
