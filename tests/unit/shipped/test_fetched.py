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

DEBIAN_12 = ["device", "driver", "python 3.11", "release debian 12", "arch amd64", "kernel 6.1.0-30-amd64"]
DEBIAN_13 = ["device", "python 3.13", "release debian 13", "arch amd64", "kernel 6.12.0-1-amd64"]
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


def test_without_any_in_the_inventory_a_host_gets_the_table_s(tmp_path: Path) -> None:
    """Which these are, test_choice.py has."""
    assert Case(tmp_path, DEBIAN_12, known={}).wanted() == [f"{LIBRARY}.bookworm_amd64.deb{BOOKWORM_HASH}"]
    assert Case(tmp_path, DEBIAN_13, known={}).wanted() == [f"{LIBRARY}.trixie_amd64.deb", DRIVER]
    assert Case(tmp_path, DEBIAN_13[1:], known={}).wanted() == []
    assert Case(tmp_path, DEBIAN_13[1:], "cluster_tpus: 2", {}).wanted() == [f"{LIBRARY}.trixie_amd64.deb"]


OWN = "cluster_tpu_packages: [https://a.example/x.deb, debs/y.deb#sha256=" + "b" * 64 + "]"


def test_packages_of_the_inventory_come_before_the_table(tmp_path: Path) -> None:
    lines = DEBIAN_13
    own = ["https://a.example/x.deb", f"debs/y.deb#sha256={'b' * 64}"]
    assert Case(tmp_path, lines, OWN, {}).wanted() == own
    source = OWN + ", cluster_tpu_source: 'deb http://a.example/ stable main'"
    assert Case(tmp_path, lines, source, {}).wanted() == own
    assert Case(tmp_path, lines, "cluster_tpu_packages: []", {}).wanted() == []
    assert Case(tmp_path, lines, "cluster_tpu_packages: null", {}).wanted()[1:] == [DRIVER]
    # Without a TPU there is no use for them.
    assert Case(tmp_path, DEBIAN_13[1:], OWN, {}).wanted() == []


@pytest.mark.parametrize(
    ("line", "architecture", "needed"),
    [
        ("installed libx 1:2.0-1", "amd64", False),
        ("installed libx 1:2.0-2", "amd64", True),
        ("installed libx2 1:2.0-1", "amd64", True),
        ("", "all", True),
        ("", "arm64", False),
    ],
)
def test_what_is_installed_or_of_another_architecture_is_not_fetched(
    tmp_path: Path, line: str, architecture: str, needed: bool
) -> None:
    known = {"https://a.example/x.deb": {**ENTRY, "architecture": architecture}}
    wanted = Case(tmp_path, [line, *DEBIAN_12], OWN, known).wanted()
    assert ("https://a.example/x.deb" in wanted) == needed


def test_what_cannot_be_had_fails_the_host_with_the_reason(tmp_path: Path) -> None:
    known = {"https://a.example/x.deb": {"error": "https://a.example/x.deb: no network"}, "debs/y.deb": dict(ENTRY)}
    results = Case(tmp_path, DEBIAN_12, OWN, known).results()
    said = results["The packages can be had"]
    assert said["failed"]
    assert said["msg"] == "w1 needs packages that cannot be had. https://a.example/x.deb: no network"


def test_check_mode_names_what_it_does_not_fetch(tmp_path: Path) -> None:
    known: dict[str, Any] = {"https://a.example/x.deb": {"pending": True}, "debs/y.deb": dict(ENTRY)}
    case = Case(tmp_path, DEBIAN_12, OWN, known)
    assert case.value("pending_packages") == ["https://a.example/x.deb"]
    assert case.value("had_packages") == ["debs/y.deb"]
    results = case.results()
    assert not results["The packages can be had"].get("failed")
    pending = results["Packages that a run would fetch and ask about"]
    assert pending["changed"] and pending["msg"] == "https://a.example/x.deb"


def test_what_is_fetched_is_not_asked_of_a_source(tmp_path: Path) -> None:
    address = f"{LIBRARY}.trixie_amd64.deb"
    for known in ({}, {address: {**ENTRY, "package": "libedgetpu1-std", "version": "3"}}):
        case = Case(tmp_path, DEBIAN_13, known=known)
        assert case.value("fetches_library", case.tpu) is True
        assert case.value("fetches_driver", case.tpu) is True
    case = Case(tmp_path, DEBIAN_13, "cluster_tpu_packages: []", {})
    assert case.value("fetches_library", case.tpu) is False
    assert case.value("fetches_driver", case.tpu) is False
    # By their names, once they are known, and not by the address.
    known = {"https://a.example/x.deb": {**ENTRY, "package": "libedgetpu1-max"}}
    case = Case(tmp_path, DEBIAN_13, "cluster_tpu_packages: [https://a.example/x.deb]", known)
    assert case.value("fetches_library", case.tpu) is True
    assert case.value("fetches_driver", case.tpu) is False


def test_under_ansible_the_lock_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without clusteradm_files, which Ansible does not know; lookup('env') is Ansible's alone."""
    entry = {name: value for name, value in ENTRY.items() if name != "path"}
    lines = ["installed libx 1:2.0-1", *DEBIAN_12]
    assert Case(tmp_path, lines, OWN).value("known_packages") == {}
    (tmp_path / "clusteradm.lock").write_text(
        json.dumps({"version": 1, "packages": {"https://a.example/x.deb": entry}})
    )
    case = Case(tmp_path, lines, OWN)
    assert case.value("known_packages") == {"https://a.example/x.deb": entry}
    assert case.wanted() == [f"debs/y.deb#sha256={'b' * 64}"]
    assert "debs/y.deb is not in clusteradm.lock" in case.results()["The packages can be had"]["msg"]
