"""The curl lines of docs/serve.md, run as they are but for the head's address."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import serve_place as place
from serve_front import Server

from .test_cameras import jpeg
from .test_rest_v2 import png

PAGE = Path(__file__).resolve().parents[3] / "docs/serve.md"
# test_docs_servables.py has those of this section.
TEXT = re.sub(r"\n## Servables of other kinds\n.*?\n## ", "\n## ", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
BLOCKS = re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
# A block that sets a variable is one script.
SCRIPTS = [script for block in BLOCKS for script in ([block] if block.startswith("head=") else block.splitlines())]
LINES = [script for script in SCRIPTS if "curl" in script]


def test_there_are_lines_to_run() -> None:
    assert len(LINES) >= 12


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("line", LINES)
def test_a_curl_line_of_the_page(server: Server, tmp_path: Path, line: str) -> None:
    (tmp_path / "digit.png").write_bytes(png(place.drawn()))
    (tmp_path / "street.jpg").write_bytes(jpeg())
    script = re.sub(r"http://head(:8000)?/", f"http://{server.url}/", line)
    assert script != line
    start = 'set -euo pipefail; curl() { command curl -sS --fail-with-body "$@"; }\n'
    done = subprocess.run(["bash", "-c", start + script], cwd=tmp_path, capture_output=True, timeout=120)
    assert done.returncode == 0, done
    answer = json.loads(done.stdout)
    if "digit.png" in line:
        assert '"1"' in done.stdout.decode()  # the name of its class
    if "street.jpg" in line:
        assert (answer.get("predictions") or answer.get("detections"))[0]["label"] == "red"
