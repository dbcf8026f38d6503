"""Lost connections, batches that outlive them, and Ctrl-C: with the real node program."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clusteradm.playbook import Event, HostWaiting, Playbook, PlaybookRun, PlayStarted, TaskStarted
from clusteradm.transport import Limits, stream

from .conftest import LocalConnections, Outcome, Play

# Longer than anything here takes, however busy the machine is.
PATIENCE = 60.0

SLOW = """
    - hosts: w1
      become: true
      strategy: free
      gather_facts: false
      tasks:
        - name: First
          shell: echo first >> {log}
        - name: Slow
          shell: echo slow >> {log}; {hold}; echo done >> {log}
        - name: Last
          shell: echo last >> {log}
"""


class Gate:
    """A FIFO at which tasks wait until the test lets them through, one for each `open`."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.hold = f"read line < {path}"
        self._fifo = os.open(path, os.O_RDWR)

    def open(self, tasks: int = 1) -> None:
        os.write(self._fifo, b"\n" * tasks)

    def close(self) -> None:
        """Nothing waits any more: what still reads comes to the end of the file."""
        os.close(self._fifo)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    made = Gate(tmp_path / "gate")
    yield made
    made.close()


def run(playbook: Playbook, connections: LocalConnections, at: Callable[[Event], None]) -> Outcome:
    """Run it, and call `at` with each event."""
    events: list[Event] = []

    def on_event(event: Event) -> None:
        events.append(event)
        at(event)

    return Outcome(events, PlaybookRun(playbook, connections).execute(on_event))  # type: ignore[arg-type]


def begins(event: Event, task: str) -> bool:
    return isinstance(event, TaskStarted) and event.task == task


def test_a_connection_lost_during_a_task_changes_nothing(
    book: Callable[[str], Playbook], connections: LocalConnections, gate: Gate, tmp_path: Path
) -> None:
    def cut(event: Event) -> None:
        if begins(event, "Slow"):
            connections.cut("w1")
        elif isinstance(event, HostWaiting):
            gate.open()

    outcome = run(book(SLOW.format(log=tmp_path / "log", hold=gate.hold)), connections, cut)
    assert (tmp_path / "log").read_text().split() == ["first", "slow", "done", "last"]
    assert outcome.results("w1") == [("First", "changed"), ("Slow", "changed"), ("Last", "changed")]
    assert outcome.recap.hosts["w1"].unreachable == 0
    assert connections.opened == 2
    assert any(isinstance(event, HostWaiting) and "reconnecting" in event.reason for event in outcome.events)


def test_a_host_that_does_not_come_back_is_named_with_its_task(
    book: Callable[[str], Playbook], connections: LocalConnections, gate: Gate, tmp_path: Path
) -> None:
    def vanish(event: Event) -> None:
        if begins(event, "Slow"):
            connections.gone.add("w1")
            connections.cut("w1")

    outcome = run(book(SLOW.format(log=tmp_path / "log", hold=gate.hold)), connections, vanish)
    recap = outcome.recap.hosts["w1"]
    assert (recap.unreachable, recap.stopped_at) == (1, "Slow")


def test_a_batch_that_was_killed_is_a_failure_and_is_not_begun_again(
    book: Callable[[str], Playbook], connections: LocalConnections, gate: Gate, tmp_path: Path
) -> None:
    def kill(event: Event) -> None:
        if begins(event, "Slow"):
            batch = next((tmp_path / "state" / "w1" / "batches").iterdir())
            os.kill(int((batch / "alive").read_text()), signal.SIGKILL)

    outcome = run(book(SLOW.format(log=tmp_path / "log", hold=gate.hold)), connections, kill)
    recap = outcome.recap.hosts["w1"]
    assert (recap.failed, recap.stopped_at) == (1, "Slow")
    assert "cut off" in recap.reason
    log = (tmp_path / "log").read_text().split()
    assert "first" in log and "last" not in log


def test_an_earlier_run_that_is_still_busy_is_waited_for(
    book: Callable[[str], Playbook], connections: LocalConnections, gate: Gate, tmp_path: Path
) -> None:
    playbook = book(SLOW.format(log=tmp_path / "log", hold=gate.hold))
    earlier = LocalConnections(tmp_path / "state")
    begun = threading.Event()
    thread = threading.Thread(
        target=run, args=(playbook, earlier, lambda event: begun.set() if begins(event, "Slow") else None)
    )
    thread.start()
    assert begun.wait(PATIENCE)
    outcome = run(playbook, connections, lambda event: gate.open(2) if isinstance(event, HostWaiting) else None)
    thread.join(PATIENCE)
    earlier.close()
    assert (tmp_path / "log").read_text().split() == ["first", "slow", "done", "last"] * 2
    assert [type(event) for event in outcome.events][:2] == [PlayStarted, HostWaiting]


def test_ctrl_c_stops_before_the_next_task_and_names_what_was_not_completed(
    book: Callable[[str], Playbook], connections: LocalConnections, gate: Gate, tmp_path: Path
) -> None:
    def interrupt(event: Event) -> None:
        if begins(event, "Slow"):
            raise KeyboardInterrupt

    log = tmp_path / "log"
    text = SLOW.format(log=log, hold=gate.hold) + SLOW.format(log=log, hold="true").replace(
        "hosts: w1", "hosts: w2\n      name: Second play"
    )
    # It comes back although nobody opens the gate.
    outcome = run(book(text), connections, interrupt)
    assert outcome.recap.interrupted == {"w1": "Slow", "w2": "Second play"}
    assert outcome.recap.hosts["w1"].failed == 0
    # What had not been stopped would go on now, and the next run waits for its end.
    gate.open()
    later = LocalConnections(tmp_path / "state")
    after = run(
        book("- {hosts: w1, gather_facts: false, tasks: [{name: After, command: echo}]}"), later, lambda _: None
    )
    later.close()
    assert after.results("w1") == [("After", "changed")]
    assert log.read_text().split() in (["first"], ["first", "slow"])


