"""The same playbooks, run by Ansible and by clusteradm on fresh boards, say and leave the same.

Ansible's results are remembered (see remembered.py); clusteradm runs every case every time.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
import yaml
from agreement import ANSIBLE, CASES, NAMES, Look, Said, Side, disagreements
from remembered import Memory, of_boards, of_case

from clusteradm.inventory import load
from clusteradm.lab import Lab

# What differs from board to board, and what every case may count on.
ALIKE = """
printf '127.0.0.1 localhost\n127.0.1.1 board\n' >/etc/hosts; echo board >/etc/hostname; hostname board
mkdir /agree; apt-get update -q
"""

pytestmark = pytest.mark.lab

# Cases of one board that run at a time, for each engine.
DESKS = 2
ALL = sorted(CASES.glob("*.yml"))
OF_ONE_BOARD = [case for case in ALL if {play["hosts"] for play in yaml.safe_load(case.read_text())} == {"one"}]


class Engine:
    """Ansible or clusteradm, and its four boards, fresh and alike. Each of its desks calls another board "one"."""

    def __init__(
        self, desks: Sequence[Side], memory: Callable[[str, Sequence[object], Callable[[], Any]], Any]
    ) -> None:
        """`memory`: gives the value of (name, what it depends on, how it is computed)."""
        self.desks = desks
        self.memory = memory

    def begin(self, cases: Sequence[Path]) -> dict[Path, Future[list[Said]]]:
        """Run the cases: those of several boards one after the other, then those of one board at all desks."""
        pools = [ThreadPoolExecutor(1) for _ in self.desks]
        running = {case: pools[0].submit(self._case, 0, case, NAMES) for case in cases if case not in OF_ONE_BOARD}
        before = list(running.values())

        def run(number: int, case: Path) -> list[Said]:
            wait(before)
            return self._case(number, case, NAMES[:1])

        for case in cases:
            if case in OF_ONE_BOARD:
                # Always the same desk: its "one" is another kind of board than that of the next.
                number = OF_ONE_BOARD.index(case) % len(self.desks)
                running[case] = pools[number].submit(run, number, case)
        for pool in pools:
            pool.shutdown(wait=False)
        return running

    def _case(self, number: int, case: Path, names: Sequence[str]) -> list[Said]:
        def run() -> list[dict[str, Any]]:
            return [one.to_json() for one in self.desks[number].case(case, names)]

        return [Said.from_json(each) for each in self.memory(f"case-{case.stem}", [number, of_case(case)], run)]

    def statuses(self, case: Path, options: Sequence[str]) -> list[list[Any]]:
        """[play, task, host, the status of each result], in order, of one run with these options."""

        def run() -> list[list[Any]]:
            results, _ = self.desks[0].run(case, *options)
            return [[*key, [one["_status"] for one in found]] for key, found in results.items()]

        found: list[list[Any]] = self.memory(
            "-".join(["tags", *options]).replace("--", ""), [of_case(case), options], run
        )
        return found


def _every_time(name: str, depends_on: Sequence[object], compute: Callable[[], Any]) -> Any:
    return compute()


@pytest.fixture(scope="module")
def engines(lab_machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Engine]]:
    """Ansible, which is remembered, and clusteradm, which never is."""
    assert ANSIBLE.exists(), f'there is no {ANSIBLE}: it comes with the extra "dev"'
    folder = tmp_path_factory.mktemp("agree")
    lab = Lab(f"pytest-{os.getpid()}-agree")
    try:
        lab.up(8, networks=["networkmanager"])
        boards = list(load(lab.inventory).hosts)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda board: lab.exec(board, ["sh", "-c", ALIKE]), boards))
        packages = _give_python3_debian(lab, boards[:4], folder)
        plan = lab.places.read_plan()
        assert plan is not None
        known = of_boards(plan, packages)

        def desks(name: str, boards: list[str]) -> list[Side]:
            places = [folder / str(number) for number in range(DESKS)]
            for place in places:
                place.mkdir(exist_ok=True)
            seen: dict[str, Look] = {}
            return [Side.of(lab, name, boards[n:] + boards[:n], place, seen) for n, place in enumerate(places)]

        memory = Memory.default()
        yield (
            Engine(desks("ansible", boards[:4]), lambda name, more, do: memory.value(name, [*known, *more], do)),
            Engine(desks("clusteradm", boards[4:]), _every_time),
        )
    finally:
        lab.down()


@pytest.fixture(scope="module")
def agreement(request: pytest.FixtureRequest, engines: tuple[Engine, Engine]) -> Callable[[Path], list[str]]:
    """What a case disagrees about. All that are to be tested are begun: Ansible waits more than it works."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function) and hasattr(item, "callspec")]
    cases = [item.callspec.params["case"] for item in items if item.originalname == test_ansible_agrees.__name__]
    theirs, ours = (engine.begin(cases) for engine in engines)
    return lambda case: disagreements(theirs[case].result(), ours[case].result(), may_fail=case not in OF_ONE_BOARD)


def _give_python3_debian(lab: Lab, boards: list[str], folder: Path) -> list[Path]:
    """Ansible's deb822_repository needs it on the board; it needs to be no package there. Returns the packages."""
    names = ["python3-debian", "python3-chardet"]
    subprocess.run(["apt-get", "download", *names], cwd=folder, check=True, capture_output=True, timeout=120)
    packages = sorted(folder.glob("python3-*.deb"))
    for package in packages:
        archive = package.with_suffix(".tar")
        with archive.open("wb") as file:
            subprocess.run(["dpkg-deb", "--fsys-tarfile", package], stdout=file, check=True, timeout=60)
        for board in boards:
            with archive.open("rb") as file:
                lab.exec(board, ["tar", "-x", "-C", "/"], stdin=file)
    return packages


@pytest.mark.parametrize("case", ALL, ids=lambda path: path.stem)
def test_ansible_agrees(agreement: Callable[[Path], list[str]], case: Path) -> None:
    said = agreement(case)
    assert not said, "\n".join([f"{len(said)} disagreements", *said[:30]])


@pytest.mark.parametrize("options", [("--tags", "far"), ("--skip-tags", "far"), ("--tags", "near,far")], ids=" ".join)
def test_tags_choose_the_same_tasks(engines: tuple[Engine, Engine], options: tuple[str, ...]) -> None:
    theirs, ours = (engine.statuses(CASES / "tags.yml", options) for engine in engines)
    assert theirs == ours
