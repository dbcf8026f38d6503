"""Connections to hosts that are this machine: a process of the real node program each, with its own state folder."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clusteradm.errors import HostUnreachable
from clusteradm.inventory import Cluster, Host, load
from clusteradm.playbook import Event, Playbook, PlaybookRun, Recap, TaskFinished
from clusteradm.playbook import load as load_playbook
from clusteradm.transport import Limits, Node
from clusteradm.transport.known_hosts import KnownHosts

INVENTORY = """\
all:
  vars:
    cluster_subnet: 10.78.0.0/24
    ansible_user: mendel
    colour: blue
    greeting: "hello {{ inventory_hostname }}"
  children:
    head:
      hosts:
        head: {cluster_ip: 10.78.0.1, cluster_interface: eth0}
    compute:
      hosts:
        w1: {cluster_ip: 10.78.0.2, cluster_interface: eth0, colour: red}
        w2: {cluster_ip: 10.78.0.3, cluster_interface: enp2s0}
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    path = tmp_path / "inventory.yml"
    path.write_text(INVENTORY)
    return load(path)


class LocalConnections:
    """What a run needs of a Connections, without SSH. `gone`: hosts that do not answer."""

    def __init__(self, state: Path, forks: int = 8) -> None:
        self.forks = forks
        self.limits = Limits()
        self.gone: set[str] = set()
        self.met: list[str] = []
        self.opened = 0
        self.known_hosts = KnownHosts(state.parent / "known_hosts")
        self._state = state
        self._nodes: dict[tuple[str, str], Node] = {}

    def __enter__(self) -> LocalConnections:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, hosts: Iterable[Host]) -> None:
        self.met += [host.name for host in hosts]

    def resolved(self, host: Host) -> Host:
        return host

    def node(self, host: Host, guest: str = "") -> Node:
        if host.name in self.gone:
            raise HostUnreachable("no route to host", where=host.name)
        key = (host.name, guest)
        if key not in self._nodes or self._nodes[key].closed:
            self.opened += 1
            env = {**os.environ, "CLUSTERADM_STATE": str(self._state / host.name)}
            self._nodes[key] = Node.local(host.name, env=env)
        return self._nodes[key]

    def cut(self, name: str) -> None:
        """Break the line: the program that we talk to is gone, what it began on the host is not."""
        process = self._nodes[name, ""]._stream._process  # type: ignore[attr-defined]
        process.kill()

    def drop(self, host: Host) -> None:
        for key in [key for key in self._nodes if key[0] == host.name]:
            self._nodes.pop(key).close()

    def reconnect(self, host: Host, within: float, guest: str = "") -> Node:
        self.drop(host)
        return self.node(host, guest)

    def close(self) -> None:
        for node in self._nodes.values():
            node.close()


@pytest.fixture
def connections(tmp_path: Path) -> Iterator[LocalConnections]:
    local = LocalConnections(tmp_path / "state")
    yield local
    local.close()


class Outcome:
    """What a run told: its events and its recap."""

    def __init__(self, events: list[Event], recap: Recap) -> None:
        self.events = events
        self.recap = recap

    def results(self, host: str) -> list[tuple[str, str]]:
        """(task, status) of a host, in order."""
        return [(event.task, str(event.status)) for event in self._finished() if event.host == host]

    def result(self, host: str, task: str) -> dict[str, Any]:
        """What came of one task."""
        return next(dict(event.result) for event in self._finished() if (event.host, event.task) == (host, task))

    def _finished(self) -> Iterator[TaskFinished]:
        return (event for event in self.events if isinstance(event, TaskFinished))


Play = Callable[..., Outcome]


@pytest.fixture
def book(tmp_path: Path, cluster: Cluster) -> Callable[[str], Playbook]:
    """Reads a playbook given as text."""

    def make(text: str) -> Playbook:
        path = tmp_path / "site.yml"
        path.write_text(textwrap.dedent(text))
        return load_playbook(path, cluster)

    return make


@pytest.fixture
def play(book: Callable[[str], Playbook], connections: LocalConnections) -> Play:
    """Runs a playbook given as text on the local connections."""

    def run(text: str, **options: Any) -> Outcome:
        events: list[Event] = []
        work = PlaybookRun(book(text), connections, **options)  # type: ignore[arg-type]
        return Outcome(events, work.execute(events.append))

    return run
