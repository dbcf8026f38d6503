"""What clusteradm reads is what Ansible reads: tests/fixtures/inventory, and what `ansible-inventory` made of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clusteradm.cli import main
from clusteradm.inventory import load

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "inventory"
INVENTORY = FIXTURES / "inventory.yml"


def printed(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main.main(["inventory", "-i", str(INVENTORY), *options]) == 0
    return capsys.readouterr().out


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(printed(capsys, "--list")) == json.loads((FIXTURES / "ansible-list.json").read_text())


def test_graph(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "--graph") == (FIXTURES / "ansible-graph.txt").read_text()


def test_host(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "--host", "b") == (FIXTURES / "ansible-host-b.json").read_text()


def test_origins_name_the_line_that_won() -> None:
    # Ansible has no such output: each line is looked up in its file.
    for host in load(INVENTORY).hosts.values():
        assert host.origins.keys() == host.vars.keys()
        for name, origin in host.origins.items():
            line = Path(origin.file).read_text().splitlines()[origin.line - 1]
            key = {"ansible_port": "2222", "rack": "common", "shelf": "common"}.get(name, name)
            assert key in line, (host.name, name, origin)


@pytest.mark.parametrize(
    ("name", "place", "scope"),
    [
        ("cluster_tpus", "c-01.yml:1", "host c-01"),
        ("shade", "compute.yaml:1", "group compute"),
        ("colour", "inventory.yml:26", "group zinc"),
        ("bought", "inventory.yml:10", "all"),
    ],
)
def test_origin_of_one_host(capsys: pytest.CaptureFixture[str], name: str, place: str, scope: str) -> None:
    row = next(line for line in printed(capsys, "--origin", "c-01").splitlines() if line.startswith(f"{name} "))
    assert row.endswith(scope) and f"/{place} " in row


def test_origins_of_every_host_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(printed(capsys, "--origin", "--json"))
    assert document["schema_version"] == 1 and next(iter(document["hosts"])) == "h"
    origin = document["hosts"]["b"]["shade"]
    assert origin["value"] == "group_vars/big/2" and origin["file"].endswith("group_vars/big/2.yml")


def test_a_host_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["inventory", "-i", str(INVENTORY), "--host", "nobody"]) == 2
    assert "no such host: nobody" in capsys.readouterr().err
