"""A virtual cluster on this machine: started, used, faulted, ended."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from clusteradm import atomic
from clusteradm.errors import UsageError
from clusteradm.lab import access, disk, image
from clusteradm.lab import plan as plans
from clusteradm.lab.cache import Cache, Say, default_root
from clusteradm.lab.cgroup import Groups
from clusteradm.lab.fault_kinds import FAULTS
from clusteradm.lab.machine import LabError, make_room, require, require_to_boot, run
from clusteradm.lab.plan import DEFAULT_MEMORY, DEFAULT_NAME, Places, Plan
from clusteradm.lab.suites import DEFAULT, SUITES


def _silent(text: str) -> None:
    pass


class Lab:
    """The lab `name`, whether it is up or not. Methods raise UsageError and LabError. `say` gets lines of progress."""

    def __init__(self, name: str = DEFAULT_NAME, say: Say = _silent) -> None:
        self.places = Places(name)
        self.say = say

    @property
    def name(self) -> str:
        return self.places.name

    @property
    def inventory(self) -> Path:
        return self.places.inventory

    # ---- up and down ----

    def up(
        self,
        nodes: int = 4,
        tpus: int = 1,
        suites: Sequence[str] = (DEFAULT,),
        *,
        memory: int = DEFAULT_MEMORY,
        python: str = "",
        networks: Sequence[str] = (),
        usb: int = 0,
        within: float = 120.0,
    ) -> None:
        """Start the lab, or complete one that is partly up; returns when every board has booted.

        `suites` and `networks`: the boards' Debian releases and network tools, in turn (see topology.boards); `memory`:
        MiB of each board; `usb`: USB Accelerators of each; `python`: the inventory's ansible_python_interpreter;
        `within`: seconds to boot.
        """
        wanted = Plan(nodes, tpus, tuple(suites), memory, python, tuple(networks), usb=usb)
        wanted.check()
        require_to_boot()
        with self._lock():
            plan = self.places.read_plan()
            if plan is not None and plan.wanted != wanted.wanted:
                raise UsageError(
                    f'the lab "{self.name}" is another one: {plan.describe()}',
                    next_step=f"end it first with: clusteradm lab down{self._option()}",
                )
            if plan is None:
                plan = self._prepare(wanted)
            self._start(plan, within)

    def down(self) -> bool:
        """End the lab: every process it started, its networks, its boards' disks. False if there was none."""
        require()
        with self._lock():
            groups = Groups.of(self.name)
            if not self.places.root.exists() and not groups.path.exists():
                return False
            groups.end()
            self._unmount_namespace()
            shutil.rmtree(self.places.root, ignore_errors=True)
            if self.places.root.exists():
                raise LabError(f"{self.places.root} cannot be removed", next_step="see what uses it: fuser -vm on it")
            return True

    def _prepare(self, wanted: Plan) -> Plan:
        cache = Cache(default_root())
        kinds: dict[str, set[str]] = {}
        for board in wanted.boards:
            kinds.setdefault(board.suite, set()).add(board.network)
        built = {suite: image.build(SUITES[suite], cache, self.say, networks) for suite, networks in kinds.items()}
        web = {path: place for one in built.values() for path, place in one.web.items()}
        plan = dataclasses.replace(
            wanted,
            lower=tuple(
                (suite, network, tuple(map(str, layers)))
                for suite, one in built.items()
                for network, layers in one.lower.items()
            ),
            web=tuple((path, str(place)) for path, place in web.items()),
            wheels=tuple(str(one.wheels) for one in built.values()),
        )
        # Left by a lab that was killed before it had a plan: nothing in it is of use.
        shutil.rmtree(self.places.root, ignore_errors=True)
        self.places.root.mkdir(parents=True)
        self.places.root.chmod(0o711)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab {self.name}", "-f", str(self.places.key)])
        authorized = self.places.key.with_suffix(".pub").read_text(encoding="ascii")
        keys = {}
        for board in plan.boards:
            folder = self.places.board(board.name)
            disk.make(folder / "upper", plan.lower_of(board)[-1], board, authorized, cache.root / "hostkeys")
            (folder / "shared").mkdir()
            keys[board] = disk.public_keys(folder / "upper")
        wheels = self.places.web / image.WHEELS
        wheels.mkdir(parents=True)
        for path, place in plan.web:
            (self.places.web / path).symlink_to(place)
        for wheel in {wheel.name: wheel for place in plan.wheels for wheel in Path(place).iterdir()}.values():
            (wheels / wheel.name).symlink_to(wheel)
        atomic.write(self.places.known_hosts, access.known_hosts(keys))
        atomic.write(self.places.ssh_config, access.ssh_config(self.places, plan))
        atomic.write(self.places.inventory, access.inventory(self.places, plan))
        self.places.write_plan(plan)
        return plan

    def _start(self, plan: Plan, within: float) -> None:
        """Start the supervisor, or have the running one start boards that are off; wait for the boards."""
        start = time.monotonic()
        groups = Groups.of(self.name)
        try:
            before = self._ask("start")
        except LabError:
            groups.end()  # boards whose supervisor was killed, if there are any
            self.say(f"starting {plan.nodes} board{'s' if plan.nodes > 1 else ''}")
            make_room()
            self._launch(groups)
            before = self.status()
        self._mount_namespace(before["pid"])
        up = [name for name, node in before["nodes"].items() if node["state"] == "running"]
        if len(up) == plan.nodes:
            self.say(f'the lab "{self.name}" is already up: {plan.describe()}')
            return
        self._wait(set(up), within)
        self.say(f"{plan.describe()}: up after {time.monotonic() - start:.1f} s")

    def _launch(self, groups: Groups) -> None:
        with self.places.log.open("ab") as log:
            process = subprocess.Popen(
                [
                    *groups.launcher(),
                    *("unshare", "--net", "--mount", "--propagation", "private"),
                    *(sys.executable, "-m", "clusteradm.lab.supervisor", self.name),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(LabError):
                self.status()
                return
            if process.poll() is not None or time.monotonic() > deadline:
                tail = self.places.log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
                raise LabError("the lab's supervisor did not start\n  " + "\n  ".join(tail), where=str(self.places.log))
            time.sleep(0.02)

    def _mount_namespace(self, pid: int) -> None:
        """Mount the supervisor's network namespace on a file, which connections use."""
        namespace = Path(f"/proc/{pid}/ns/net")
        target = self.places.netns
        if _is_namespace(target) and target.stat().st_ino == namespace.stat().st_ino:
            return
        self._unmount_namespace()
        target.touch()
        run(["mount", "--bind", str(namespace), str(target)])

    def _unmount_namespace(self) -> None:
        while _is_namespace(self.places.netns):
            run(["umount", str(self.places.netns)])

    def _wait(self, said: set[str], within: float) -> None:
        """Wait until every board without a fault has booted; `said`: boards that are already reported."""
        start = time.monotonic()
        known: dict[str, Any] = {}
        while True:
            known = self._ask("wait", known=known)
            states = {name: node["state"] for name, node in known["nodes"].items() if not node["fault"]}
            for name, state in states.items():
                if state == "running" and name not in said:
                    said.add(name)
                    self.say(f"{name}: booted after {time.monotonic() - start:.1f} s")
            late = [name for name, state in states.items() if state != "running"]
            if not late:
                return
            dead = [name for name in late if states[name] == "off"]
            if dead or time.monotonic() > start + within:
                console = self.places.board((dead or late)[0]) / "console.log"
                tail = (
                    console.read_text(encoding="utf-8", errors="replace").splitlines()[-8:] if console.exists() else []
                )
                raise LabError(f"{', '.join(dead or late)} did not boot\n  " + "\n  ".join(tail), where=str(console))

    # ---- use ----

    def status(self) -> dict[str, Any]:
        """State of a lab that is up: {"pid", "nodes": {NAME: {"state", "fault", "tpus", "boots", "leader"}}}."""
        return self._ask("status")

    def exec(
        self, node: str, argv: Sequence[str], *, check: bool = True, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a board as root, without SSH; output captured as text unless `options` say otherwise."""
        options = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, **options}
        done = subprocess.run(self.exec_argv(node, argv), check=False, **options)
        if check and done.returncode:
            said = (done.stderr or done.stdout or "").strip()
            raise LabError(f"{node}: {' '.join(argv)}: exit {done.returncode}: {said}")
        return done

    def exec_argv(self, node: str, argv: Sequence[str]) -> list[str]:
        """Command line, on this machine, that runs `argv` on a board as root."""
        found = self._node(node)
        leader = found["leader"]
        if not leader or "freeze" in found["fault"].split(", "):
            state = "frozen" if leader else "off"
            raise UsageError(
                f"{node} is {state}",
                next_step=f"restore it with: clusteradm lab fault{self._option()} {node} restore",
            )
        return Groups.of(self.name).board(node).enter(leader, argv, os.environ.get("TERM", "dumb"))

    def ssh_argv(self, node: str, argv: Sequence[str] = ()) -> list[str]:
        """Command line of ssh that logs in to a board as its user."""
        self._node(node)
        return ["ssh", "-F", str(self.places.ssh_config), node, *argv]

    def fault(self, node: str, kind: str, tpu: int | None = None) -> None:
        """Cause a fault (a key of fault_kinds.FAULTS) on a board, or on its Edge TPU number `tpu` (None: on all)."""
        if kind not in FAULTS:
            raise UsageError(f"unknown fault {kind!r}", next_step=f"there are: {', '.join(FAULTS)}")
        there = self._node(node)["tpus"]
        if tpu is not None and not FAULTS[kind].tpu:
            raise UsageError(f"{kind} is done to a board, not to one of its Edge TPUs")
        if FAULTS[kind].tpu and (not there if tpu is None else tpu not in there):
            which = "no Edge TPU" if tpu is None else f"no Edge TPU apex_{tpu}"
            raise UsageError(f"{node} has {which}", next_step=f"it has {len(there)}")
        self._ask("fault", node=node, kind=kind, tpus=there if tpu is None else [tpu])

    def restore(self, node: str, within: float = 120.0) -> None:
        """Undo the faults done to a board; returns when it runs again."""
        self._node(node)
        known = self._ask("restore", node=node)
        deadline = time.monotonic() + within
        while known["nodes"][node]["state"] != "running":
            if time.monotonic() > deadline:
                raise LabError(f"{node} did not come back", where=str(self.places.board(node) / "console.log"))
            known = self._ask("wait", known=known)

    # ---- the rest ----

    def _node(self, name: str) -> dict[str, Any]:
        nodes = self.status()["nodes"]
        if name not in nodes:
            raise UsageError(f'the lab "{self.name}" has no board {name!r}', next_step=f"it has: {', '.join(nodes)}")
        node: dict[str, Any] = nodes[name]
        return node

    def _ask(self, do: str, **fields: Any) -> dict[str, Any]:
        if self.places.read_plan() is None:
            others = ", ".join(plans.names())
            raise UsageError(
                f'there is no lab "{self.name}"' + (f"; there are: {others}" if others else ""),
                next_step=f"start it with: clusteradm lab up{self._option()}",
            )
        try:
            with socket.socket(socket.AF_UNIX) as channel:
                channel.settimeout(120)
                channel.connect(str(self.places.control))
                channel.sendall(json.dumps({"do": do, **fields}).encode() + b"\n")
                with channel.makefile("rb") as stream:
                    reply: dict[str, Any] = json.loads(stream.readline() or b"null") or {}
        except PermissionError:
            require()
            raise
        except OSError as error:
            raise LabError(
                f'the lab "{self.name}" is not running ({error.strerror})',
                next_step=f"start it again with: clusteradm lab up{self._option()}",
            ) from error
        if "error" in reply:
            raise LabError(str(reply["error"]))
        return reply

    def _option(self) -> str:
        return "" if self.name == DEFAULT_NAME else f" --name {self.name}"

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        # In root's own folder: a lock that others may open, others may hold.
        self.places.lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.places.lock.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.say(f'another command is at work on the lab "{self.name}"; waiting for it')
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _is_namespace(path: Path) -> bool:
    """True if a namespace is mounted on the file `path`."""
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    return any(line.split()[1] == str(path) and line.split()[2] == "nsfs" for line in mounts)
