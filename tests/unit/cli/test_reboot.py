"""reboot, poweroff and locate as they are typed, on fake hosts: what they ask, say and return."""

from __future__ import annotations

from typing import Any

import pytest

from clusteradm.cli import display, power_view
from clusteradm.cli.main import main
from clusteradm.errors import HostUnreachable
from clusteradm.fleet import power
from clusteradm.testing import FakeHosts

from .conftest import Run, document

JOB = "20260101-000000-abcdef"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power.time, "sleep", lambda seconds: None)


def reboots(hosts: FakeHosts, *names: str) -> None:
    for name in names:
        hosts[name].answer("change-power", {"boot": "before"})
        hosts[name].answer_always("hello", {"protocol": 1, "python": "3.7", "time": 0, "boot": "after"})


def test_all_of_a_limit_at_once(hosts: FakeHosts, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    reboots(hosts, "w1", "w2")
    found = document(run("reboot", "--limit", "compute", "--yes", "--json"))
    assert sorted(found["seconds"]) == ["w1", "w2"] and found["failed"] == {}


def test_a_host_that_does_not_come_back(hosts: FakeHosts, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    hosts["w1"].answer("change-power", {"boot": "before"})
    hosts["w1"].answer_always("hello", HostUnreachable("no route", where="w1"))
    assert main(["reboot", "--limit", "w1", "--yes", "--boot-timeout", "1"]) == 4
    assert "w1: it did not come back within 1 s: no route" in capsys.readouterr().err


def test_nobody_can_be_asked(hosts: FakeHosts, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("reboot", "poweroff"):
        hosts["head"].answer("job-list", {"jobs": []})
        assert main([command, "--limit", "w1"]) == 2
        assert f"clusteradm {command} --limit w1 --yes" in capsys.readouterr().err


def test_the_question_names_the_jobs_that_it_would_hit(
    hosts: FakeHosts, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(display, "can_ask", lambda: True)
    monkeypatch.setattr(display, "confirm", lambda table, question: asked.append((table, question)))
    monkeypatch.setattr(power_view, "running_on", lambda jobs: {"w2": [JOB]})
    run("poweroff", "--limit", "w2")
    run("reboot", "--limit", "w1")
    run("reboot")
    assert asked == [
        (f"w2\nrunning there: job {JOB}", "Switch off 1 host?"),
        ("w1", "Reboot 1 host?"),
        (
            f"w[1-2],head\nrunning there: job {JOB}\nwith the head: the shared directory is gone until it is back",
            "Reboot 3 hosts?",
        ),
    ]


def test_in_turns(hosts: FakeHosts, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    drained: dict[str, Any] = {}

    def drains(fields: Any) -> dict[str, Any]:
        drained.update({name: {**about, "since": 1} for name, about in fields["drain"].items()})
        for name in fields["undrain"]:
            del drained[name]
        return {"drains": dict(drained)}

    hosts["head"].answer_always("drains", drains)
    hosts["head"].answer_always("job-list", {"jobs": []})
    hosts["w1"].answer_always("probe", {"document": {}})
    hosts["w2"].answer_always("probe", {"document": {}})
    reboots(hosts, "w1", "w2")
    words = ("reboot", "--rolling", "1", "--limit", "compute", "--json")
    assert document(run(*words))["rebooted"] == ["w1", "w2"] and drained == {}
    hosts["w1"].answer("change-power", HostUnreachable("gone", where="w1"))
    found = document(run(*words, status=4))
    assert (found["rebooted"], list(found["failed"]), found["not_begun"]) == ([], ["w1"], ["w2"])
    assert list(drained) == found["drained"] == ["w1"]
    assert main(["reboot", "--hand-on"]) == 2
    assert "--hand-on is for --rolling" in capsys.readouterr().err


def test_ctrl_c_says_what_is_left(
    hosts: FakeHosts, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*about: Any) -> None:
        about[-1].drained, about[-1].left = ["w1"], ["w2", "head"]
        raise KeyboardInterrupt

    monkeypatch.setattr(power, "in_turns", interrupted)
    assert main(["reboot", "--rolling", "1"]) == 130
    err = capsys.readouterr().err
    assert "left out of service: w1; when all is well: clusteradm undrain w1" in err and "not begun: w2, head" in err


def test_locate(hosts: FakeHosts, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    hosts["w1"].answer("locate", {}, {"by": "led", "device": "ACT\x1b", "leds": ["ACT"]})
    assert main(["locate", "w1", "--seconds", "5000"]) == 0
    assert "w1 blinks, by its LED ACT\\x1b, for 600 s" in capsys.readouterr().err
    hosts["w1"].answer("locate", {}, {"by": None})
    assert main(["locate", "w1"]) == 3
    assert "no LED of its own, and no beeper" in capsys.readouterr().err
