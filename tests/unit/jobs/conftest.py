"""A head of this machine: the real node program as a local process; only systemd is played."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

import pytest

from clusteradm.inventory import Cluster, Host
from clusteradm.jobs import HeadInputs, Jobs, LocalInputs, Plan
from clusteradm.jobs.slots import Slots
from clusteradm.node.spec.wire.job import InputForm, ModelFile, Slot, Status
from clusteradm.transport import Connections, Node

MODEL = ModelFile("m", 1, __file__, "0", InputForm("uint8", (1, 2, 2, 1)))

# Plays systemd: notes what it was asked for, starts no supervisor.
SYSTEMD_RUN = """#!{python}
import json, sys
if sys.argv[1:] == ["--version"]:
    sys.exit(print("systemd 252 (252.39-1~deb12u1)"))
json.dump(sys.argv[1:], open("{folder}/unit.json", "w"))
"""
SYSTEMCTL = """#!/bin/sh
echo "$@" >> {folder}/systemctl
cat {folder}/active 2>/dev/null || echo active
"""


class Place:
    """A head of this machine: its connections has one conversation, with a local process."""

    def __init__(self, folder: Path) -> None:
        self.shared = folder / "shared"
        (self.shared / "jobs").mkdir(parents=True)
        programs = folder / "bin"
        programs.mkdir()
        for name, text in (
            ("systemd-run", SYSTEMD_RUN),
            ("systemctl", SYSTEMCTL),
            ("journalctl", "#!/bin/sh\necho traceback\n"),
        ):
            (programs / name).write_text(text.format(python=sys.executable, folder=folder))
            (programs / name).chmod(0o755)
        self._env = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "CLUSTERADM_STATE": str(folder / "state"),
        }
        self.state = folder / "state"
        self.head_says = folder  # the answers of what plays systemd
        self._node: Node | None = None
        settings = {"cluster_shared": str(self.shared), "cluster_user": getpass.getuser()}
        head = Host("head", ("head",), settings, {})
        self.head = head
        self.cluster = Cluster(folder / "inventory.yml", {}, {"head": head})
        self.jobs = Jobs(cast(Connections, self), self.cluster)

    def node(self, host: Host, guest: str = "") -> Node:
        if self._node is None:
            self._node = Node.local("head", env=self._env)
        return self._node

    def drop(self, host: Host) -> None:
        if self._node is not None:
            self._node.close()
        self._node = None

    def submit(
        self,
        what: LocalInputs | HeadInputs,
        wait: bool = True,
        slots: tuple[Slot, ...] = (Slot("w1", ("0000:01:00.0",)),),
    ) -> tuple[str, int]:
        self.sent: list[tuple[int, int]] = []
        plan = Plan(MODEL, Slots(slots, (), ()), None, wait=wait)
        return self.jobs.submit(what, plan, top=5, progress=lambda sent, total: self.sent.append((sent, total)))

    def folder(self, job: str) -> Path:
        return self.shared / "jobs" / job

    def own(self, job: str) -> Path:
        """The job's folder on the head's own disk."""
        return self.state / "jobs" / job

    def complete(self, job: str) -> None:
        """Write the last status of a complete job."""
        status = Status("complete", MODEL, 5, 5, 1.0, images=5)
        (self.own(job) / "run" / "status.json").write_text(json.dumps(vars(status), default=vars))

    # What the command line asks of its connections.
    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def open(self, hosts: Iterable[Host]) -> None:
        pass


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.drop(made.head)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.png").write_bytes(bytes([65 + number]) * 7)
    return folder


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the cluster user on the head, which no job may change or give out."""
    path = tmp_path / "authorized_keys"
    path.write_text("ssh-ed25519 mine\n")
    return path


def link(path: Path, secret: Path) -> None:
    """Put a link to the secret in the place of a file."""
    path.symlink_to(secret)


def fifo(path: Path, _: Path) -> None:
    """Put a pipe, which would be waited for, in the place of a file."""
    os.mkfifo(path)
