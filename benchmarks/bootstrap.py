"""clusteradm beside ansible-playbook, Mitogen, pyinfra and plain ssh: the same work on the same virtual boards.

    python benchmarks/bootstrap.py [--peers VENV] [--rounds 5] [--json FILE]       (as root: it makes a lab of its own)

Two kinds of work, written twice (bootstrap/*.yml, and *.py for pyinfra): 24 tasks that find everything as it should be,
and 40 changes of files and services. All go the same way into the lab, the inventory's ProxyCommand, with as many
forks as there are hosts. In every round each tool runs once, in another order; a ratio is the median of the rounds' own
ratios. After each run the boards themselves are asked whether they got what they should have.

The floor is `ssh HOST sudo true` on all hosts at once. Every tool keeps its own habits about connections: Ansible's
stay open for 60 seconds and serve its next run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import yaml
from record import Record, ratio

import clusteradm
from clusteradm.lab.lab import Lab

HERE = Path(__file__).resolve().parent / "bootstrap"
UNCHANGED, CHANGES = "unchanged", "changes"
FLOOR, OURS = "floor", "clusteradm"
ANSIBLE, MITOGEN, PYINFRA = "ansible", "mitogen", "pyinfra"
GOALS = {(ANSIBLE, UNCHANGED): 20, (MITOGEN, UNCHANGED): 8, (PYINFRA, UNCHANGED): 4, (ANSIBLE, CHANGES): 10}
FLOOR_GOALS = {4: 5, 8: 4}
CURVE = (1, 2, 4, 8, 16, 32)
GROWTH = "growth: "
BAR = 50  # characters, the longest
# As on a person's machine, where every program's byte code is kept.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


class Boards:
    """The first `count` boards of a lab, as each tool is told of them."""

    def __init__(self, lab: Lab, count: int, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        folder.mkdir()
        self._document = yaml.safe_load(lab.inventory.read_text(encoding="utf-8"))
        children = self._document["all"]["children"]
        hosts = {name: host for group in children.values() for name, host in group["hosts"].items()}
        self.hosts = dict(list(hosts.items())[:count])
        children["compute"]["hosts"] = {
            name: host for name, host in self.hosts.items() if name in children["compute"]["hosts"]
        }
        self.inventory = self.folder / "inventory.yml"
        self.pyinfra = self.folder / "boards.py"
        self.number = 0
        self.prepare()

    def prepare(self) -> None:
        """The next run is to have a number of its own."""
        self.number += 1
        run = f"{self.folder.name}-{self.number}"
        self._document["all"]["vars"]["bench_run"] = run
        self.inventory.write_text(yaml.safe_dump(self._document, sort_keys=False), encoding="utf-8")
        data = {name: {**host, "bench_run": run} for name, host in self.hosts.items()}
        self.pyinfra.write_text(f"boards = {list(data.items())!r}\n", encoding="utf-8")

    def ask(self, script: str) -> list[str]:
        """What each board says to a shell command, asked not by SSH."""
        return [self.lab.exec(name, ["sh", "-c", script]).stdout.strip() for name in self.hosts]

    def state(self) -> list[str]:
        """Each board's files that the work is about, with the times of their last changes, and its services' starts."""
        units = " ".join(f"bench@{number}" for number in range(1, 5))
        return self.ask(
            "find /etc/bench /etc/hosts /etc/nanorc /srv/bench /var/log/bench -printf '%p %C@\\n' | sort;"
            f" systemctl show -p InvocationID {units}"
        )

    def changed(self) -> list[str]:
        """On each board: how many files have the number of this run."""
        return self.ask(f"grep -rlx 'run = {self.folder.name}-{self.number}' /etc/bench | wc -l")


class Tool:
    """A way to have the work done. `command`: its words for (boards, work)."""

    def __init__(
        self, name: str, command: Callable[[Boards, str], Sequence[str]], environment: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self._command = command
        self._environment = environment or {}

    def run(self, boards: Boards, work: str) -> float:
        """Do it; the seconds that it took. Ends the benchmark if it did not do it."""
        before = boards.state()
        log = boards.folder / f"{self.name}-{work}.log"
        with log.open("wb") as output:
            started = time.perf_counter()
            done = subprocess.run(
                self._command(boards, work),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=HERE,
                env={**ENVIRONMENT, **self._environment, "ANSIBLE_FORKS": str(len(boards.hosts))},
            )
            seconds = time.perf_counter() - started
        if done.returncode:
            sys.exit(f"{self.name} failed ({done.returncode}):\n{log.read_text(errors='replace')[-3000:]}")
        self._judge(boards, work, before)
        return seconds

    def _judge(self, boards: Boards, work: str, before: list[str]) -> None:
        after = boards.state()
        if work == UNCHANGED and after != before:
            new = sorted(set(after[0].splitlines()) - set(before[0].splitlines()))
            sys.exit(f"{self.name} changed what was as it should be: {new}")
        if work == CHANGES and self.name != FLOOR:
            services = [(set(old.splitlines()) & set(new.splitlines())) for old, new in zip(before, after, strict=True)]
            restarted = not any(line.startswith("InvocationID") for lines in services for line in lines)
            if set(boards.changed()) != {"36"} or not restarted:
                sys.exit(f"{self.name} did not make the 40 changes: {boards.changed()} files, restarted: {restarted}")


def size(boards: Boards) -> str:
    return f"{len(boards.hosts)} host{'s' if len(boards.hosts) > 1 else ''}"


def ours(boards: Boards, work: str) -> list[str]:
    playbook = ["--playbook", str(HERE / f"{work}.yml"), "--forks", str(len(boards.hosts))]
    known = ["--known-hosts", str(boards.lab.places.known_hosts)]
    return [sys.executable, "-m", "clusteradm", "bootstrap", str(boards.inventory), *playbook, *known]


def floor(boards: Boards, work: str) -> list[str]:
    one = f'ssh -F {boards.lab.places.ssh_config} %s sudo true & all="$all $!"; '
    return ["sh", "-ec", "".join(one % name for name in boards.hosts) + "for each in $all; do wait $each; done"]


def peers(venv: Path, lab: Lab, folder: Path) -> list[Tool]:
    """Those of the peers that are in the virtual environment. `folder`: for files that they need."""
    found: list[Tool] = []
    programs = venv / "bin"

    def ansible(boards: Boards, work: str) -> list[str]:
        return [str(programs / "ansible-playbook"), "-i", str(boards.inventory), str(HERE / f"{work}.yml")]

    def mitogen(boards: Boards, work: str) -> list[str]:
        # The one thing that a playbook has to say for Mitogen: a play's own strategy wins over the environment's.
        text = (HERE / f"{work}.yml").read_text(encoding="utf-8").replace("strategy: free", "strategy: mitogen_free")
        (folder / f"{work}.yml").write_text(text, encoding="utf-8")
        return [str(programs / "ansible-playbook"), "-i", str(boards.inventory), str(folder / f"{work}.yml")]

    def pyinfra(boards: Boards, work: str) -> list[str]:
        ssh = ["--data", f"ssh_config_file={lab.places.ssh_config}", "--sudo", "--yes"]
        return [str(programs / "pyinfra"), *ssh, str(boards.pyinfra), f"{work}.py"]

    settings = {
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",  # spares it the search
        "ANSIBLE_SSH_EXTRA_ARGS": f"-o UserKnownHostsFile={lab.places.known_hosts}",
        # Every lab has the same addresses: a connection that is kept open must not be another lab's.
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "cp"),
    }
    if (programs / "ansible-playbook").exists():
        found.append(Tool(ANSIBLE, ansible, settings))
        asked = [str(programs / "python"), "-c", "import ansible_mitogen as it; print(*it.__path__)"]
        where = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
        if where:
            (folder / "templates").symlink_to(HERE / "templates")
            found.append(Tool(MITOGEN, mitogen, {**settings, "ANSIBLE_STRATEGY_PLUGINS": f"{where}/plugins/strategy"}))
    if (programs / "pyinfra").exists():
        found.append(Tool(PYINFRA, pyinfra))
    return found


def versions(venv: Path | None) -> dict[str, str]:
    """What is compared, by version."""
    found = {"clusteradm": clusteradm.__version__, "python": platform.python_version()}
    for name in ("ansible-core", "mitogen", "pyinfra") if venv is not None else ():
        asked = [f"{venv}/bin/python", "-c", f"import importlib.metadata as it; print(it.version({name!r}))"]
        version = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
        if version:
            found[name] = version
    return found


def compare(record: Record, boards: Boards, tools: Sequence[Tool], rounds: int) -> None:
    """Every tool on the same boards, round by round; fills in figures and ratios."""
    hosts = size(boards)
    jobs = [(tool, work) for work in (UNCHANGED, CHANGES) for tool in tools if (tool.name, work) != (FLOOR, CHANGES)]
    figures = {(tool.name, work): record.figures.setdefault(f"{tool.name}, {work}, {hosts}", []) for tool, work in jobs}
    for number in range(rounds):
        turn = number % len(jobs)
        for tool, work in jobs[turn:] + jobs[:turn]:
            seconds = tool.run(boards, work)
            figures[tool.name, work].append(seconds)
            print(f"  round {number + 1}: {tool.name}, {work}, {hosts}: {seconds:.2f} s", file=sys.stderr)
    for (name, work), theirs in figures.items():
        if name in (FLOOR, OURS):
            continue
        label = f"{name} / clusteradm, {work}, {hosts}"
        record.ratios[label] = ratio(theirs, figures[OURS, work])
        if (name, work) in GOALS:
            record.goals[label] = GOALS[name, work]
    label = f"clusteradm, unchanged, {hosts}, of the floor"
    record.ratios[label] = ratio(figures[OURS, UNCHANGED], figures[FLOOR, UNCHANGED])
    if len(boards.hosts) in FLOOR_GOALS:
        record.goals[label] = FLOOR_GOALS[len(boards.hosts)]


def grow(record: Record, boards: Boards, tools: Sequence[Tool], rounds: int) -> None:
    """clusteradm and the floor, nothing to change, on a growing number of hosts."""
    for number in range(rounds):
        for tool in tools[:: -1 if number % 2 else 1]:
            figures = record.figures.setdefault(f"{GROWTH}{tool.name}, {size(boards)}", [])
            figures.append(tool.run(boards, UNCHANGED))


@contextlib.contextmanager
def up(lab: Lab, nodes: int) -> Iterator[None]:
    """Boards without a TPU; ended however the benchmark ends."""
    try:
        lab.up(nodes, tpus=0, networks=["networkmanager"])
        yield
    finally:
        lab.down()


def prepared(lab: Lab, count: int, folder: Path) -> Boards:
    """Boards on which the work has been done once: what is measured are reruns."""
    boards = Boards(lab, count, folder)
    for work in (UNCHANGED, CHANGES):
        subprocess.run(ours(boards, work), check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    return boards


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(",") if word)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, metavar="VENV", help="virtual environment with ansible, mitogen, pyinfra")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is run (%(default)s)")
    parser.add_argument("--sizes", type=_sizes, default=(4, 8), metavar="N,N", help="hosts, for all tools (4,8)")
    parser.add_argument(
        "--curve", type=_sizes, default=CURVE, metavar="N,N", help="hosts, clusteradm alone (1,2,..,32)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures here")
    args = parser.parse_args()
    record = Record("bootstrap", versions(args.peers))
    lab = Lab(f"bench-{os.getpid()}", say=lambda text: print(text, file=sys.stderr))
    own = [Tool(FLOOR, floor), Tool(OURS, ours)]
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        others = peers(args.peers.resolve(), lab, folder) if args.peers is not None else []
        missing = {ANSIBLE, MITOGEN, PYINFRA} - {tool.name for tool in others}
        if missing:
            print(f"left out, because they are not in --peers VENV: {', '.join(sorted(missing))}", file=sys.stderr)
        if args.sizes:
            with up(lab, max(args.sizes)):
                for count in args.sizes:
                    compare(record, prepared(lab, count, folder / f"{count}"), own + others, args.rounds)
        if args.curve:
            with up(lab, max(args.curve)):
                for count in args.curve:
                    grow(record, prepared(lab, count, folder / f"curve-{count}"), own, args.rounds)
    show(record)
    if args.json:
        record.write(args.json)


def show(record: Record) -> None:
    """The tables and the curve, for a person."""
    print(f"{record.machine}\n{', '.join(f'{name} {version}' for name, version in record.versions.items())}")
    medians = {label: statistics.median(seconds) for label, seconds in record.figures.items()}
    longest = max((median for label, median in medians.items() if label.startswith(GROWTH)), default=1.0)
    print(f"\n  {'seconds':<46} {'median':>8}   each run")
    for label, median in medians.items():
        runs = " ".join(f"{each:.2f}" for each in record.figures[label])
        growth = "#" * max(1, round(BAR * median / longest))
        print(f"  {label:<46} {median:8.2f}   {growth if label.startswith(GROWTH) else runs}")
    print("\n  ratio\n" + "\n".join(record.lines()))


if __name__ == "__main__":
    main()
