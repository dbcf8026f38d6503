"""The connections of one run: one per host, opened when first needed, closed together."""

from __future__ import annotations

import contextlib
import shlex
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import TypeAlias, TypeVar

from clusteradm.errors import ClusteradmError, HostUnreachable
from clusteradm.inventory import Cluster, Host
from clusteradm.transport.become import SudoPasswords, as_root, as_user
from clusteradm.transport.connection import Connection, Login
from clusteradm.transport.errors import LoginRefused, Refused
from clusteradm.transport.fanout import DEFAULT_FORKS, Outcome, fan_out
from clusteradm.transport.first_contact import FirstContact, Seen, resolve, scan
from clusteradm.transport.known_hosts import KnownHosts
from clusteradm.transport.limits import Limits
from clusteradm.transport.local import LocalConnection
from clusteradm.transport.node import Node
from clusteradm.transport.password import Password
from clusteradm.transport.python import NoPython, install_python
from clusteradm.transport.routes import Routes, gateways_of
from clusteradm.transport.ssh_config import with_config
from clusteradm.transport.stream import ShellStream

AnyConnection: TypeAlias = Connection | LocalConnection
OnLine = Callable[[str], None]
T = TypeVar("T")
C = TypeVar("C", Node, AnyConnection)
K = TypeVar("K", str, tuple[str, str])

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 3.0


