"""The page at / in a browser: what it shows of boards and models, a picture's answer drawn, the camera, two widths."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pytest
import serve_place as place
from PIL import Image
from serve_front import Server

from clusteradm.node.serve.fronts import board
from clusteradm.node.spec.wire.serving import AVAILABLE, END, BoardState, EngineState, VersionState

from .test_cameras import ORANGE, jpeg
from .test_rest_v2 import INFER, given, png

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)")
EVIL = "<img src=x onerror=document.title='owned'>"


@pytest.fixture(scope="module")
def tab() -> Iterator[browser.Tab]:
    with browser.browser() as found:
        yield found


@pytest.fixture
def boards(server: Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two boards, behind one address as behind a balancer; the second is not well."""
    versions = [
        VersionState("digits", n, AVAILABLE, tpus=("cpu",), seconds=0.00263, swap_seconds=0.017) for n in (1, 2)
    ]
    versions += [VersionState("colours", 1, AVAILABLE), VersionState("digits", 3, END, EVIL)]
    engines = (
        EngineState("0000:01:00.0", "ready", simulated=True, temperature=47.4, queued=3),
        EngineState("0000:02:00.0", "failed", EVIL),
    )
    states = [
        BoardState("board-1", 4, True, tuple(versions), (EngineState(None, "ready"),)),
        BoardState("board-2", 4, False, tuple(versions), engines),
    ]

    async def state() -> BoardState:
        states.reverse()
        return states[0]

    monkeypatch.setattr(server.plane, "board", state)
    return states


def text(tab: browser.Tab, selector: str) -> str:
    return str(tab.run(f"document.querySelector('{selector}').innerText"))


def fits(tab: browser.Tab) -> bool:
    return bool(tab.run("document.documentElement.scrollWidth <= window.innerWidth"))


@pytest.mark.parametrize("width", [1200, 400])
def test_what_it_shows(server: Server, boards: Any, tab: browser.Tab, width: int, tmp_path: Path) -> None:
    tab.open(f"http://{server.url}/", width)
    tab.until("document.querySelectorAll('.board').length === 2")
    for _ in range(3):
        server.ask("POST", INFER, given())
    tab.until("parseFloat(document.querySelector('#summary').innerText) > 0")
    shown = text(tab, "#boards")
    for each in ("board-1", "board-2", "takes no new requests", "0000:01:00.0 ready", "SIMULATED", "47 °C", "3 queued"):
        assert each in shown, shown
    models = text(tab, "#models")
    assert "version 1\nstable" in models and "classifier" in models and "detector" in models
    assert "2.6 ms an inference" in models and "+ 17 ms after another model" in models
    # What a node says is text, never an element.
    assert EVIL in models and EVIL in shown and tab.run("document.title") != "owned"
    assert "2 of 3 engines ready" in text(tab, "#summary")
    assert fits(tab)
    tab.picture(tmp_path / "page.png")
    pixels = np.asarray(Image.open(tmp_path / "page.png").convert("RGB"))
    assert pixels.shape[:2] == (900, width) and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


@pytest.mark.parametrize("width", [1200, 400])
def test_a_picture_is_answered_and_drawn(server: Server, tab: browser.Tab, width: int, tmp_path: Path) -> None:
    (tmp_path / "orange.jpg").write_bytes(jpeg(320, 160))
    tab.open(f"http://{server.url}/", width)
    tab.until("document.querySelector('#model').value === 'colours'")
    tab.choose("#file", tmp_path / "orange.jpg")
    tab.until("document.querySelectorAll('#answer li').length === 3")
    assert "colours version 1 on board-1, its CPU, in " in text(tab, "#where")
    assert text(tab, "#answer li:nth-child(1)").split() == ["red", "100", "%"]
    size, data = tab.run(
        "[[canvas.width, canvas.height], [...canvas.getContext('2d').getImageData(0, 0, 320, 160).data]]"
    )
    assert size == [320, 160] and fits(tab)
    drawn = np.array(data, np.uint8).reshape(160, 320, 4)[..., :3].astype(int)
    away = np.abs(drawn - ORANGE).max(-1) > 40
    assert away[60, 159:162].any() and away[119:122, 250].any()  # the left and the lower side of the second box
    assert not away[100:115, 170:300].any()  # and what is inside it


