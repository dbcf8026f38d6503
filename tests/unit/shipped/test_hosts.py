"""What bootstrap decides on each kind of host (tests/fixtures/hosts), and the table of them in the documentation."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusteradm import shipped
from clusteradm.node.probe import machine
from clusteradm.playbook import Templates

from .test_network import NETWORK_FILES, PretendedHost

ROOT = Path(__file__).resolve().parents[3]
HOSTS = sorted((ROOT / "tests" / "fixtures" / "hosts").glob("*.yml"))


def load(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def task(playbook: str, register: str) -> str:
    """The shell commands of the task that registers `register`."""
    plays = yaml.safe_load((shipped.PLAYBOOKS / playbook).read_text(encoding="utf-8"))
    (found,) = (each for play in plays for each in play["tasks"] if each.get("register") == register)
    return str(found["ansible.builtin.shell"])


def variables(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((shipped.PLAYBOOKS / "vars" / name).read_text(encoding="utf-8")))


@pytest.fixture(params=HOSTS, ids=lambda path: path.stem)
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    return load(request.param)


@pytest.fixture
def host(case: dict[str, Any], tmp_path: Path) -> PretendedHost:
    made = PretendedHost(tmp_path)
    made.units(*case.get("units", ()))
    for name in case.get("programs", ()):
        made.program(name)
    for name in case.get("failing", ()):
        made.program(name, status=1)
    for name, says in case.get("says", {}).items():
        made.program(name, says)
    if "networkd" in case:
        about = case["networkd"]
        made.networkd(about["setup"], str(tmp_path) + about["file"], about["version"])
    for name, text in case["files"].items():
        # Patterns in it are of files on this host.
        made.write(name, text.replace("/etc/", f"{tmp_path}/etc/") if name == "etc/network/interfaces" else text)
    return made


def test_the_tool_of_its_network_and_the_file_for_it(case: dict[str, Any], host: PretendedHost) -> None:
    assert host.kind() == [f"network {case['expected']['network']}"]
    assert "10.20.0.2/24" in host.bootstrap()
    written = {path for path in NETWORK_FILES.values() if (host.root / path).exists()}
    assert written == {case["expected"]["writes"].lstrip("/")}


def test_its_package_sources(case: dict[str, Any], host: PretendedHost) -> None:
    def said(command: str) -> list[str]:
        command = command.replace("/etc/", f"{host.root}/etc/")
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        return done.stdout.replace(str(host.root), "").splitlines()

    values = variables("sources.yml")
    pattern = Templates().string(values["archived_source"], values)
    (loop,) = re.findall(r"for file in \$\(grep.*?done", task("prepare.yml", "look"), re.DOTALL)
    found = said(loop.replace("{{ archived_source }}", pattern))
    assert [line.removeprefix("archived ") for line in found] == case["expected"]["archived"]
    # What the head lets the others fetch through it: the same servers, in either form.
    servers = said(task("relay.yml", "relayed").replace("{{ relay_packages[0] }}", "-"))
    assert servers == sorted(case["expected"]["servers"])


def test_its_runtime_and_the_library_of_its_open_mpi(case: dict[str, Any]) -> None:
    rows = [row for row in variables("runtimes.yml")["runtimes"] if case["python"] in row["python"]]
    assert rows[0]["name"] == case["expected"]["runtime"]
    release = dict(re.findall(r'^(ID|VERSION_ID)="?([^"\n]*)"?$', case["files"]["etc/os-release"], re.MULTILINE))
    libraries = [package for package in rows[0]["packages"] if package["name"] == "libedgetpu1-std"]
    built = [package["builds"][f"{release['ID']} {release['VERSION_ID']}"] for package in libraries]
    assert built == ([case["expected"]["build"]] if "build" in case["expected"] else [])
    assert case["library"] in machine.PACKAGES


def test_the_table_in_the_documentation_has_every_kind() -> None:
    text = (ROOT / "docs" / "hosts.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    table = {row[0]: row for row in rows}
    for path in HOSTS:
        about = load(path)
        row = table[about["host"]]
        assert row[2] == about["python"] and row[4].startswith(str(about["openmpi"])), path.stem
        assert "fixtures" in row[1]
