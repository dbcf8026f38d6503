"""The sections of a probe, each in a process of its own: one that dies or hangs takes none of the others along."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from clusteradm.node.account import as_user
from clusteradm.node.probe import pace, share
from clusteradm.node.probe import sections as probe
from clusteradm.node.probe.attempt import attempt
from clusteradm.node.probe.lock import share_lock
from clusteradm.node.texts import read


@pytest.fixture
def sections(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replaces the real sections by the test's own; the one that hangs has a second, the others have time to spare."""

    def install(**named: Callable[[str, dict[str, Any]], Any]) -> None:
        for name, function in named.items():
            module = ModuleType(f"clusteradm.node.probe.{name}")
            module.probe = function  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(probe, "SECTIONS", {name: 1.0 if name == "hangs" else 30.0 for name in named})

    return install


def ask(*names: str) -> dict[str, Any]:
    return dict(probe.run({"sections": names, "options": {"x": 1}}, lambda reply: None)["document"])


def test_each_answers_for_itself(sections: Callable[..., None]) -> None:
    sections(
        hangs=lambda root, options: time.sleep(60),
        dies=lambda root, options: os._exit(1),
        raises=lambda root, options: 1 // 0,
        works=lambda root, options: {"root": root, **options},
        nothing=lambda root, options: None,
        large=lambda root, options: "x" * 1_000_000,
    )
    begun = time.monotonic()
    found = ask()
    assert 1 <= time.monotonic() - begun < 30
    assert found["hangs"].pop("error").startswith("no answer within ") and found["hangs"] == {"timeout": True}
    assert found["load"]["cpus"] and found["load"]["lag"] > 0
    assert found["dies"] == {"error": "the probe's process died"}
    assert found["raises"] == {"error": "ZeroDivisionError: integer division or modulo by zero"}
    assert found["works"] == {"root": "/", "x": 1} and found["nothing"] is None and len(found["large"]) == 1_000_000
    assert set(found["seconds"]) == {"raises", "works", "nothing", "large"}


def test_what_a_section_has_started_ends_with_it(sections: Callable[..., None], tmp_path: Path) -> None:
    """The child that works as another user, and what that has started: with --watch they would become more and more."""

    def hang(root: str, options: dict[str, Any]) -> None:
        def work() -> None:
            program = subprocess.Popen(["sleep", "600"])
            (tmp_path / "pids").write_text(f"{os.getpid()} {os.getppid()} {program.pid}")
            program.wait()

        as_user(pwd.getpwuid(os.geteuid()).pw_name, work, seconds=600)

    sections(hangs=hang)
    assert ask("hangs")["hangs"]["timeout"] is True
    pids = (tmp_path / "pids").read_text().split()
    end = time.monotonic() + 20
    while any(_lives(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    assert [pid for pid in pids if _lives(pid)] == []


def test_work_that_is_late_is_ended_with_what_it_started(tmp_path: Path) -> None:
    def work() -> None:
        program = subprocess.Popen(["sleep", "600"])
        (tmp_path / "pid").write_text(str(program.pid))
        program.wait()

    assert attempt(pwd.getpwuid(os.geteuid()).pw_name, 1.5, work)["timeout"] is True
    end = time.monotonic() + 20
    while _lives((tmp_path / "pid").read_text()) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _lives((tmp_path / "pid").read_text())


def _lives(pid: str) -> bool:
    """Whether the process is there, and no zombie that its new parent has yet to reap."""
    fields = (read("/proc", pid, "stat") or "").rpartition(")")[2].split()
    return bool(fields) and fields[0] not in "ZX"


def test_a_slow_host_is_given_longer() -> None:
    assert pace.factor(0.1) == 1 and pace.factor(1.0) == 2 and pace.factor(60) == 4
    assert pace.seconds(8.0, 4) == 30 and pace.seconds(80.0, 4) == 80 and pace.seconds(4.0, 2) == 8


def test_the_share_has_one_probe_at_a_time(tmp_path: Path) -> None:
    """A child of an earlier probe hangs on the mount: the next one says so and starts no other."""
    (tmp_path / "run").mkdir()
    reader, writer = os.pipe()
    with share_lock(str(tmp_path), 1) as acquired:
        assert acquired
        child = os.fork()
        if child == 0:
            os.read(reader, 1)
            os._exit(0)
    options = {"user": pwd.getpwuid(os.geteuid()).pw_name, "shared": str(tmp_path)}
    found = share.probe(str(tmp_path), options)["use"]
    assert found == {"ok": False, "error": "an earlier probe still waits for it", "timeout": True}
    os.write(writer, b"x")
    os.waitpid(child, 0)
    (tmp_path / "jobs").mkdir()
    assert share.probe(str(tmp_path), options)["use"]["ok"] is True
    assert list((tmp_path / "jobs").iterdir()) == []


def test_only_what_was_asked_for(sections: Callable[..., None]) -> None:
    sections(one=lambda root, options: 1, other=lambda root, options: 2)
    found = ask("other")
    assert found["other"] == 2 and "one" not in found


def test_every_real_section_has_a_module() -> None:
    for name in probe.SECTIONS:
        assert callable(__import__(f"clusteradm.node.probe.{name}", fromlist=["probe"]).probe)