def test_ctrl_c_during_an_upload_ends_it_at_once(
    book: Callable[[str], Playbook], connections: LocalConnections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = stream.ProcessStream.write
    at: list[float] = []

    def write(self: stream.ProcessStream, data: bytes) -> None:
        """As over a slow line: of a body nothing more is taken once the first piece is."""
        if len(data) < 1 << 18:
            taken(self, data)
            return
        if not at:
            at.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)
        if self._process.wait(PATIENCE) is not None:  # until the connection is closed
            raise ConnectionError("closed")

    monkeypatch.setattr(stream.ProcessStream, "write", write)
    (tmp_path / "body").write_bytes(os.urandom(1 << 20))
    text = f"""
    - hosts: w1
      gather_facts: false
      tasks:
        - name: Copy
          copy: {{src: {tmp_path}/body, dest: {tmp_path}/there}}
    """
    outcome = run(book(text), connections, lambda event: None)
    assert time.monotonic() - at[0] < 2
    assert list(outcome.recap.interrupted) == ["w1"]
    assert outcome.recap.hosts["w1"].failed == outcome.recap.hosts["w1"].unreachable == 0
    assert not (tmp_path / "there").exists()


def test_a_task_without_output_for_too_long_is_cancelled(
    play: Play, connections: LocalConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Before the task the limit is longer: on a busy machine the node program may take longer than that to start.
    connections.limits = Limits(silent=1.0)
    begun = threading.Event()
    real = stream.Lines.read

    def read(lines: stream.Lines, timeout: float | None) -> bytes:
        line = real(lines, timeout if begun.is_set() else PATIENCE)
        if b'"start"' in line:
            begun.set()
        return line

    monkeypatch.setattr(stream.Lines, "read", read)
    endless = f"sleep {10**9 + uuid.uuid4().int % 10**9}"
    outcome = play(f"- {{hosts: w1, gather_facts: false, tasks: [{{name: Endless, command: {endless}}}]}}")
    recap = outcome.recap.hosts["w1"]
    assert (recap.failed, recap.stopped_at) == (1, "Endless")
    assert "no output for 1 s" in recap.reason and "--task-timeout" in recap.reason
    deadline = time.monotonic() + PATIENCE
    while subprocess.run(["pgrep", "-f", endless], capture_output=True, check=False).stdout:
        assert time.monotonic() < deadline, f"{endless} is still running"
        time.sleep(0.05)


THREE_PLAYS = """
- {name: One, hosts: w1, gather_facts: false, tasks: [{name: A, command: "true"}]}
- {name: Two, hosts: "w1:w2", serial: 1, gather_facts: false, tasks: [{name: B, command: "true"}]}
- {name: Three, hosts: head, gather_facts: false, tasks: [{name: C, command: "true"}]}
"""


@pytest.mark.parametrize("error", [BrokenPipeError, KeyboardInterrupt])
@pytest.mark.parametrize(
    ("header", "interrupted"),
    [
        (1, {"w1": "One", "w2": "Two", "head": "Three"}),
        (2, {"w1": "Two", "w2": "Two", "head": "Three"}),
        (3, {"w2": "Two", "head": "Three"}),  # w1 has completed the play: it was its first batch
        (4, {"head": "Three"}),
    ],
)
def test_a_run_that_ends_at_the_header_of_a_play_names_all_that_are_left(
    book: Callable[[str], Playbook],
    connections: LocalConnections,
    error: type[BaseException],
    header: int,
    interrupted: dict[str, str],
) -> None:
    seen: list[PlayStarted] = []

    def show(event: Event) -> None:
        if isinstance(event, PlayStarted):
            seen.append(event)
            if len(seen) == header:
                raise error

    work = PlaybookRun(book(THREE_PLAYS), connections)  # type: ignore[arg-type]
    if error is KeyboardInterrupt:
        assert work.execute(show) is work.recap
    else:
        with pytest.raises(error):
            work.execute(show)
    assert work.recap.interrupted == interrupted


def test_a_run_that_ends_in_a_batch_names_the_batches_after_it(
    book: Callable[[str], Playbook], connections: LocalConnections
) -> None:
    def show(event: Event) -> None:
        if begins(event, "B"):
            raise KeyboardInterrupt

    recap = PlaybookRun(book(THREE_PLAYS), connections).execute(show)  # type: ignore[arg-type]
    assert {"w2": "Two", "head": "Three"}.items() <= recap.interrupted.items()


def test_a_run_that_ends_before_its_first_play_names_all(
    book: Callable[[str], Playbook], connections: LocalConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(hosts: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(connections, "open", gone)
    work = PlaybookRun(book(THREE_PLAYS), connections)  # type: ignore[arg-type]
    with pytest.raises(BrokenPipeError):
        work.execute(lambda event: None)
    assert work.recap.interrupted == {"w1": "One", "w2": "Two", "head": "Three"}
