"""The same playbooks, run by Ansible and by clusteradm on fresh boards, say and leave the same."""

from __future__ import annotations

import os
import queue
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from agreement import ANSIBLE, CASES, Side, disagreements

from clusteradm.inventory import load
from clusteradm.lab import Lab

# What differs from board to board, and what every case may count on.
ALIKE = """
printf '127.0.0.1 localhost\n127.0.1.1 board\n' >/etc/hosts; echo board >/etc/hostname; hostname board
mkdir /agree; apt-get update -q
"""

pytestmark = pytest.mark.lab


# Who runs a case: Ansible's side and clusteradm's.
Desk = tuple[Side, Side]


@pytest.fixture(scope="module")
def desks(lab_machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Desk]]:
    """Makes desks. All share four boards for each side, fresh and alike; each desk calls another one of them "one"."""
    assert ANSIBLE.exists(), f'there is no {ANSIBLE}: it comes with the extra "dev"'
    folder = tmp_path_factory.mktemp("agree")
    lab = Lab(f"pytest-{os.getpid()}-agree")
    try:
        lab.up(8)
        boards = list(load(lab.inventory).hosts)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda board: lab.exec(board, ["sh", "-c", ALIKE]), boards))
        _give_python3_debian(lab, boards[:4], folder)

        def desk(number: int) -> Desk:
            place = folder / str(number)
            place.mkdir()
            theirs, ours = boards[:4], boards[4:]
            return (
                Side.of(lab, "ansible", theirs[number:] + theirs[:number], place),
                Side.of(lab, "clusteradm", ours[number:] + ours[:number], place),
            )

        yield desk
    finally:
        lab.down()


@pytest.fixture(scope="module")
def first(desks: Callable[[int], Desk]) -> Desk:
    """The desk of those who want all four boards."""
    return desks(0)


@pytest.fixture(scope="module")
def agreement(
    request: pytest.FixtureRequest, desks: Callable[[int], Desk], first: Desk
) -> Iterator[Callable[[Path], list[str]]]:
    """What a case disagrees about. Those of one board are run two at a time: Ansible waits more than it works."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function) and hasattr(item, "callspec")]
    cases = [item.callspec.params["case"] for item in items if item.originalname == test_ansible_agrees.__name__]
    several = [case for case in cases if {play["hosts"] for play in yaml.safe_load(case.read_text())} != {"one"}]
    found = {case: disagreements(*first, case, may_fail=True) for case in several}
    free: queue.SimpleQueue[Desk] = queue.SimpleQueue()
    for desk in (first, desks(1)):
        free.put(desk)

    def run(case: Path) -> list[str]:
        desk = free.get()
        try:
            return disagreements(*desk, case)
        finally:
            free.put(desk)

    pool = ThreadPoolExecutor(2)
    running = {case: pool.submit(run, case) for case in cases if case not in found}
    yield lambda case: found[case] if case in found else running[case].result()
    pool.shutdown(cancel_futures=True)


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
def test_ansible_agrees(agreement: Callable[[Path], list[str]], case: Path) -> None:
    said = agreement(case)
    assert not said, "\n".join([f"{len(said)} disagreements", *said[:30]])


@pytest.mark.parametrize("options", [("--tags", "far"), ("--skip-tags", "far"), ("--tags", "nowhere")], ids=" ".join)
def test_tags_choose_the_same_tasks(first: Desk, options: tuple[str, ...]) -> None:
    theirs, ours = (side.run(CASES / "tags.yml", *options) for side in first)
    assert list(theirs) == list(ours)
    assert [[one["_status"] for one in found] for found in theirs.values()] == [
        [one["_status"] for one in found] for found in ours.values()
    ]
