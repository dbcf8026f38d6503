"""A browser in tests: Debian's chromium without a window, driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium")
_SECONDS = 120.0


class Tab:
    """One page. Every method waits for the browser's answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._loop, self._socket, self._number = loop, socket, 0

    def send(self, method: str, **parameters: Any) -> Any:
        """A command of the protocol."""
        return self._loop.run_until_complete(asyncio.wait_for(self._send(method, parameters), _SECONDS))

    async def _send(self, method: str, parameters: dict[str, Any]) -> Any:
        self._number += 1
        await self._socket.send_str(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(await self._socket.receive_str())
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                return answer["result"]

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        done = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def until(self, script: str) -> Any:
        """Wait for an expression to be true."""
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end:
            found = self.run(script)
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError(f"never true: {script}\n{self.run('document.body.innerText')}")

    def open(self, url: str, width: int, height: int = 900) -> None:
        """Go to a page, in a window of this size."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.send("Page.navigate", url=url)
        self.until(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def choose(self, selector: str, path: Path) -> None:
        """Give a file to an input."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def picture(self, path: Path) -> None:
        """A screenshot, as PNG."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))


@contextlib.contextmanager
def browser() -> Iterator[Tab]:
    """A browser with a camera that films a test picture."""
    profile = tempfile.mkdtemp(prefix="chromium-")
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--remote-debugging-port=0",
    ]
    command += ["--disable-background-networking", f"--user-data-dir={profile}", "--use-fake-ui-for-media-stream"]
    command += ["--use-fake-device-for-media-stream", "about:blank"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    loop = asyncio.new_event_loop()
    try:
        address = next(found for found in (re.search(r"ws://([^/]+)/", line) for line in process.stderr) if found)
        threading.Thread(target=process.stderr.read, daemon=True).start()  # it goes on to write there
        session, socket = loop.run_until_complete(_connect(address.group(1)))
        yield Tab(loop, socket)
        loop.run_until_complete(socket.close())
        loop.run_until_complete(session.close())
    finally:
        process.terminate()
        process.wait(60)
        loop.close()
        shutil.rmtree(profile, ignore_errors=True)


async def _connect(address: str) -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
    session = aiohttp.ClientSession()
    async with session.get(f"http://{address}/json/list") as answer:
        pages = await answer.json(content_type=None)
    page = next(each for each in pages if each["type"] == "page")
    return session, await session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=1 << 26)
