"""The servables of docs/serve.md, as they are written there, and the curl lines that ask them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made_models
import pytest
import servable_definitions as definitions
import serve_front
import serve_place as place

from clusteradm.node.spec.wire.manifest import MANIFEST

from .test_docs_curl import PAGE

SECTION = PAGE.read_text(encoding="utf-8").partition("\n## Servables of other kinds\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"^```(\w+)\n(# (\S+)\n)?(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
FILES = {name: text for _, _, name, text in BLOCKS if name}
LINES = [line for kind, _, _, text in BLOCKS if kind == "sh" for line in text.splitlines()]
SAID = {
    ("words", "predict"): {"predictions": [9, 7, 0]},
    ("passenger", "predict"): {
        "predictions": [{"features": [1, 0, 1, 0, 0.5, 0.5], "input": [148, 128, 148, 128, 138, 138]}]
    },
    ("spell", "predict"): {"predictions": ["c-o-r-a-l"]},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[serve_front.Server]:
    folder = tmp_path_factory.mktemp("page")
    made = "\n".join(line for line in LINES if line.startswith(("printf 'word", "python3 -c")))
    subprocess.run(["bash", "-ec", made], cwd=folder, check=True)
    shared = tmp_path_factory.mktemp("place") / "shared"
    shared.mkdir()
    (folder / "objects.tflite").write_bytes(made_models.colours(320))
    (folder / "breeds.tflite").write_bytes(definitions.shades(224))
    (folder / "labels.txt").write_text("red\ngreen\nblue\n")
    objects = place.deploy(shared, "objects", 1, folder / "objects.tflite", folder / "labels.txt")
    place.deploy(shared, "breeds", 1, folder / "breeds.tflite", folder / "labels.txt")
    # The input's name is that of the model of the test.
    (name,) = (each["name"] for each in json.loads((objects / MANIFEST).read_text())["inputs"])
    street = FILES["street.yml"].replace("normalized_input_image_tensor", json.dumps(name)).replace("{input:", "{in:")
    arrays = {"ports_npy": (folder / "ports.npy").read_bytes()}
    place.define(shared, "words", FILES["words.yml"], words_csv=(folder / "words.csv").read_bytes())
    place.define(shared, "passenger", FILES["passenger.yml"], **arrays)
    place.define(shared, "spell", FILES["spell.yml"])
    place.define(shared, "street", street)
    packages = folder / "packages"
    (packages / "spelling").mkdir(parents=True)
    (packages / "spelling" / "__init__.py").write_text(FILES["spelling/__init__.py"])
    (packages / "spelling-1.0.dist-info").mkdir()
    group = FILES["pyproject.toml"].partition('[project.entry-points."clusteradm.servables"]\n')[2]
    entry = f"[clusteradm.servables]\n{group.replace(chr(34), '')}"
    (packages / "spelling-1.0.dist-info" / "entry_points.txt").write_text(entry)
    names = ("objects", "breeds", "words", "passenger", "spell", "street")
    plane = place.plane(shared, {name: [1] for name in names}, packages=packages, objects={"stable": 1})
    with serve_front.serving(plane, tmp_path_factory.mktemp("front")) as found:
        yield found


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("line", [line for line in LINES if "curl" in line])
def test_a_curl_line_of_the_section(server: serve_front.Server, tmp_path: Path, line: str) -> None:
    (tmp_path / "street.jpg").write_bytes(definitions.picture(size=400))
    script = re.sub(r"http://head(:8000)?/", f"http://{server.url}/", line)
    assert script != line
    start = 'set -euo pipefail; curl() { command curl -sS --fail-with-body "$@"; }\n'
    done = subprocess.run(["bash", "-c", start + script], cwd=tmp_path, capture_output=True, timeout=120)
    assert done.returncode == 0, done
    answer: Any = json.loads(done.stdout)
    (name, verb) = re.findall(r"/models/(\w+)[:/](\w+)", line)[0]
    if (name, verb) in SAID:
        assert answer == SAID[name, verb]
    elif name == "street":
        assert answer["outputs"]["kinds"] == ["red", "red"]
    else:
        assert answer["outputs"][0]["data"] == [9]
