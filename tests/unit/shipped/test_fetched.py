"""Which packages a host needs that no package source has (playbooks/vars/fetched.yml), and what becomes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clusteradm import shipped
from clusteradm.inventory import load
from clusteradm.playbook import Templates
from clusteradm.playbook import load as load_playbook
from clusteradm.playbook.render.undefined import strict
from clusteradm.playbook.run import files
from clusteradm.playbook.run.planner import Planner
from clusteradm.playbook.state import RunState

INVENTORY = """\
all:
  vars: {cluster_subnet: 192.168.100.0/24, %s}
  children:
    head: {hosts: {w1: {cluster_ip: 192.168.100.1, cluster_interface: eth0}}}
"""
RELEASES = "https://github.com/feranick"
LIBRARY = f"{RELEASES}/libedgetpu/releases/download/16.0TF2.19.1-1/libedgetpu1-std_16.0tf2.19.1-1"
DRIVER = f"{RELEASES}/gasket-driver/releases/download/1.0-18.4/gasket-dkms_1.0-18.4_all.deb"
# Two that the table has hashes for.
BOOKWORM_HASH = "#sha256=23be53c72eff4d44afc2f727700da185791d3ca0867bd0b5e082ec3a0de21925"

DEBIAN_12 = ["release debian 12", "arch amd64", "python 3.11", "kernel 6.1.0-30-amd64"]
DEBIAN_13 = ["release debian 13", "arch amd64", "python 3.13", "kernel 6.12.0-1-amd64"]
UBUNTU_24 = ["release ubuntu 24.04", "arch arm64", "python 3.12", "kernel 6.8.0-31-generic"]
MENDEL = ["release mendel 10.0", "arch arm64", "python 3.7", "kernel 4.14.98-imx"]
ENTRY = {"sha256": "a" * 64, "package": "libx", "version": "1:2.0-1", "architecture": "amd64", "path": "/c/a"}


class Case:
    """One host, w1, whose inspection gave these lines."""

    def __init__(
        self, folder: Path, lines: list[str], variables: str = "", known: dict[str, Any] | None = None
    ) -> None:
        path = folder / "inventory.yml"
        path.write_text(INVENTORY % variables)
        cluster = load(path)
        playbook = load_playbook(shipped.PLAYBOOKS / "tpu.yml", cluster)
        _, self.play, self.tpu = playbook.plays
        state = RunState(cluster.hosts.values())
        state.begin_play(self.play, cluster.hosts)
        self.host = state.hosts["w1"]
        self.host.results["tpu"] = {"stdout_lines": lines}
        self.planner = Planner(playbook, state, Templates(), check=False, diff=False, limit=None, files=known)

    def wanted(self) -> list[str]:
        found: list[str] = self.value(files.WANTED)
        assert files.wanted(self.play, [self.host], self.planner).get("w1", []) == found
        if not found:
            assert not self.results()["The packages can be had"].get("failed")
        return found

    def value(self, name: str, play: Any = None) -> Any:
        play = play or self.play
        return strict(self.planner.variables(self.host.host, play, play.steps[0].task, 0)[name])

    def results(self) -> dict[str, Any]:
        planned = (self.planner.plan(self.host, self.play, step) for step in self.play.steps)
        return {each.name: each.result or each.request for each in planned}


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        (["device", *DEBIAN_12], [f"{LIBRARY}.bookworm_amd64.deb{BOOKWORM_HASH}", DRIVER]),
        (["device", *DEBIAN_13], [f"{LIBRARY}.trixie_amd64.deb", DRIVER]),
        (["device", "driver", *UBUNTU_24], [f"{LIBRARY}.ubuntu24.04_arm64.deb"]),
        # Its library is there, and of the right generation.
        (["device", "library", "driver", "package libedgetpu1-std 16.0tf2.19.1-1.bookworm", *DEBIAN_12], []),
        (["device", "library", "driver", "package libedgetpu1-std 16.0TF2.17.1-1", *DEBIAN_12], []),
        # Google's, which crashes the runtime of this Python.
        (
            ["device", "library", "driver", "package libedgetpu1-std 16.0", *DEBIAN_12],
            [f"{LIBRARY}.bookworm_amd64.deb{BOOKWORM_HASH}"],
        ),
        (
            ["device", "library", "driver", "package libedgetpu1-max 16.0", *DEBIAN_13],
            [f"{LIBRARY}.trixie_amd64.deb"],
        ),
        # One that a person built: no package knows of it.
        (["device", "library", "driver", *DEBIAN_13], []),
        # Google's source is right for these.
        (["device", *MENDEL], []),
        (["device", "driver", "release debian 11", "arch amd64", "python 3.9", "kernel 5.10.0-30-amd64"], []),
        # But not its driver for a new kernel.
        (
            ["device", "library", "release debian 11", "arch amd64", "python 3.9", "kernel 6.5.0-0.deb11-amd64"],
            [DRIVER],
        ),
        # No TPU, no build for the release, for the architecture, no known Python.
        (DEBIAN_12, []),
        (["device", "driver", "release fedora 40", "arch amd64", "python 3.12", "kernel 6.8"], []),
        (["device", "driver", "release debian 12", "arch armhf", "python 3.11", "kernel 6.1"], []),
        (["device", "release debian 30", "arch amd64", "python 3.99", "kernel 9.1"], []),
        (["device", "arch amd64", "python", "kernel 9.1"], []),
    ],
)
def test_what_a_host_takes_of_the_table(tmp_path: Path, lines: list[str], wanted: list[str]) -> None:
    assert Case(tmp_path, lines, known={}).wanted() == wanted


def test_a_host_that_is_to_have_tpus_is_made_ready_for_them(tmp_path: Path) -> None:
    assert Case(tmp_path, DEBIAN_13, "cluster_tpus: 2", {}).wanted() == [f"{LIBRARY}.trixie_amd64.deb"]


def test_a_source_of_the_inventory_comes_before_the_table(tmp_path: Path) -> None:
    source = "cluster_tpu_source: 'deb http://a.example/ stable main'"
    assert Case(tmp_path, ["device", *DEBIAN_12], source, {}).wanted() == []


OWN = "cluster_tpu_packages: [https://a.example/x.deb, debs/y.deb#sha256=" + "b" * 64 + "]"


def test_packages_of_the_inventory_come_before_the_table(tmp_path: Path) -> None:
    lines = ["device", *DEBIAN_12]
    own = ["https://a.example/x.deb", f"debs/y.deb#sha256={'b' * 64}"]
    assert Case(tmp_path, lines, OWN, {}).wanted() == own
    source = OWN + ", cluster_tpu_source: 'deb http://a.example/ stable main'"
    assert Case(tmp_path, lines, source, {}).wanted() == own
    assert Case(tmp_path, lines, "cluster_tpu_packages: []", {}).wanted() == []
    assert Case(tmp_path, lines, "cluster_tpu_packages: null", {}).wanted()[1:] == [DRIVER]
    # Without a TPU there is no use for them.
    assert Case(tmp_path, DEBIAN_12, OWN, {}).wanted() == []


@pytest.mark.parametrize(
    ("line", "architecture", "needed"),
    [
        ("package libx 1:2.0-1", "amd64", False),
        ("package libx 1:2.0-2", "amd64", True),
        ("package libx2 1:2.0-1", "amd64", True),
        ("", "all", True),
        ("", "arm64", False),
    ],
)
def test_what_is_installed_or_of_another_architecture_is_not_fetched(
    tmp_path: Path, line: str, architecture: str, needed: bool
) -> None:
    known = {"https://a.example/x.deb": {**ENTRY, "architecture": architecture}}
    wanted = Case(tmp_path, ["device", line, *DEBIAN_12], OWN, known).wanted()
    assert ("https://a.example/x.deb" in wanted) == needed


def test_what_cannot_be_had_fails_the_host_with_the_reason(tmp_path: Path) -> None:
    known = {"https://a.example/x.deb": {"error": "https://a.example/x.deb: no network"}, "debs/y.deb": dict(ENTRY)}
    results = Case(tmp_path, ["device", *DEBIAN_12], OWN, known).results()
    said = results["The packages can be had"]
    assert said["failed"]
    assert said["msg"] == "w1 needs packages that cannot be had. https://a.example/x.deb: no network"


def test_check_mode_names_what_it_does_not_fetch(tmp_path: Path) -> None:
    known: dict[str, Any] = {"https://a.example/x.deb": {"pending": True}, "debs/y.deb": dict(ENTRY)}
    case = Case(tmp_path, ["device", *DEBIAN_12], OWN, known)
    assert case.value("pending_packages") == ["https://a.example/x.deb"]
    assert case.value("had_packages") == ["debs/y.deb"]
    results = case.results()
    assert not results["The packages can be had"].get("failed")
    pending = results["Packages that a run would fetch and ask about"]
    assert pending["changed"] and pending["msg"] == "https://a.example/x.deb"


def test_what_is_fetched_is_not_asked_of_a_source(tmp_path: Path) -> None:
    address = f"{LIBRARY}.trixie_amd64.deb"
    lines = ["device", *DEBIAN_13]
    for known in ({}, {address: {**ENTRY, "package": "libedgetpu1-std", "version": "3"}}):
        case = Case(tmp_path, lines, known=known)
        assert case.value("needs_library", case.tpu) is False
        assert case.value("needs_driver", case.tpu) is False
    case = Case(tmp_path, lines, "cluster_tpu_packages: []", {})
    assert case.value("needs_library", case.tpu) is True
    assert case.value("needs_driver", case.tpu) is True


def test_under_ansible_the_lock_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without clusteradm_files, which Ansible does not know; lookup('env') is Ansible's alone."""
    entry = {name: value for name, value in ENTRY.items() if name != "path"}
    lines = ["device", "package libx 1:2.0-1", *DEBIAN_12]
    assert Case(tmp_path, lines, OWN).value("known_packages") == {}
    (tmp_path / "clusteradm.lock").write_text(
        json.dumps({"version": 1, "packages": {"https://a.example/x.deb": entry}})
    )
    case = Case(tmp_path, lines, OWN)
    assert case.value("known_packages") == {"https://a.example/x.deb": entry}
    assert case.wanted() == [f"debs/y.deb#sha256={'b' * 64}"]
    assert "debs/y.deb is not in clusteradm.lock" in case.results()["The packages can be had"]["msg"]
