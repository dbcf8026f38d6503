"""Batches: events in order, detached from the connection, one at a time, cancelled by a message."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clusteradm.node.spec.wire.node import Apply, BatchEvent, Cancel, Empty, FindBlobs, Follow, Hello
from clusteradm.node.spec.wire.request import Request
from clusteradm.transport import Node, NodeError


class Hold:
    """A command that runs until the test releases it: it reads from a FIFO that nobody else opens."""

    def __init__(self, path: Path) -> None:
        self._path = path
        os.mkfifo(path)
        self.command = f"cat {path}"

    def release(self) -> None:
        """End the command; waits until it reads."""
        self._path.write_bytes(b"")

    def close(self) -> None:
        """End a command that a test has left behind."""
        with contextlib.suppress(OSError):  # nobody reads
            os.close(os.open(self._path, os.O_WRONLY | os.O_NONBLOCK))


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Hold]:
    one = Hold(tmp_path / "hold")
    yield one
    one.close()


def task(index: int, module: str, **args: Any) -> dict[str, Any]:
    return {"index": index, "name": f"task {index}", "module": module, "args": args, "items": None}


def events(node: Node, request: Apply | Follow) -> list[BatchEvent]:
    return [reply.event for reply in node.ask(request, timeout=30)]


def brief(found: list[BatchEvent]) -> list[Any]:
    return [(event.kind, event.task, event.status) for event in found if event.kind in ("result", "end", "waiting")]


def test_tasks_run_in_order_and_events_are_numbered(start: Callable[[], Node]) -> None:
    found = events(start(), Apply("a", [task(4, "command", cmd="echo one"), task(7, "shell", cmd="echo $0")]))
    assert [event.n for event in found] == [1, 2, 3, 4, 5]
    assert brief(found) == [("result", 4, "changed"), ("result", 7, "changed"), ("end", None, "complete")]
    assert found[1].result["stdout_lines"] == ["one"]


def test_what_tasks_need_is_imported_once_for_all_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is a fork of the conversation's process: what it imports itself, the next one imports again."""
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    monkeypatch.setenv("CLUSTERADM_STATE", str(tmp_path))
    node = Node.local(env=dict(os.environ))
    try:
        for name in ("a", "b"):
            events(node, Apply(name, [task(0, "command", cmd="true"), task(1, "nosuch"), task(2, "file", path="/tmp")]))
            imported = (tmp_path / "batches" / name / "stderr").read_text()
            assert "clusteradm.node.modules" not in imported
    finally:
        node.close()


def test_a_failure_ends_the_batch(start: Callable[[], Node]) -> None:
    found = events(start(), Apply("a", [task(0, "command", cmd="false"), task(1, "command", cmd="true")]))
    assert brief(found) == [("result", 0, "failed"), ("end", None, "failed")]
    assert found[1].result["rc"] == 1


def test_ignored_failures_and_loops(start: Callable[[], Node]) -> None:
    loop = {
        **task(0, "command"),
        "items": [{"item": word, "label": word, "args": {"cmd": word}} for word in ("true", "false")],
        "ignore_errors": True,
    }
    found = events(start(), Apply("a", [loop, task(1, "command", cmd="true")]))
    assert brief(found) == [("result", 0, "failed"), ("result", 1, "changed"), ("end", None, "complete")]
    assert [(each["item"], each["rc"]) for each in found[1].result["results"]] == [("true", 0), ("false", 1)]


def test_a_handler_runs_only_if_notified_and_once(start: Callable[[], Node]) -> None:
    handlers = [{**task(number, "command", cmd="true"), "handler": number} for number in (1, 2, 3)]
    again = [{**each, "index": each["index"] + 3} for each in handlers]
    first = {**task(0, "command", cmd="true"), "notify": [2]}
    found = events(start(), Apply("a", [first, *handlers, *again], [3]))
    assert [event.task for event in found if event.kind == "result"] == [0, 2, 3]


