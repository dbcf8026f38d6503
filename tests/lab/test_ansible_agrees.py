"""The same playbooks, run by Ansible and by clusteradm on fresh boards, say and leave the same."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from agreement import ANSIBLE, CASES, Side, disagreements

from clusteradm.inventory import load
from clusteradm.lab import Lab

# What differs from board to board, and what every case may count on.
ALIKE = """
printf '127.0.0.1 localhost\n127.0.1.1 board\n' >/etc/hosts; echo board >/etc/hostname; hostname board
mkdir /agree; apt-get update -q
"""

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def sides(lab_machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    """Four boards for each, fresh and alike."""
    assert ANSIBLE.exists(), f'there is no {ANSIBLE}: it comes with the extra "dev"'
    folder = tmp_path_factory.mktemp("agree")
    lab = Lab(f"pytest-{os.getpid()}-agree")
    try:
        lab.up(8)
        boards = list(load(lab.inventory).hosts)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda board: lab.exec(board, ["sh", "-c", ALIKE]), boards))
        _give_python3_debian(lab, boards[:4], folder)
        yield Side.of(lab, "ansible", boards[:4], folder), Side.of(lab, "clusteradm", boards[4:], folder)
    finally:
        lab.down()


def _give_python3_debian(lab: Lab, boards: list[str], folder: Path) -> None:
    """Ansible's deb822_repository needs it on the board; it needs to be no package there."""
    names = ["python3-debian", "python3-chardet"]
    subprocess.run(["apt-get", "download", *names], cwd=folder, check=True, capture_output=True, timeout=120)
    for package in folder.glob("python3-*.deb"):
        archive = package.with_suffix(".tar")
        with archive.open("wb") as file:
            subprocess.run(["dpkg-deb", "--fsys-tarfile", package], stdout=file, check=True, timeout=60)
        for board in boards:
            with archive.open("rb") as file:
                lab.exec(board, ["tar", "-x", "-C", "/"], stdin=file)


@pytest.mark.parametrize("case", sorted(CASES.glob("*.yml")), ids=lambda path: path.stem)
def test_ansible_agrees(sides: tuple[Side, Side], case: Path) -> None:
    said = disagreements(*sides, case)
    assert not said, "\n".join([f"{len(said)} disagreements", *said[:30]])


@pytest.mark.parametrize("options", [("--tags", "far"), ("--skip-tags", "far"), ("--tags", "nowhere")], ids=" ".join)
def test_tags_choose_the_same_tasks(sides: tuple[Side, Side], options: tuple[str, ...]) -> None:
    theirs, ours = (side.run(CASES / "tags.yml", *options) for side in sides)
    assert list(theirs) == list(ours)
    assert [[one["_status"] for one in found] for found in theirs.values()] == [
        [one["_status"] for one in found] for found in ours.values()
    ]
