"""Lines that break, batches that outlive them, and Ctrl-C: with the real node program."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from clusteradm.playbook import Event, Playbook, Run
from clusteradm.transport import Limits

from .conftest import LocalConnections, Outcome, Play

SLOW = """
    - hosts: w1
      become: true
      strategy: free
      gather_facts: false
      tasks:
        - name: First
          shell: echo first >> {log}
        - name: Slow
          shell: echo slow >> {log}; sleep {seconds}; echo done >> {log}
        - name: Last
          shell: echo last >> {log}
"""


def run(playbook: Playbook, connections: LocalConnections, at: Callable[[Event], None]) -> Outcome:
    """Run it, and call `at` with each event."""
    events: list[Event] = []

    def on_event(event: Event) -> None:
        events.append(event)
        at(event)

    return Outcome(events, Run(playbook, connections).execute(on_event))  # type: ignore[arg-type]


def begins(event: Event, task: str) -> bool:
    return event.kind == "start" and event.task == task


def test_a_broken_line_in_the_middle_of_a_task_changes_nothing(
    book: Callable[[str], Playbook], connections: LocalConnections, tmp_path: Path
) -> None:
    def cut(event: Event) -> None:
        if begins(event, "Slow"):
            connections.cut("w1")

    outcome = run(book(SLOW.format(log=tmp_path / "log", seconds=0.5)), connections, cut)
    assert (tmp_path / "log").read_text().split() == ["first", "slow", "done", "last"]
    assert outcome.results("w1") == [("First", "changed"), ("Slow", "changed"), ("Last", "changed")]
    assert outcome.recap.hosts["w1"].unreachable == 0
    assert connections.opened == 2
    assert any(event.kind == "waiting" and "connecting again" in event.text for event in outcome.events)


def test_a_host_that_does_not_come_back_is_named_with_its_task(
    book: Callable[[str], Playbook], connections: LocalConnections, tmp_path: Path
) -> None:
    def vanish(event: Event) -> None:
        if begins(event, "Slow"):
            connections.gone.add("w1")
            connections.cut("w1")

    outcome = run(book(SLOW.format(log=tmp_path / "log", seconds=0.5)), connections, vanish)
    recap = outcome.recap.hosts["w1"]
    assert (recap.unreachable, recap.stopped_at) == (1, "Slow")


def test_a_batch_that_was_killed_is_a_failure_and_is_not_begun_again(
    book: Callable[[str], Playbook], connections: LocalConnections, tmp_path: Path
) -> None:
    def kill(event: Event) -> None:
        if begins(event, "Slow"):
            batch = next((tmp_path / "state" / "w1" / "batches").iterdir())
            os.kill(int((batch / "alive").read_text()), signal.SIGKILL)

    outcome = run(book(SLOW.format(log=tmp_path / "log", seconds=2)), connections, kill)
    recap = outcome.recap.hosts["w1"]
    assert (recap.failed, recap.stopped_at) == (1, "Slow")
    assert "cut off" in recap.reason
    log = (tmp_path / "log").read_text().split()
    assert "first" in log and "last" not in log


def test_an_earlier_run_that_is_still_at_work_is_waited_for(
    book: Callable[[str], Playbook], connections: LocalConnections, tmp_path: Path
) -> None:
    playbook = book(SLOW.format(log=tmp_path / "log", seconds=0.5))
    earlier = LocalConnections(tmp_path / "state")
    begun = threading.Event()
    thread = threading.Thread(
        target=run, args=(playbook, earlier, lambda event: begun.set() if begins(event, "Slow") else None)
    )
    thread.start()
    assert begun.wait(10)
    outcome = run(playbook, connections, lambda event: None)
    thread.join(10)
    earlier.close()
    assert (tmp_path / "log").read_text().split() == ["first", "slow", "done", "last"] * 2
    assert [event.kind for event in outcome.events][:2] == ["play", "waiting"]


def test_ctrl_c_stops_before_the_next_task_and_names_what_was_not_completed(
    book: Callable[[str], Playbook], connections: LocalConnections, tmp_path: Path
) -> None:
    def interrupt(event: Event) -> None:
        if begins(event, "Slow"):
            raise KeyboardInterrupt

    text = SLOW.format(log=tmp_path / "log", seconds=30) + SLOW.format(log=tmp_path / "log", seconds=0).replace(
        "hosts: w1", "hosts: w2\n      name: Second play"
    )
    started = time.monotonic()
    outcome = run(book(text), connections, interrupt)
    assert time.monotonic() - started < 5
    assert outcome.recap.interrupted == {"w1": "Slow", "w2": "Second play"}
    assert outcome.recap.hosts["w1"].failed == 0
    time.sleep(0.5)
    log = (tmp_path / "log").read_text().split()
    assert "first" in log and "done" not in log and "last" not in log


def test_a_task_that_says_nothing_for_too_long_is_stopped(play: Play, connections: LocalConnections) -> None:
    connections.limits = Limits(silent=1.0)
    outcome = play("- {hosts: w1, gather_facts: false, tasks: [{name: Endless, command: sleep 1234567}]}")
    recap = outcome.recap.hosts["w1"]
    assert (recap.failed, recap.stopped_at) == (1, "Endless")
    assert "said nothing for 1 s" in recap.reason and "--task-timeout" in recap.reason
    assert not subprocess.run(["pgrep", "-f", "sleep 1234567"], capture_output=True, check=False).stdout
