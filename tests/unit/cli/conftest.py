"""Commands on fake hosts: an inventory of a head and two compute nodes, and their node programs' answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clusteradm.cli.main import main
from clusteradm.testing import FakeHosts

INVENTORY = """\
all:
  vars: {cluster_subnet: 10.0.0.0/24, cluster_interface: eth0}
  children:
    head: {hosts: {head: {cluster_ip: 10.0.0.1}}}
    compute: {hosts: {w1: {cluster_ip: 10.0.0.2}, w2: {cluster_ip: 10.0.0.3}}}
"""

# Runs a command with these words; returns its standard output. `status`: the exit status that it shall have.
Run = Callable[..., str]


@pytest.fixture(autouse=True)
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The inventory that every command finds by itself."""
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    monkeypatch.setenv("CLUSTERADM_INVENTORY", str(tmp_path / "inventory.yml"))
    return tmp_path / "inventory.yml"


@pytest.fixture
def hosts() -> Iterator[FakeHosts]:
    """The hosts of the inventory; what they were told to answer has to be asked for."""
    fake = FakeHosts()
    with fake.installed():
        yield fake
    fake.check()


@pytest.fixture
def run(hosts: FakeHosts, capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*words: object, status: int = 0) -> str:
        capsys.readouterr()
        found = main([str(word) for word in words])
        captured = capsys.readouterr()
        assert found == status, captured.err
        return captured.out

    return command


def document(text: str) -> dict[str, Any]:
    """The one JSON document of a --json run."""
    found: dict[str, Any] = json.loads(text)
    assert found.pop("schema_version") == 1
    return found