def test_a_batch_outlives_its_connection_and_is_taken_up(start: Callable[[], Node], hold: Hold) -> None:
    first = start()
    replies = first.ask(Apply("a", [task(0, "command", cmd=hold.command), task(1, "command", cmd="echo late")]))
    next(replies)
    first.close()
    hold.release()
    found = events(start(), Follow("a", after=1))
    assert [event.n for event in found] == [2, 3, 4, 5]
    assert found[2].result["stdout"] == "late"


def test_the_next_batch_waits_for_the_one_that_runs(start: Callable[[], Node], hold: Hold) -> None:
    first = start()
    next(first.ask(Apply("a", [task(0, "command", cmd=hold.command)])))
    first.close()
    replies = start().ask(Apply("b", [task(0, "command", cmd="true")]), timeout=30)
    waiting = next(replies).event
    assert (waiting.kind, waiting.batch, waiting.n) == ("waiting", "a", 1)
    hold.release()
    assert brief([reply.event for reply in replies]) == [("result", 0, "changed"), ("end", None, "complete")]


def test_one_after_the_other_does_not_wait(start: Callable[[], Node]) -> None:
    node = start()
    for number in range(5):
        found = events(node, Apply(f"b{number}", [task(0, "command", cmd="true")]))
        assert [event.kind for event in found] == ["start", "result", "end"]


def test_cancel_ends_a_command_that_would_never_end(start: Callable[[], Node], hold: Hold) -> None:
    node = start()
    replies = node.ask(Apply("a", [task(0, "command", cmd=hold.command), task(1, "command", cmd="true")]), timeout=30)
    next(replies)
    node.send(Cancel("a"))
    found = [reply.event for reply in replies]
    assert brief(found) == [("result", 0, "failed"), ("end", None, "cancelled")]


def test_a_killed_runner_is_reported(start: Callable[[], Node], hold: Hold, tmp_path: Path) -> None:
    node = start()
    replies = node.ask(Apply("a", [task(0, "command", cmd=hold.command)]), timeout=30)
    next(replies)
    os.kill(int((tmp_path / "state/batches/a/alive").read_text()), signal.SIGKILL)
    found = [reply.event for reply in replies]
    assert found[-1].kind == "end" and found[-1].status == "failed"
    assert "cut off" in found[-1].msg


def test_only_its_owner_can_read_the_log(start: Callable[[], Node], tmp_path: Path) -> None:
    events(start(), Apply("a", [task(0, "command", cmd="echo secret")]))
    assert (tmp_path / "state/batches").stat().st_mode & 0o077 == 0
    assert (tmp_path / "state/batches/a").stat().st_mode & 0o077 == 0


def test_bodies_are_sent_once_and_verified(start: Callable[[], Node], tmp_path: Path) -> None:
    node = start()
    body = os.urandom(700_000)
    name = hashlib.sha256(body).hexdigest()
    sent: list[int] = []
    node.put_blobs({name: body}, progress=lambda now, total: sent.append(now))
    assert sent[-1] == len(body)
    node.put_blobs({name: body}, progress=lambda now, total: pytest.fail("sent twice"))
    assert (tmp_path / "state/blobs" / name).read_bytes() == body
    with pytest.raises(NodeError, match="damaged"):
        node.put_blobs({"0" * 64: b"x"})
    assert node.call(Hello()).protocol == 1
    assert os.listdir(tmp_path / "state/blobs") == [name]


class Dance(Request[Empty]):
    """A request that no program knows."""

    do = "dance"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Dance(), "cannot 'dance'"),
        (Follow("never"), "there is no batch never"),
        (Apply("../x", []), "bad name"),
        (FindBlobs(("../x",)), "not a sha256"),
    ],
)
def test_a_bad_request_is_answered(start: Callable[[], Node], request_: Request[Any], message: str) -> None:
    node = start()
    with pytest.raises(NodeError, match=message):
        node.call(request_)
    assert node.call(Hello()).protocol == 1
