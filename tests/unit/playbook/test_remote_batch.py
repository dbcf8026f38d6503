"""A host that lies while a batch runs: it costs its own run, in bounded time, and nothing else."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from clusteradm.errors import HostFailed, HostUnreachable
from clusteradm.inventory import Host
from clusteradm.node.spec.wire.node import BatchEvent
from clusteradm.playbook.run.remote_batch import RemoteBatch
from clusteradm.transport import Limits, Node

HOST = Host("w1", ("compute",), {}, {})
TASKS = [{"index": 0}, {"index": 1}]


class Script:
    """A stream that sends these replies, then ends as a lost connection does."""

    def __init__(self, replies: Iterator[Any]) -> None:
        self._replies = replies

    def read(self, timeout: float | None) -> bytes:
        reply = next(self._replies, None)
        return b"" if reply is None else json.dumps(reply).encode() + b"\n"

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        pass

    def stderr_tail(self) -> str:
        return ""

    def exit_status(self) -> int | None:
        return None


class Lying:
    """Connections whose node says, over each new one, what `says` gives for its number."""

    limits = Limits()

    def __init__(self, says: Callable[[int], Iterator[Any]]) -> None:
        self._says = says
        self.opened = 0

    def node(self, host: Host, guest: str = "") -> Node:
        self.opened += 1
        return Node(host.name, Script(self._says(self.opened)))

    def reconnect(self, host: Host, within: float, guest: str = "") -> Node:
        return self.node(host, guest)


def run(says: Callable[[int], Iterator[Any]]) -> tuple[Lying, list[BatchEvent], RemoteBatch]:
    lying, events = Lying(says), list[BatchEvent]()
    return lying, events, RemoteBatch(lying, HOST, events.append, lambda reason: None)  # type: ignore[arg-type]


def line(number: int, **more: Any) -> dict[str, Any]:
    return {"id": 1, "event": {"n": number, "kind": "line", "task": 0, "text": "x", **more}}


@pytest.mark.parametrize(
    "says",
    [
        lambda number: iter(()),
        lambda number: iter([line(number)]),  # something new each time
        lambda number: iter([{"id": 1, "done": True, "error": "no batch"}] if number % 2 == 0 else []),
    ],
    ids=["nothing", "one more event", "no such batch"],
)
def test_a_host_that_always_drops_the_connection_is_given_up(says: Callable[[int], Iterator[Any]]) -> None:
    lying, _, batch = run(says)
    with pytest.raises((HostUnreachable, HostFailed)) as failed:
        batch.run("b", {"tasks": TASKS}, {})
    assert lying.opened <= 21
    assert failed.value.where == "w1"


def test_the_reason_says_what_the_host_does() -> None:
    _, _, batch = run(lambda number: iter(()))
    with pytest.raises(HostUnreachable, match="its connection was lost 20 times in a row, within 60 s each") as failed:
        batch.run("b", {"tasks": TASKS}, {})
    assert failed.value.next_step


def test_more_events_than_a_batch_can_have_end_it() -> None:
    lying, events, batch = run(lambda number: (line(number) for number in itertools.count(1)))
    with pytest.raises(HostFailed, match="it sends more events than the batch of 2 tasks can have"):
        batch.run("b", {"tasks": TASKS}, {})
    assert lying.opened == 1 and 100 < len(events) < 2000


def test_the_same_event_again_and_again_ends_it_too() -> None:
    _, events, batch = run(lambda number: itertools.repeat(line(1)))
    with pytest.raises(HostFailed, match="more events than"):
        batch.run("b", {"tasks": TASKS}, {})
    assert len(events) == 1


@pytest.mark.parametrize("reply", [line(1, text=5), line(1, kind="dance"), {"id": 1}, [], {"id": 9}])
def test_what_is_no_event_is_the_hosts_failure(reply: Any) -> None:
    lying, events, batch = run(lambda number: iter([reply]))
    with pytest.raises(HostFailed) as failed:
        batch.run("b", {"tasks": TASKS}, {})
    assert failed.value.where == "w1" and events == [] and lying.opened == 3