def test_versions_errors_and_no_picture(server: Server, tab: browser.Tab, tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(png(place.drawn()))
    (tmp_path / "none.png").write_bytes(b"no picture")
    tab.open(f"http://{server.url}/", 1200)
    tab.until("document.querySelector('#model').options.length === 2")
    tab.run("model.value = 'digits', model.dispatchEvent(new Event('change'))")
    tab.run("version.value = 'stable', version.dispatchEvent(new Event('change'))")
    tab.choose("#file", tmp_path / "one.png")
    tab.until("document.querySelectorAll('#answer li').length === 5")
    assert "digits version 1 on board-1" in text(tab, "#where") and text(tab, "#answer li").split()[0] == "1"
    tab.choose("#file", tmp_path / "none.png")
    tab.until("document.querySelector('#where').innerText.includes('cannot read this as a picture')")
    tab.run("work(new Blob(['x']), document.createElement('canvas'))")
    assert "not a picture" in text(tab, "#where")


# As HAProxy answers where it asks for tokens.
GUARD = """(() => {
  const real = window.fetch;
  window.fetch = (path, options) => options.headers.Authorization === "Bearer s3cret"
    ? real(path, options) : Promise.resolve(new Response('{"error": "a token is needed"}', {status: 401}));
})()"""
KEY = "document.querySelector('#key')"


@pytest.mark.parametrize("width", [1200, 400])
def test_a_token_is_asked_for_where_one_is_needed(server: Server, tab: browser.Tab, width: int, tmp_path: Path) -> None:
    def give(token: str) -> None:
        tab.run(f"document.querySelector('#token').value = '{token}', {KEY}.requestSubmit()")

    (tmp_path / "orange.jpg").write_bytes(jpeg(320, 160))
    tab.open(f"http://{server.url}/", width)
    tab.until("document.querySelector('#model').value === 'colours'")
    assert tab.run(f"{KEY}.hidden")
    tab.run(GUARD)
    try:
        tab.until(f"!{KEY}.hidden && summary.innerText.includes('a token is needed')")
        assert fits(tab)
        give("wrong")
        tab.until("summary.innerText.includes('does not know this token')")
        give(" s3cret\\n")
        tab.until(f"{KEY}.hidden && summary.innerText.includes('board')")
        assert "s3cret" not in tab.run("document.documentElement.outerHTML + document.cookie + location.href")
        tab.choose("#file", tmp_path / "orange.jpg")
        tab.until("document.querySelectorAll('#answer li').length === 3")
    finally:
        tab.run("sessionStorage.clear()")


def test_any_name_of_a_model_has_its_rate(server: Server, tab: browser.Tab) -> None:
    tab.open(f"http://{server.url}/", 1200)
    names = ["constructor", "__proto__", "toString"]
    for name in names:
        tab.run(
            f"""(() => {{
              const version = {{name: "{name}", version: 1, state: "AVAILABLE"}};
              const state = {{host: "odd {name}", versions: [version], engines: [], balance: true, error: ""}};
              const rates = {{"{name} 1": 2}};
              boards.set(state.host, {{overview: {{state, models: []}}, seen: performance.now(), rates}});
              show(performance.now());
            }})()"""
        )
    shown = text(tab, "#models")
    assert all(f"{name}\n2.0 requests/s" in shown for name in names), shown


def test_no_name_turns_what_is_beside_it(server: Server, tab: browser.Tab) -> None:
    tab.open(f"http://{server.url}/", 1200)
    label = "\u202ecat"  # which would show 92 % as % 29
    result = {"objects": [{"class": 1, "label": label, "score": 0.92, "box": [0, 0, 9, 9]}], "size": [10, 10]}
    found = {"model_name": "m", "model_version": "1", "parameters": {"board": "b", "tpu": "cpu", "result": result}}
    tab.run(
        f"""(async () => {{
          window.drawn = [];
          const real = CanvasRenderingContext2D.prototype.fillText;
          CanvasRenderingContext2D.prototype.fillText = function (text, ...more) {{
            drawn.push(text);
            real.call(this, text, ...more);
          }};
          const blank = document.createElement("canvas");
          await draw(blank, {json.dumps(result)});
          tell({json.dumps(found)}, 1);
        }})()"""
    )
    assert tab.run("drawn") == ["\\u202ecat 92 %"]
    assert tab.run("document.querySelector('#answer .name').textContent") == "\\u202ecat"
    assert tab.run("element('span', 'a\\u2067b').textContent") == "a\\u2067b"


def test_a_picture_may_be_dropped_anywhere(server: Server, tab: browser.Tab) -> None:
    tab.open(f"http://{server.url}/", 1200)
    tab.until("document.querySelector('#model').value === 'colours'")
    data = base64.b64encode(jpeg(320, 160)).decode()
    tab.run(
        f"""(() => {{
          const all = new DataTransfer(), bytes = Uint8Array.from(atob("{data}"), each => each.charCodeAt(0));
          all.items.add(new File([bytes], "orange.jpg", {{type: "image/jpeg"}}));
          document.querySelector("#boards").dispatchEvent(
            new DragEvent("drop", {{dataTransfer: all, bubbles: true, cancelable: true}}));
        }})()"""
    )
    tab.until("document.querySelectorAll('#answer li').length === 3")


def test_masks_and_poses_are_drawn(server: Server, tab: browser.Tab) -> None:
    file = io.BytesIO()
    classes = np.zeros((40, 40), np.uint8)
    classes[:, 20:] = 7
    Image.fromarray(classes).save(file, "PNG")
    mask = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    points = [{"name": "nose", "x": 10 + n, "y": 20, "score": 0.9 if n in (5, 7) else 0.1} for n in range(17)]
    points[5].update(x=5), points[7].update(x=35)
    tab.open(f"http://{server.url}/", 1200)
    pixels = """(() => [...canvas.getContext('2d').getImageData(0, 0, 40, 40).data])()"""
    blank = "(() => { const c = document.createElement('canvas'); c.width = c.height = 40; return c; })()"
    tab.run(f"draw({blank}, {json.dumps({'size': [40, 40], 'map': {'file': mask}, 'segments': []})})")
    drawn = np.array(tab.run(pixels)).reshape(40, 40, 4)
    assert (drawn[:, :20, 3] == 0).all() and (drawn[:, 20:, 3] == 140).all()
    tab.run(f"draw({blank}, {json.dumps({'size': [40, 40], 'poses': [{'score': 0.8, 'keypoints': points}]})})")
    drawn = np.array(tab.run(pixels)).reshape(40, 40, 4)
    assert (drawn[20, 8:33, 3] > 200).all()  # the bone between two points that are seen
    assert (drawn[:15, :, 3] == 0).all() and (drawn[26:, :, 3] == 0).all()


def test_the_camera(server: Server, tab: browser.Tab) -> None:
    tab.open(f"http://{server.url}/", 400)
    tab.until("document.querySelector('#model').value === 'colours'")
    tab.run("camera.click()")
    tab.until("document.querySelectorAll('#answer li').length === 3 && canvas.width > 100")
    before = text(tab, "#where")
    tab.until(f"document.querySelector('#where').innerText !== {before!r}")
    tab.run("camera.click()")
    assert tab.run("stream === null && camera.getAttribute('aria-pressed') === 'false'") and fits(tab)


def test_it_is_one_file_that_needs_nothing_else(server: Server) -> None:
    got = server.ask("GET", "/")
    assert got.status == 200 and got.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in got.headers["content-security-policy"]
    page = got.body.decode()
    assert "http://" not in page and "https://" not in page and " src=" not in page and page.count("<script") == 1
    assert got.body == Path(board._PAGE).read_bytes()
