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
from clusteradm.playbook.render.conditions import all_hold
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
        self,
        folder: Path,
        lines: list[str],
        variables: str = "",
        known: dict[str, Any] | None = None,
        check: bool = False,
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
        self.planner = Planner(playbook, state, Templates(), check=check, diff=False, limit=None, files=known)

    def wanted(self) -> list[str]:
        found: list[str] = self.value(files.WANTED)
        assert files.wanted(self.play, [self.host], self.planner).get("w1", []) == found
        if not found:
            assert not self.results()["The packages can be had"].get("failed")
        return found

    def value(self, name: str, play: Any = None) -> Any:
        play = play or self.play
        return strict(self.planner.variables(self.host.host, play, play.steps[0].task, 0)[name])

    def results(self, play: Any = None) -> dict[str, Any]:
        play = play or self.play
        planned = (self.planner.plan(self.host, play, step) for step in play.steps if not step.is_handler)
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


FITS = "The inventory's library fits the host's runtime"


@pytest.mark.parametrize(
    ("package", "version", "lines", "variables", "fits"),
    [
        ("libedgetpu1-std", "16.0", DEBIAN_12, "", False),
        ("libedgetpu1-max", "16.0tf2.13.1-1", DEBIAN_12, "", False),
        # The run before has installed it: the finding is the same, not that a library is to be named.
        (
            "libedgetpu1-std",
            "16.0",
            [*DEBIAN_12, "library", "package 16.0", "installed libedgetpu1-std 16.0"],
            "",
            False,
        ),
        ("libedgetpu1-std", "16.0tf2.19.1-1.bookworm", DEBIAN_12, "", True),
        ("libedgetpu1-std", "16.0", DEBIAN_12, ", cluster_tpu_shim: true", True),
        ("libedgetpu1-std", "16.0", [*DEBIAN_12[1:]], "", True),  # no TPU
        ("libedgetpu1-std", "16.0", ["pycoral", *DEBIAN_12[:2], "python 3.9", *DEBIAN_12[3:]], "", True),
        ("libedgetpu-dev", "16.0", DEBIAN_12, "", True),
    ],
)
def test_a_library_of_the_inventory_that_does_not_fit_is_not_installed(
    tmp_path: Path, package: str, version: str, lines: list[str], variables: str, fits: bool
) -> None:
    known = {"https://a.example/x.deb": {**ENTRY, "package": package, "version": version}}
    own = "cluster_tpu_packages: [https://a.example/x.deb]" + variables
    said = Case(tmp_path, lines, own, known).results()[FITS]
    assert bool(said.get("failed")) != fits
    if not fits:
        assert said["msg"].startswith(
            f"w1: cluster_tpu_packages of the inventory names {package} {version} (https://a.example/x.deb), which "
            "does not fit ai-edge-litert 2.3.0, the runtime of the host's Python 3.11"
        )


def test_packages_that_depend_on_each_other_are_installed_at_once(tmp_path: Path) -> None:
    known = {"https://a.example/x.deb": dict(ENTRY), "debs/y.deb": {**ENTRY, "sha256": "b" * 64, "package": "liby"}}
    case = Case(tmp_path, DEBIAN_12, OWN, known)
    (task,) = (step.task for step in case.play.steps if step.task.name == "Install the packages")
    folder = "/var/lib/clusteradm/packages"
    assert task.loop is None and str(task.args).count("{{ paths }}") == 1
    assert case.value("paths").split() == [f"{folder}/{'a' * 64}.deb", f"{folder}/{'b' * 64}.deb"]
    for said, changed in (
        ("0 upgraded, 0 newly installed, 0 to remove and 3 not upgraded.", False),
        ("0 upgraded, 0 newly installed, 1 downgraded, 0 to remove and 3 not upgraded.", True),
        ("1 upgraded, 0 newly installed, 0 to remove and 3 not upgraded.", True),
        ("10 upgraded, 0 newly installed, 0 to remove and 3 not upgraded.", True),
    ):
        scope = {"installed": {"stdout": f"Reading...\n{said}\n"}}
        assert all_hold(task.changed_when or (), Templates(), scope) == changed, said


def test_headers_of_another_name_will_do(tmp_path: Path) -> None:
    known = {DRIVER: {**ENTRY, "package": "gasket-dkms", "architecture": "all"}}
    name = "Install the kernel's headers for the driver"
    lines = DEBIAN_13
    assert "skipped" not in str(Case(tmp_path, lines, known=known).results()[name])
    assert "skipped" in str(Case(tmp_path, [*lines, "headers"], known=known).results()[name])


def test_check_mode_does_not_name_what_a_source_may_have(tmp_path: Path) -> None:
    """Which it has, a run sees; check mode does not add it."""
    bullseye = ["device", "python 3.9", "release debian 11", "arch amd64", "kernel 5.10.0-30-amd64"]
    assert Case(tmp_path, bullseye, known={}, check=True).wanted() == []
    assert Case(tmp_path, bullseye, known={}).wanted() == [f"{LIBRARY}.bullseye_amd64.deb", DRIVER]
    # Nor does apt look for what no source has yet, or a driver fail that the rebuilt one would take the place of.
    for kernel in ("5.10.0-30-amd64", "6.12.9"):
        case = Case(tmp_path, [*bullseye[:-1], f"kernel {kernel}"], known={}, check=True)
        said = case.results(case.tpu)
        unread = said["Packages that a run would look for in the package source, once it is there"]
        assert unread["changed"] and unread["msg"] == ["libedgetpu1-std", "gasket-dkms"]
        for name in ("Install the library", "Install the driver"):
            assert said[name]["skipped"]
        for name in (
            "A library for the host's runtime can be had",
            "The driver's package can be built for this kernel",
        ):
            assert not said[name].get("failed")
    case = Case(tmp_path, bullseye, known={})
    assert case.results(case.tpu)["Packages that a run would look for in the package source, once it is there"][
        "skipped"
    ]
    # It is there, and gives nothing.
    there = Case(tmp_path, [*bullseye, "source"], known={}, check=True)
    assert there.wanted() == [f"{LIBRARY}.bullseye_amd64.deb", DRIVER]
    assert Case(tmp_path, DEBIAN_13, known={}, check=True).wanted() == [f"{LIBRARY}.trixie_amd64.deb", DRIVER]
    # Nor does it refuse what fits the runtime that the source may have.
    known = {"https://a.example/x.deb": {**ENTRY, "package": "libedgetpu1-std", "version": "16.0"}}
    own = Case(tmp_path, bullseye, "cluster_tpu_packages: [https://a.example/x.deb]", known, check=True)
    assert own.wanted() == ["https://a.example/x.deb"] and not own.results()[FITS].get("failed")


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
