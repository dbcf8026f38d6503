"""Every shipped template, rendered for the example inventories by the code of the run, against golden files.

To accept what the templates give now: CLUSTERADM_GOLDEN=write pytest tests/unit/shipped/test_templates.py
"""

from __future__ import annotations

import ast
import os
import subprocess
from pathlib import Path

import pytest

from clusteradm import shipped
from clusteradm.inventory import Cluster, Host, load
from clusteradm.playbook.preview import preview

GOLDEN = Path(__file__).resolve().parents[2] / "fixtures" / "templates"
INVENTORIES = sorted(shipped.INVENTORY.glob("*.yml"))
# Rendered from what a node said: test_network_profile.py and test_package_sources.py.
OF_A_RUN = {
    "node/etc/NetworkManager/system-connections/cluster.nmconnection.j2",
    "node/etc/apt/sources.list.j2",
}
TEMPLATES = sorted(
    str(path.relative_to(shipped.TEMPLATES))
    for path in shipped.TEMPLATES.rglob("*.j2")
    if str(path.relative_to(shipped.TEMPLATES)) not in OF_A_RUN
)


def render(template: str, cluster: Cluster, host: Host) -> str:
    return preview(shipped.TEMPLATES / template, shipped.PLAYBOOKS / "bootstrap.yml", cluster, host)


def host_for(template: str, cluster: Cluster) -> Host:
    """The head for what only it gets; else the last compute node, the one with settings of its own in the examples."""
    return cluster.head if template.startswith("head/") else cluster.compute[-1]


@pytest.mark.parametrize("inventory", INVENTORIES, ids=lambda path: path.stem)
@pytest.mark.parametrize("template", TEMPLATES)
def test_golden(template: str, inventory: Path) -> None:
    cluster = load(inventory)
    rendered = render(template, cluster, host_for(template, cluster))
    golden = GOLDEN / inventory.stem / template.removesuffix(".j2")
    if os.environ.get("CLUSTERADM_GOLDEN") == "write":
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(rendered, encoding="utf-8")
    assert rendered == golden.read_text(encoding="utf-8")


def test_no_golden_file_is_left_over() -> None:
    there = {path.relative_to(GOLDEN) for path in GOLDEN.rglob("*") if path.is_file()}
    wanted = {Path(path.stem, name.removesuffix(".j2")) for path in INVENTORIES for name in TEMPLATES}
    assert there == wanted


@pytest.mark.parametrize("template", TEMPLATES)
def test_whoever_finds_the_file_on_a_node_reads_where_it_comes_from(template: str) -> None:
    cluster = load(INVENTORIES[0])
    assert "clusteradm bootstrap" in render(template, cluster, host_for(template, cluster))


@pytest.mark.parametrize("template", [name for name in TEMPLATES if "/bin/" in name])
def test_programs_have_no_syntax_error(template: str) -> None:
    cluster = load(INVENTORIES[0])
    program = render(template, cluster, host_for(template, cluster))
    if program.startswith("#!/bin/sh\n"):
        subprocess.run(["sh", "-n"], input=program, text=True, check=True)
    else:
        assert program.startswith("#!/opt/clusteradm/bin/python3\n")
        ast.parse(program, feature_version=(3, 7))
