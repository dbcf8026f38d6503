"""All connections of a run: one per host, opened when first needed, closed together."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from clusteradm.errors import ClusteradmError, HostUnreachable
from clusteradm.inventory import Cluster, Host
from clusteradm.transport.connection import Connection, Refused, connect
from clusteradm.transport.fanout import DEFAULT_FORKS, Outcome, fan_out
from clusteradm.transport.first_contact import FirstContact, Seen, scan, settle
from clusteradm.transport.known_hosts import KnownHosts, entry_name
from clusteradm.transport.node import Node

T = TypeVar("T")


class Fleet:
    """The hosts of a cluster as a run reaches them. Use it as a context manager."""

    def __init__(
        self,
        cluster: Cluster,
        known_hosts: Path,
        *,
        forks: int = DEFAULT_FORKS,
        first_contact: FirstContact = FirstContact.ASK,
        ask: Callable[[str], bool] = lambda table: False,
        connect_timeout: float = 15.0,
    ) -> None:
        self.cluster = cluster
        self.forks = forks
        self.known_hosts = KnownHosts(known_hosts)
        self._first_contact = first_contact
        self._ask = ask
        self._connect_timeout = connect_timeout
        self._connections: dict[str, Connection] = {}
        self._nodes: dict[str, Node] = {}
        self._refused: dict[str, HostUnreachable] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def meet(self, hosts: Iterable[Host]) -> None:
        """First contact: ask once about the keys of all hosts that were never seen before.

        Hosts whose keys are not accepted, or that do not answer, are unreachable from then on; the others go on.
        """
        known = self.known_hosts.keys()
        new = [
            host
            for host in hosts
            if host.name not in self._refused and known.lookup(entry_name(host.address, host.port)) is None
        ]
        if not new:
            return
        outcome: Outcome[Seen] = fan_out(
            new, lambda host: scan(host, self.known_hosts, self._connect_timeout), forks=self.forks
        )
        for name, error in outcome.failed.items():
            self._refused[name] = error if isinstance(error, HostUnreachable) else HostUnreachable(str(error))
        seen = [outcome.ok[host.name] for host in new if host.name in outcome.ok]
        self._refused.update(settle(seen, self.known_hosts, self._first_contact, self._ask))

    def each(
        self, hosts: Iterable[Host], work: Callable[[Host], T], on_done: Callable[[Host], None] | None = None
    ) -> Outcome[T]:
        """Run `work` for every host, a bounded number at a time; every host ends as a result or as an error."""
        chosen = list(hosts)
        self.meet(chosen)
        return fan_out(chosen, work, forks=self.forks, on_done=on_done)

    def node(self, host: Host) -> Node:
        """The conversation with the host's node program: the open one, or a new one."""
        with self._lock:
            node = self._nodes.get(host.name)
        if node is not None and not node.closed:
            return node
        if host.name in self._refused:
            raise self._refused[host.name]
        connection = self._connection(host)
        node = Node.over_ssh(host.name, connection, host.python)
        with self._lock:
            self._nodes[host.name] = node
        return node

    def _connection(self, host: Host) -> Connection:
        with self._lock:
            connection = self._connections.get(host.name)
        if connection is not None and connection.is_connected:
            return connection
        if connection is not None:
            self.drop(host)
        connection = connect(host, self.known_hosts, self._connect_timeout)
        with self._lock:
            self._connections[host.name] = connection
        return connection

    def drop(self, host: Host) -> None:
        """Forget the host's connection; the next `node` makes a new one."""
        with self._lock:
            node = self._nodes.pop(host.name, None)
            connection = self._connections.pop(host.name, None)
        if node is not None:
            node.close()
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()

    def reconnect(self, host: Host, within: float) -> Node:
        """A new connection, tried again and again for `within` seconds. A refused login or key is not tried again."""
        self.drop(host)
        deadline = time.monotonic() + within
        pause = 0.2
        while True:
            try:
                return self.node(host)
            except Refused:
                raise
            except ClusteradmError:
                self.drop(host)
                if time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(pause * 1.5, 3.0)

    def close(self) -> None:
        """Close everything; what runs on the hosts goes on."""
        for name in {*self._nodes, *self._connections}:
            host = self.cluster.hosts.get(name)
            if host is not None:
                self.drop(host)