class Connections:
    """Connections to the hosts of a cluster, and the node conversations over them. A context manager."""

    def __init__(
        self,
        cluster: Cluster,
        known_hosts: Path,
        *,
        forks: int = DEFAULT_FORKS,
        first_contact: FirstContact = FirstContact.ASK,
        ask: Callable[[str], bool] = lambda table: False,
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
        sudo_password: Password | None = None,
    ) -> None:
        """`ask`: shows the table of unknown host keys and returns whether they are accepted.

        `sudo_password`: for hosts whose sudo asks for one and for which the inventory has none.
        """
        self.cluster = cluster
        self.forks = forks
        self.limits = limits
        self.known_hosts = KnownHosts(known_hosts)
        # Called for a host without python3, with a function that installs it and passes on its output line by line.
        # None: a host without python3 is an error.
        self.on_missing_python: Callable[[Host, Callable[[OnLine], None]], None] | None = None
        self._first_contact = first_contact
        self._ask = ask
        self._sudo_passwords = SudoPasswords(sudo_password)
        self._routes = Routes(self.known_hosts, limits.connect)
        self._connections: dict[str, AnyConnection] = {}
        self._nodes: dict[tuple[str, str], Node] = {}
        self._refused: dict[str, HostUnreachable] = {}
        # Of conversations that were begun before anybody asked for them; each is raised once, where it is asked for.
        self._failures: dict[str, ClusteradmError] = {}
        # Hosts that were logged in to during this run.
        self._logged_in: set[str] = set()
        self._lock = threading.Lock()
        self._opening: dict[str, threading.Lock] = {}
        self._closed = False

    def __enter__(self) -> Connections:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self, hosts: Iterable[Host]) -> None:
        """Make the hosts ready to connect to: first contact with all whose keys are not known, asked about once.

        A host whose key is not accepted, or that does not answer, is unreachable from then on. Gateways come first,
        the nearest before those behind it. The connections themselves are opened when they are first used.
        """
        chosen = [host for host in map(self.resolved, hosts) if not host.is_local]
        stages: dict[int, dict[str, Host]] = {}
        for host in chosen:
            for stage, gateway in enumerate(gateways_of(host)):
                stages.setdefault(stage, {})[gateway.name] = gateway
        for stage in sorted(stages):
            self._learn_keys(stages[stage].values())
        for host in chosen:
            for gateway in gateways_of(host):
                if gateway.name in self._refused:
                    self._refused[host.name] = self._refused[gateway.name]
        self._learn_keys(chosen)

    def begin(self, hosts: Iterable[Host]) -> None:
        """Begin the conversations with hosts whose keys are known, in the background: `node` then waits for less.

        An error on the way is raised by the first `node` of that host.
        """
        for host in self.acquainted(hosts)[: self.forks]:
            threading.Thread(target=self._begin, args=(host,), name=f"begin {host.name}", daemon=True).start()

    def acquainted(self, hosts: Iterable[Host]) -> list[Host]:
        """Those of the hosts whose keys are known: nobody has to be asked about them."""
        return [host for host in map(self.resolved, hosts) if self.known_hosts.of(host.address, host.port)]

    def _begin(self, host: Host) -> None:
        try:
            self.node(host)
        except ClusteradmError as error:
            self._failures[host.name] = error

    def resolved(self, host: Host) -> Host:
        """The host with what ssh_config says of it, by which it is reached. Raises UsageError."""
        return with_config(host)

    def _learn_keys(self, hosts: Iterable[Host]) -> None:
        new = [
            host
            for host in hosts
            if host.name not in self._refused and not self.known_hosts.of(host.address, host.port)
        ]
        if not new:
            return
        outcome: Outcome[Seen] = fan_out(new, lambda host: scan(host, self._routes), forks=self.forks)
        for name, error in outcome.failed.items():
            self._refused[name] = error if isinstance(error, HostUnreachable) else HostUnreachable(str(error))
        seen = [outcome.ok[host.name] for host in new if host.name in outcome.ok]
        self._refused.update(resolve(seen, self.known_hosts, self._first_contact, self._ask))

    def each(
        self, hosts: Iterable[Host], work: Callable[[Host], T], on_done: Callable[[Host], None] | None = None
    ) -> Outcome[T]:
        """Run `work` on every host, `forks` at a time; each host has a result or an error in the outcome."""
        chosen = list(hosts)
        self.open(chosen)
        return fan_out(chosen, work, forks=self.forks, on_done=on_done)

    def node(self, host: Host, guest: str = "") -> Node:
        """The conversation with the host's node program: the open one, or a new one.

        `guest`: name of the host on whose behalf the work is done (delegate_to); it gets a channel of its own over the
        same connection.
        """
        with self._opening_of(host):
            failure = self._failures.pop(host.name, None)
            if failure is not None:
                raise failure
            with self._lock:
                node = self._nodes.get((host.name, guest))
            if node is not None and not node.closed:
                return node
            connection = self._connection(host)
            node = self._start(host, connection)
            self._logged_in.add(host.name)
            self._keep(self._nodes, (host.name, guest), node)
            return node

    def _start(self, host: Host, connection: AnyConnection) -> Node:
        password, timeout = self._sudo_passwords.of(host), self.limits.start
        try:
            return Node.over_ssh(host.name, connection, host.python, password, timeout)
        except NoPython:
            # Only python3 is known to be a package of the distribution; another interpreter may be anything.
            if self.on_missing_python is None or Path(host.python).name != "python3":
                raise
        self.on_missing_python(host, lambda on_line: install_python(host.name, connection, password, on_line))
        return Node.over_ssh(host.name, connection, host.python, password, timeout)

    def connection(self, host: Host) -> AnyConnection:
        """The connection to the host: the open one, or a new one. Callers do not close it."""
        with self._opening_of(host):
            return self._connection(host)

    def shell(self, host: Host, command: str, *, sudo: bool = False) -> ShellStream:
        """A shell command on the host, as the login's user or as root. Raises HostUnreachable, WrongPassword."""
        connection = self.connection(host)
        words = ["sh", "-c", command]
        if sudo:
            return as_root(host.name, connection, words, self._sudo_passwords.of(host), self.limits.start)
        return as_user(host.name, connection, shlex.join(words), self.limits.start)

    def visit(self, host: Host, login: Login | None = None) -> Connection:
        """A new connection that the caller closes. `login`: instead of the inventory's key."""
        self._check(host)
        return self._routes.connect(self.resolved(host), login)

    def _opening_of(self, host: Host) -> threading.Lock:
        with self._lock:
            return self._opening.setdefault(host.name, threading.Lock())

    def _check(self, host: Host) -> None:
        if host.name in self._refused:
            raise self._refused[host.name]

    def _connection(self, host: Host) -> AnyConnection:
        with self._lock:
            connection = self._connections.get(host.name)
        if connection is not None and connection.alive:
            return connection
        self._check(host)
        if connection is not None:
            self.drop(host)
        connection = LocalConnection(host) if host.is_local else self._routes.connect(self.resolved(host))
        self._keep(self._connections, host.name, connection)
        return connection

    def _keep(self, where: dict[K, C], key: K, what: C) -> None:
        """Register what was opened, so that `close` closes it; after `close` (Ctrl-C), close it at once."""
        with self._lock:
            if not self._closed:
                where[key] = what
                return
        what.close()
        raise HostUnreachable("the run has ended", where=str(key))

    def drop(self, host: Host) -> None:
        """Close the host's connection; the next `node` opens a new one. Work on the host goes on."""
        with self._lock:
            nodes = [self._nodes.pop(key) for key in list(self._nodes) if key[0] == host.name]
            connection = self._connections.pop(host.name, None)
        # The connection first: to close a conversation properly could wait for a host that is gone.
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()
        for node in nodes:
            node.close()

    def reconnect(self, host: Host, within: float, guest: str = "") -> Node:
        """A new connection, retried for `within` seconds.

        A changed key is final. So is a refused login, except on a host that was logged in to during this run: while it
        starts or stops, it lets in nobody but root (pam_nologin).
        """
        if not guest:  # a guest that lost its channel leaves the host's connection to the others
            self.drop(host)
        deadline = time.monotonic() + within
        pause = _FIRST_PAUSE
        while True:
            try:
                return self.node(host, guest)
            except ClusteradmError as error:
                self.drop(host)
                again = not isinstance(error, Refused)
                if isinstance(error, LoginRefused) and host.name in self._logged_in:
                    again, pause = True, _LONGEST_PAUSE
                if not again or self._closed or time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def close(self) -> None:
        """Close everything, also what is still being opened. Work on the hosts goes on."""
        with self._lock:
            self._closed = True
            names = {*self._connections, *(name for name, _ in self._nodes)}
        for name in names:
            self.drop(self.cluster.hosts[name])
        self._routes.close()
