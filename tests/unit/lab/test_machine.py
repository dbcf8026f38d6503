"""What is said where the lab cannot run, and where this machine's packages come from."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from clusteradm.errors import UsageError
from clusteradm.lab import cgroup, machine, sources
from clusteradm.lab.suites import SUITES


def test_without_root_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match="needs root") as raised:
        machine.require()
    assert "sudo" in raised.value.next_step


def test_a_missing_program_is_named_with_the_package_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    there = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "systemd-nspawn" else there(name) or "/bin/true")
    with pytest.raises(UsageError, match="systemd-container") as raised:
        machine.require()
    assert raised.value.next_step.startswith("install them with: apt-get install")


def test_missing_python_packages_are_named_before_anything_boots(monkeypatch: pytest.MonkeyPatch) -> None:
    machine.require_modules()
    there = importlib.util.find_spec
    lacking = ("numpy", "ai_edge_litert")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in lacking else there(name))
    with pytest.raises(UsageError, match="numpy, ai_edge_litert") as raised:
        machine.require_modules()
    words = shlex.split(raised.value.next_step.removeprefix("install them with: "))
    assert words[:4] == [sys.executable, "-m", "pip", "install"]
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UsageError) as both:
        machine.require_to_boot()
    assert "apt-get install -y" in str(both.value) and raised.value.next_step in str(both.value)
    # As setup.cfg says, so that what is installed is what was tested.
    assert any(word.startswith("ai-edge-litert") and ">=" in word for word in words) and len(words) == 8


def test_every_program_comes_from_a_package_that_is_installed() -> None:
    essential = {"util-linux"}
    assert set(machine.PROGRAMS.values()) - essential <= set(machine.packages())


def test_a_failing_program_is_an_error_with_its_last_words() -> None:
    with pytest.raises(machine.LabError, match="exit 3") as raised:
        machine.run(["sh", "-c", "echo gone wrong >&2; exit 3"])
    assert "gone wrong" in str(raised.value)


LISTING = """\
http://mirror.example/debian/ bookworm main
http://mirror.example/debian/ bookworm-updates main
http://mirror.example/debian/ bookworm contrib
http://mirror.example/security/ bookworm-security main
http://other.example/ stable main
"""


def test_the_image_comes_from_where_this_machine_gets_its_own_packages() -> None:
    assert sources.lines_for(SUITES["bookworm"], LISTING, "bookworm") == [
        "deb http://mirror.example/debian/ bookworm main",
        "deb http://mirror.example/debian/ bookworm-updates main",
        "deb http://mirror.example/security/ bookworm-security main",
    ]


def test_another_release_comes_from_the_same_places() -> None:
    assert sources.lines_for(SUITES["bullseye"], LISTING, "bookworm") == [
        "deb http://mirror.example/debian/ bullseye main",
        "deb http://mirror.example/debian/ bullseye-updates main",
    ]


def test_a_machine_that_is_no_debian_leaves_it_to_the_tools_defaults() -> None:
    assert sources.lines_for(SUITES["bookworm"], LISTING, "") == []


def test_cgroup2_is_found_where_it_is_mounted() -> None:
    hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
    assert cgroup.mount_point(hybrid) == Path("/sys/fs/cgroup/unified")
    with pytest.raises(machine.LabError, match="no cgroup2"):
        cgroup.mount_point("cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n")


def test_where_systemd_runs_the_lab_is_a_scope_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not cgroup.has_systemd(tmp_path)
    (tmp_path / "systemd" / "system").mkdir(parents=True)
    assert cgroup.has_systemd(tmp_path)
    monkeypatch.setattr(cgroup, "mount_point", lambda mounts: tmp_path)
    scope = cgroup.Groups.of("one", systemd=True)
    assert scope.path == tmp_path / "system.slice" / "clusteradm-lab-one.scope"
    assert scope.launcher()[0] == "systemd-run" and "Delegate=yes" in scope.launcher()
    own = cgroup.Groups.of("one", systemd=False)
    assert own.path == tmp_path / "clusteradm-lab" / "one"
    assert own.launcher() == []


def test_a_board_s_memory_is_limited_on_either_hierarchy(tmp_path: Path) -> None:
    unified, legacy = tmp_path / "v2", tmp_path / "v1"
    for folder in (unified, legacy):
        folder.mkdir()
    (unified / "memory.max").touch()
    cgroup.BoardGroup(unified, None).make(1 << 30)
    assert (unified / "memory.max").read_text() == str(1 << 30)
    cgroup.BoardGroup(unified, legacy).make(1 << 29)
    assert (legacy / "memory.limit_in_bytes").read_text() == str(1 << 29)


def test_groups_that_go_by_themselves_meanwhile_are_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd removes the groups of a scope that has ended while the lab does: seen on a machine whose PID 1 it is."""
    top = tmp_path / "scope"
    for number in range(3):
        (top / f"node-{number}" / "payload" / "user.slice").mkdir(parents=True)
    scandir = os.scandir

    def racing(path: str | Path) -> Any:
        if Path(path) == top / "node-1" / "payload" / "user.slice":
            Path(path).rmdir()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", racing)
    cgroup._remove(top)
    assert not top.exists()
