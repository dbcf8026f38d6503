"""Fake hosts for tests: their node programs answer requests from a table, and no connection is made.

    hosts = FakeHosts()
    hosts["head"].answer("drains", {"drains": {}})
    with hosts.installed():
        cluster = clusteradm.open("inventory.yml")
        ...
    hosts.check()

Answers are JSON and are decoded as a real host's are; "hello" needs none. Every answer has to be asked for, and nothing
else: `check` fails otherwise. What was asked stays in `requests`.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from clusteradm import transport
from clusteradm.errors import HostUnreachable
from clusteradm.inventory import Cluster, Host
from clusteradm.node.spec.wire import names
from clusteradm.node.spec.wire.request import Request as Message
from clusteradm.transport.connection import Connection, Login

# The fields of a request -> the fields of its last reply; it may raise what a Node raises.
Handler = Callable[[Mapping[str, Any]], Mapping[str, Any]]
Answer = Mapping[str, Any] | Exception | Handler


@dataclass(frozen=True)
class Request:
    """A request that a fake node got. `fields`: without its name and number."""

    host: str
    do: str
    fields: Mapping[str, Any]


@dataclass
class _Expected:
    """An answer. `progress`: replies before the last; `once`: it is given once, else at least once."""

    answer: Answer
    progress: tuple[Mapping[str, Any], ...]
    once: bool
    given: int = 0


class FakeNode(transport.Node):
    """Node program of one fake host.

    `requests`: what it was asked, in order; `blobs`: the bodies that it was sent, by sha256; `unreachable`: whether the
    host does not answer.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.closed = False
        self.requests: list[Request] = []
        self.blobs: dict[str, bytes] = {}
        self.unreachable = False
        self.unexpected: list[Request] = []
        self._answers: dict[str, list[_Expected]] = {}
        self._replies: dict[int, Iterator[dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def answer(self, do: str, answer: Answer, *progress: Mapping[str, Any]) -> None:
        """Answer the next request of this name, once; answers of one name are given in order.

        `answer`: the last reply, an exception to raise, or a function of the request's fields; `progress`: replies
        before it.
        """
        self._answers.setdefault(do, []).append(_Expected(answer, progress, once=True))

    def answer_always(self, do: str, answer: Answer, *progress: Mapping[str, Any]) -> None:
        """Answer every request of this name from here on; there must be one."""
        self._answers.setdefault(do, []).append(_Expected(answer, progress, once=False))

    def _request(self, request: Message[Any]) -> int:
        fields = json.loads(json.dumps(vars(request), default=vars))
        with self._lock:
            self.requests.append(Request(self.name, request.do, fields))
            return len(self.requests)

    def _answer(self, number: int, timeout: float) -> dict[str, Any]:
        """The next reply to a request, as JSON. Raises AssertionError where none is expected."""
        request = self.requests[number - 1]
        with self._lock:
            if number not in self._replies:
                self._replies[number] = self._expected(request)
        reply: dict[str, Any] = next(self._replies[number])
        return reply

    def _expected(self, request: Request) -> Iterator[dict[str, Any]]:
        for expected in self._answers.get(request.do, ()):
            if not (expected.once and expected.given):
                expected.given += 1
                return _replies(expected, request.fields)
        if request.do == names.HELLO:
            return iter([{"protocol": 1, "python": "3.7.3", "time": time.time(), "boot": "fake", "done": True}])
        self.unexpected.append(request)
        raise AssertionError(f"{request.host} has no answer to the request {request.do} {dict(request.fields)}")

    def put_blobs(self, blobs: Mapping[str, bytes | Path], progress: Callable[[int, int], None] | None = None) -> None:
        """Keep the bodies in `blobs`."""
        for digest, body in blobs.items():
            self.blobs[digest] = body if isinstance(body, bytes) else body.read_bytes()
        total = sum(len(self.blobs[digest]) for digest in blobs)
        if progress and total:
            progress(total, total)

    def close(self) -> None:
        """Close the conversation; requests after that go on, as over a new one."""

    def problems(self) -> list[str]:
        """What was asked and not expected, and what was expected and not asked."""
        found = [
            f"{request.host}: unexpected request {request.do} {dict(request.fields)}" for request in self.unexpected
        ]
        for do, answers in self._answers.items():
            missing = sum(not expected.given for expected in answers)
            if missing:
                found.append(f"{self.name}: {missing} answers to {do} were not asked for")
        return found


def _replies(expected: _Expected, fields: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (dict(reply) for reply in expected.progress)
    answer = expected.answer
    if isinstance(answer, Exception):
        raise answer
    yield {**(answer(fields) if callable(answer) else answer), "done": True}


class FakeConnections(transport.Connections):
    """Connections to fake hosts. `options`: what they were made with; `is_open`: False after `close`."""

    def __init__(self, hosts: FakeHosts, cluster: Cluster, known_hosts: Path, **options: Any) -> None:
        super().__init__(cluster, known_hosts, **options)
        self._hosts = hosts
        self.options = options
        self.is_open = True

    def open(self, hosts: Iterable[Host]) -> None:
        """Nothing: the keys of fake hosts are known."""

    def acquainted(self, hosts: Iterable[Host]) -> list[Host]:
        """All of them."""
        return list(hosts)

    def node(self, host: Host, guest: str = "") -> FakeNode:
        """The host's fake node. Raises HostUnreachable where the test says so."""
        fake = self._hosts[host.name]
        if fake.unreachable:
            raise HostUnreachable("no answer", where=host.name)
        return fake

    def connection(self, host: Host) -> Connection:
        """Raises AssertionError: fake hosts have no SSH."""
        raise AssertionError(f"a test without SSH connects to {host.name}")

    def visit(self, host: Host, login: Login | None = None) -> Connection:
        """Raises AssertionError: fake hosts have no SSH."""
        return self.connection(host)

    def drop(self, host: Host) -> None:
        """Nothing: there is no connection."""

    def reconnect(self, host: Host, within: float, guest: str = "") -> FakeNode:
        """The same node again."""
        return self.node(host, guest)

    def close(self) -> None:
        """Note that it was called, in `is_open`."""
        self.is_open = False


@dataclass
class FakeHosts:
    """Fake hosts by name, made when first named. `opened`: the connections that were made to them, in order."""

    nodes: dict[str, FakeNode] = field(default_factory=dict)
    opened: list[FakeConnections] = field(default_factory=list)

    def __getitem__(self, name: str) -> FakeNode:
        return self.nodes.setdefault(name, FakeNode(name))

    def connections(self, cluster: Cluster, known_hosts: Path, **options: Any) -> FakeConnections:
        """Connections to these hosts; takes the arguments of transport.Connections."""
        made = FakeConnections(self, cluster, known_hosts, **options)
        self.opened.append(made)
        return made

    @contextlib.contextmanager
    def installed(self) -> Iterator[FakeHosts]:
        """Until the end of the block, whoever makes connections (the commands, clusteradm.open) gets these hosts'."""
        with mock.patch.object(transport, "Connections", self.connections):
            yield self

    def check(self) -> None:
        """Raise AssertionError unless every answer was asked for, nothing else was, and all connections are closed."""
        problems = [text for node in self.nodes.values() for text in node.problems()]
        problems += ["connections were left open" for connections in self.opened if connections.is_open]
        if problems:
            raise AssertionError("\n".join(problems))
