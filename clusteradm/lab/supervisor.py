"""Process that runs a lab: `python -m clusteradm.lab.supervisor NAME`, started by `lab up` in namespaces of its own.

It makes the networks, serves packages and wheels, keeps the boards and their Edge TPUs running, and answers on the
lab's control socket: one JSON request and one JSON reply per connection.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from clusteradm.lab import faults, net
from clusteradm.lab.cgroup import Groups
from clusteradm.lab.machine import LabError, run
from clusteradm.lab.plan import Places, Plan
from clusteradm.lab.topology import SERVICES, Board
from clusteradm.lab.virtual_board import VirtualBoard


class Supervisor:
    """The networks, the web server, the boards and the control socket of one lab."""

    def __init__(self, places: Places, plan: Plan, groups: Groups) -> None:
        self.places = places
        self.plan = plan
        self.groups = groups
        self.boards: dict[str, VirtualBoard] = {}
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Bring everything up and serve requests until the lab is ended from outside."""
        _private_mounts()
        net.make()
        web = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "http.server", "80", "--bind", SERVICES, "--directory", str(self.places.web)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        for board in self.plan.boards:
            self.boards[board.name] = self._virtual(board)
        self.places.control.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._answer, path=str(self.places.control))
        self.places.control.chmod(0o600)
        for started in self.boards.values():
            started.start()
        keeper = asyncio.create_task(self._keep_parts())
        async with server:
            code = await web.wait()
        keeper.cancel()
        raise LabError(f"the lab's web server ended (exit {code})")

    async def _keep_parts(self) -> None:
        """Mark the lab's cached parts as used while it runs: the cache removes unused ones (cache.KEEP_DAYS)."""
        while True:
            for place in self.plan.parts:
                os.utime(place)
            await asyncio.sleep(86400)

    def _virtual(self, board: Board) -> VirtualBoard:
        group = self.groups.board(board.name)
        memory_limit = self.plan.memory * 1024 * 1024
        folder = self.places.board(board.name)
        return VirtualBoard(board, folder, self.plan.lower_of(board), group, memory_limit, self._changed.set)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(await reader.readline())
            try:
                reply = await self._do(request)
            except (LabError, OSError, KeyError) as error:
                reply = {"error": str(error)}
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        except (ValueError, ConnectionError):
            pass  # the client is gone, or sent no request
        finally:
            writer.close()

    async def _do(self, request: dict[str, Any]) -> dict[str, Any]:
        what = request["do"]
        if what == "status":
            return self._status()
        if what == "wait":
            # Long poll: answered when the state differs from the one that the client knows.
            if request["known"] == self._status():
                self._changed.clear()
                await asyncio.wait([asyncio.ensure_future(self._changed.wait())], timeout=2.0)
            return self._status()
        if what == "start":
            for each in self.boards.values():
                if "power" not in each.faults:
                    each.start()
            return self._status()
        board = self.boards[request["node"]]
        if what == "fault":
            await faults.do(board, request["kind"], request["tpus"])
        elif what == "restore":
            await faults.restore(board)
        return self._status()

    def _status(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "nodes": {
                name: {
                    "state": board.state,
                    "fault": ", ".join(faults.describe(board)),
                    "tpus": [tpu.number for tpu in board.spec.tpus],
                    "boots": board.boots,
                    "leader": board.leader,
                }
                for name, board in self.boards.items()
            },
        }


def _private_mounts() -> None:
    """Give this lab its own copy of run-time files that labs would share by name."""
    for place in ("/run/netns", "/run/systemd/nspawn"):
        Path(place).mkdir(parents=True, exist_ok=True)
        run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", place])
        # What is unmounted here is unmounted in the boards' mount namespaces, too.
        run(["mount", "--make-shared", place])
    # This copy of another lab's namespace file would keep that namespace alive.
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        if line.split()[2] == "nsfs":
            run(["umount", "--lazy", line.split()[1]], check=False)


def main(argv: list[str]) -> None:
    places = Places(argv[0])
    plan = places.read_plan()
    if plan is None:
        raise SystemExit(f"there is no lab {places.name}")
    groups = Groups.of(places.name)
    groups.enter()
    os.chdir("/")
    asyncio.run(Supervisor(places, plan, groups).run())


if __name__ == "__main__":
    main(sys.argv[1:])
