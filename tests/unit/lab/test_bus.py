"""Who writes a number to a file of the bus is heard; in the order of writing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path

from clusteradm.lab.bus import Listener
from clusteradm.lab.machine import LabError


def test_requests_are_heard_in_their_order_and_nothing_else_is(tmp_path: Path) -> None:
    remove, rescan = tmp_path / "remove", tmp_path / "rescan"
    heard: list[str] = []

    def say(word: str) -> Callable[[], Coroutine[None, None, None]]:
        async def action() -> None:
            heard.append(word)
            if word == "removed":
                raise LabError("does not end it")

        return action

    async def scene() -> None:
        for path in (remove, rescan):
            path.touch()
        bus = Listener()
        bus.hear(remove, say("removed"))
        bus.hear(rescan, say("rescanned"))
        for path, text in ((remove, "0\n"), (remove, "1\n"), (rescan, "1\n"), (rescan, "please\n"), (remove, "1")):
            path.write_text(text)
            await asyncio.sleep(0.05)
        remove.unlink()
        await asyncio.sleep(0.05)
        remove.write_text("1\n")  # another file of that name
        await asyncio.sleep(0.05)
        bus.close()

    asyncio.run(scene())
    assert heard == ["removed", "rescanned", "removed"]
    assert rescan.read_text() == "please\n"
