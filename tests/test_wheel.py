"""The wheel works with no checkout: built, installed into a clean virtual environment, used from an empty folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

INVENTORY = """\
all:
  vars: {cluster_subnet: 10.0.0.0/24, ansible_user: mendel}
  children:
    head: {hosts: {h: {ansible_host: 192.0.2.1, cluster_ip: 10.0.0.1, cluster_interface: eth0}}}
    compute: {hosts: {c: {ansible_host: 192.0.2.2, cluster_ip: 10.0.0.2, cluster_interface: eth0}}}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed `clusteradm` of a clean environment."""
    place = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    # From a copy of what git knows: an in-tree build would leave its folders in the checkout.
    source = place / "source"
    source.mkdir()
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-cf", place / "source.tar", "--null", "-T", "-"], cwd=ROOT, input=files, check=True)
    subprocess.run(["tar", "-xf", place / "source.tar", "-C", source], check=True)
    subprocess.run([*pip, "wheel", "--no-deps", "-w", place / "dist", source], check=True)
    subprocess.run([sys.executable, "-m", "venv", place / "venv"], check=True)
    wheel = next((place / "dist").glob("clusteradm-*.whl"))
    python = place / "venv/bin/python"
    pip[0] = str(python)
    subprocess.run([*pip, "install", "-c", ROOT / "constraints.txt", wheel], check=True)
    return place / "venv/bin/clusteradm"


def run(program: Path, cwd: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": "/usr/bin:/bin", "HOME": str(cwd)}
    return subprocess.run([program, *args], cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


def test_help(program: Path, tmp_path: Path) -> None:
    result = run(program, tmp_path, "--help")
    assert result.returncode == 0
    assert "bootstrap" in result.stdout and "examples:" in result.stdout


def test_inventory(program: Path, tmp_path: Path) -> None:
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    result = run(program, tmp_path, "inventory", "--list")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["_meta"]["hostvars"]["c"]["cluster_ip"] == "10.0.0.2"


def test_a_rendered_template(program: Path, tmp_path: Path) -> None:
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    result = run(program, tmp_path, "template", "show", "--host", "c", "/etc/openmpi/openmpi-mca-params.conf")
    assert result.returncode == 0, result.stderr
    assert "btl_tcp_if_include = 10.0.0.0/24" in result.stdout


def test_the_shipped_playbooks_are_there(program: Path, tmp_path: Path) -> None:
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    result = run(program, tmp_path, "bootstrap", "--help")
    assert result.returncode == 0, result.stderr
    found = list(program.parents[1].rglob("shipped/playbooks/bootstrap.yml"))
    assert len(found) == 1
