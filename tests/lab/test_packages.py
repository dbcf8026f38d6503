"""Packages from an address and from a file: put on boards by both engines, kept to what was accepted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lying_server as lying
import pytest
import yaml
from agreement import run_ansible
from lying_server import Server

from clusteradm import shipped
from clusteradm.lab import Lab

pytestmark = pytest.mark.lab

PLAYBOOK = shipped.PLAYBOOKS / "tpu.yml"
# Of the lab's packages, one that no board has at first.
DEPENDENCY = "libevent-core-2.1-7"
CONTROL = """\
Package: {name}
Version: {version}
Architecture: {architecture}
Maintainer: clusteradm lab <lab@localhost>
Depends: {depends}
Description: made for a test
"""


def build(folder: Path, name: str, version: str, architecture: str = "all", depends: str = "dpkg") -> Path:
    """A package with one file, made by dpkg-deb."""
    root = folder / f"{name}-{version}"
    (root / "DEBIAN").mkdir(parents=True)
    control = CONTROL.format(name=name, version=version, architecture=architecture, depends=depends)
    (root / "DEBIAN" / "control").write_text(control)
    (root / "usr" / "share" / name).mkdir(parents=True)
    (root / "usr" / "share" / name / "version").write_text(version)
    path = folder / f"{name}_{version.replace(':', '%3a')}_{architecture}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", root, path], check=True, capture_output=True)
    return path


class Boards:
    """Two bare boards, an inventory that names a file beside it and an address, and the server at that address."""

    def __init__(self, lab: Lab, folder: Path, server: Server) -> None:
        self.lab, self.folder, self.server = lab, folder, server
        self.inventory = folder / "inventory.yml"
        document = yaml.safe_load(lab.inventory.read_text(encoding="utf-8"))
        document["all"]["vars"]["cluster_tpu_packages"] = ["debs/lab-file.deb", server.address(), "debs/lab-other.deb"]
        self.inventory.write_text(yaml.safe_dump(document), encoding="utf-8")
        (folder / "known_hosts").write_bytes(lab.inventory.with_name("known_hosts").read_bytes())
        self.env = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}

    def run(self, *args: object, expect: int = 0) -> tuple[str, str]:
        argv = [sys.executable, "-m", "clusteradm", *map(str, args), "-i", str(self.inventory)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False, env=self.env)
        assert done.returncode == expect, f"{done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout, done.stderr

    def bootstrap(self, *args: object, expect: int = 0) -> dict[str, Any]:
        out, self.said = self.run("bootstrap", "--json", "--playbook", PLAYBOOK, *args, expect=expect)
        return dict(json.loads(out)["hosts"])

    def on(self, node: str, command: str) -> str:
        return str(self.lab.exec(node, ["sh", "-c", command], timeout=120).stdout).strip()

    def installed(self, *names: str) -> list[list[str]]:
        """Versions of these packages, on each board."""
        show = f"dpkg-query -W -f '${{db:Status-Status}} ${{Version}}\\n' {' '.join(names)} 2>/dev/null || true"
        return [
            [line.removeprefix("installed ") for line in self.on(node, show).splitlines() if "installed" in line[:9]]
            for node in ("head", "w1")
        ]


@pytest.fixture(scope="module")
def boards(lab_machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boards]:
    lab = Lab(f"pytest-{os.getpid()}-packages", say=lambda text: print(text, file=sys.stderr))
    folder = tmp_path_factory.mktemp("packages")
    (folder / "debs").mkdir()
    build(folder / "debs", "lab-file", "1:2.0~rc1-1").rename(folder / "debs" / "lab-file.deb")
    build(folder / "debs", "lab-other", "1", architecture="armhf").rename(folder / "debs" / "lab-other.deb")
    served = build(folder / "debs", "lab-served", "1.0", depends=DEPENDENCY).read_bytes()
    try:
        lab.up(2)
        for node in ("head", "w1"):
            lab.exec(node, ["groupadd", "--system", "apex"])  # base.yml's
        with lying.running(Server(served)) as server:
            yield Boards(lab, folder, server)
    finally:
        lab.down()


def test_nothing_is_installed_that_nobody_accepted(boards: Boards) -> None:
    hosts = boards.bootstrap("--check")
    assert boards.server.asked == []
    pending = [task for task in hosts["w1"]["tasks"] if task["task"] == "Packages that a run would fetch and ask about"]
    assert pending[0]["status"] == "changed"
    hosts = boards.bootstrap(expect=3)
    for name in ("head", "w1"):
        reason = " ".join(hosts[name]["reason"].split())
        assert f"{boards.server.address()} was not accepted." in reason and "debs/lab-file.deb was not" in reason
    assert "lab-file 1:2.0~rc1-1 (all)" in boards.said and "not a terminal: nothing accepted" in boards.said
    assert boards.installed("lab-file", "lab-served", DEPENDENCY) == [[], []]
    assert not (boards.folder / "clusteradm.lock").exists()


def test_what_is_accepted_is_installed_with_what_it_depends_on(boards: Boards) -> None:
    """The boards have no way to this machine's loopback, and apt's lists are still missing."""
    boards.bootstrap("--accept-new")
    assert boards.installed("lab-file", "lab-served") == [["1:2.0~rc1-1", "1.0"]] * 2
    assert boards.installed("lab-other") == [[], []]  # of another architecture
    assert [len(versions) for versions in boards.installed(DEPENDENCY)] == [1, 1]
    assert boards.on("w1", f"apt-mark showauto {DEPENDENCY} lab-served") == DEPENDENCY
    packages = json.loads((boards.folder / "clusteradm.lock").read_text())["packages"]
    assert list(packages) == ["debs/lab-file.deb", "debs/lab-other.deb", boards.server.address()]


def test_a_second_run_changes_and_fetches_nothing(boards: Boards) -> None:
    asked = len(boards.server.asked)
    shutil.rmtree(boards.folder / "cache")  # and needs no cache
    hosts = boards.bootstrap()
    changed = [(name, task["task"]) for name in hosts for task in hosts[name]["tasks"] if task["status"] == "changed"]
    assert changed == [] and {host["changed"] for host in hosts.values()} == {0}
    assert len(boards.server.asked) == asked


def test_it_is_removed_by_apt_and_put_back_by_ansible(boards: Boards, monkeypatch: pytest.MonkeyPatch) -> None:
    boards.on("w1", "apt-get -y -q autoremove lab-served lab-file >/dev/null 2>&1")
    assert boards.installed("lab-file", "lab-served", DEPENDENCY)[1] == []
    for name, value in boards.env.items():
        monkeypatch.setenv(name, value)
    # Its cache is empty: it says what fills it.
    said, stats = run_ansible(boards.inventory, PLAYBOOK)
    assert stats["w1"]["failures"] == 1 and stats["head"]["changed"] == 0
    assert "clusteradm bootstrap fetches it" in str(said)
    boards.bootstrap("--check")
    _, stats = run_ansible(boards.inventory, PLAYBOOK)
    assert stats["w1"]["failures"] == 0 and stats["w1"]["changed"] > 0
    assert boards.installed("lab-file", "lab-served")[1] == ["1:2.0~rc1-1", "1.0"]
    assert {host["changed"] for host in boards.bootstrap().values()} == {0}


def test_a_changed_file_is_refused_until_it_is_intended(boards: Boards) -> None:
    boards.on("w1", "apt-get -y -q remove lab-served >/dev/null 2>&1")
    shutil.rmtree(boards.folder / "cache")
    boards.server.body = build(boards.folder / "debs", "lab-served", "2.0", depends=DEPENDENCY).read_bytes()
    boards.server.etag = '"second"'
    hosts = boards.bootstrap("--accept-new", expect=3)
    reason = " ".join(hosts["w1"]["reason"].split())
    address = boards.server.address()
    assert "it is another file" in reason or "bytes, not" in reason
    assert hosts["head"]["failed"] == 0 and boards.installed("lab-served") == [["1.0"], []]
    remedy = reason[reason.index("clusteradm packages forget") :].split()
    assert remedy[-1] == address
    boards.run("packages", "forget", address)
    boards.bootstrap("--accept-new")
    assert boards.installed("lab-served") == [["2.0"], ["2.0"]]
    assert {host["changed"] for host in boards.bootstrap().values()} == {0}


def test_a_file_that_is_damaged_on_its_way_is_not_installed(boards: Boards) -> None:
    """What lies in the boards' folder is replaced, or refused by the boards' own programs."""
    boards.on(
        "w1",
        "apt-get -y -q remove lab-file >/dev/null 2>&1; for f in /var/lib/clusteradm/packages/*; do echo x >>$f; done",
    )
    boards.bootstrap()
    assert boards.installed("lab-file")[1] == ["1:2.0~rc1-1"]
    sums = boards.on("w1", "cd /var/lib/clusteradm/packages && for f in *.deb; do sha256sum <$f | cut -c 1-64; done")
    entry = json.loads((boards.folder / "clusteradm.lock").read_text())["packages"]["debs/lab-file.deb"]
    assert entry["sha256"] in sums.split()
