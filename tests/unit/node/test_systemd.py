"""The module systemd with a systemctl of the test's own: what it asks, how often, and for how long it believes it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clusteradm.node.spec.wire.node import Apply
from clusteradm.transport import Node

# Units are files in a folder, their state the content. As the real one, it puts an empty line between two units.
SYSTEMCTL = """\
#!/bin/sh
echo "$@" >>{folder}/asked
verb=$1
shift
case $verb in
show)
    first=yes
    for unit; do
        case $unit in bad*) exit 1;; esac
        [ $first ] || echo
        first=
        echo "ExecStart={{ path=/bin/sh ; argv[]=/bin/sh -c one"
        [ $unit != lines.service ] || echo
        echo "two ; }}"
        echo LoadState=loaded
        echo ActiveState=$(cat {folder}/$unit)
    done;;
start) echo active >{folder}/$1;;
esac
"""
UNITS = ("a.service", "b.service", "c.service", "lines.service")


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "units"
    folder.mkdir()
    for unit in UNITS:
        (folder / unit).write_text("active\n")
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(SYSTEMCTL.format(folder=folder))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    return folder


@pytest.fixture
def batch(units: Path, start: Callable[[], Node]) -> Callable[..., list[dict[str, Any]]]:
    """Runs (module, arguments) of several tasks as one batch; their results in order."""
    node = start()

    def run(*tasks: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
        requests = [
            {"index": index, "name": "", "module": module, "args": args, "items": None}
            for index, (module, args) in enumerate(tasks)
        ]
        events = [reply.event for reply in node.ask(Apply("b", requests), timeout=30)]
        return [{**event.result, "status": event.status} for event in events if event.kind == "result"]

    return run


def started(name: str) -> tuple[str, dict[str, Any]]:
    return "systemd", {"name": name, "state": "started"}


def test_one_question_about_all_units_of_a_batch(batch: Callable[..., Any], units: Path) -> None:
    results = batch(started("b.service"), started("a.service"), ("service", {"name": "c.service", "state": "started"}))
    assert [result["status"] for result in results] == ["ok", "ok", "ok"]
    assert (units / "asked").read_text().splitlines() == ["show b.service a.service c.service"]


def test_what_a_task_has_changed_is_asked_again(batch: Callable[..., Any], units: Path) -> None:
    stop = ("shell", {"cmd": f"echo inactive >{units}/c.service"})
    results = batch(started("a.service"), stop, started("c.service"), started("c.service"))
    assert [result["status"] for result in results] == ["ok", "changed", "changed", "ok"]
    assert (units / "c.service").read_text() == "active\n"
    asked = [line for line in (units / "asked").read_text().splitlines() if line.startswith("show")]
    assert asked == ["show a.service c.service", "show c.service", "show c.service"]


def test_what_was_said_long_ago_is_asked_again(batch: Callable[..., Any], units: Path) -> None:
    timer = threading.Timer(0.5, lambda: (units / "c.service").write_text("failed\n"))
    timer.start()
    # Of a wait nobody says that it changed anything.
    results = batch(started("a.service"), ("wait_for", {"timeout": 2}), started("c.service"))
    timer.join()
    assert [result["status"] for result in results] == ["ok", "ok", "changed"]


@pytest.mark.parametrize("other", ["lines.service", "bad.service"])
def test_an_answer_that_cannot_be_taken_apart_is_no_answer(batch: Callable[..., Any], units: Path, other: str) -> None:
    results = batch(started("a.service"), started(other))
    assert results[0]["status"] == "ok" and results[0]["status"] == "ok"
    assert (units / "asked").read_text().splitlines()[:2] == [f"show a.service {other}", "show a.service"]
