"""Plan of a lab (plan.json): number of boards, TPUs, suites; and the paths of its files on this machine."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path

from clusteradm import atomic
from clusteradm.errors import UsageError
from clusteradm.lab.suites import SUITES
from clusteradm.lab.topology import MAX_NODES, MAX_TPUS, MAX_USB, NETWORKS, Board, boards

ROOT = Path("/var/lib/clusteradm/lab")
DEFAULT_NAME = "lab"
DEFAULT_MEMORY = 1024


@dataclass(frozen=True)
class Plan:
    """`memory`: MiB a board. `python`: the inventory's ansible_python_interpreter, or "" for python3. `usb`: USB
    Accelerators a board, besides its `tpus`.

    `suites` and `networks`: the boards' Debian releases and network tools (see topology.boards). `lower`, `web`
    and `wheels` are those of the images (see image.Image): (suite, network tool, root file system layers), (path below
    the web server's root, directory), directories.
    """

    nodes: int
    tpus: int
    suites: tuple[str, ...]
    memory: int
    python: str
    networks: tuple[str, ...] = ()
    lower: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    web: tuple[tuple[str, str], ...] = ()
    wheels: tuple[str, ...] = ()
    usb: int = 0

    def check(self) -> None:
        """Raise UsageError for numbers out of range, and for what no board has."""
        if not 1 <= self.nodes <= MAX_NODES:
            raise UsageError(f"--nodes {self.nodes}: a lab has 1 to {MAX_NODES} boards")
        if not 0 <= self.tpus <= MAX_TPUS:
            raise UsageError(f"--tpus {self.tpus}: a board has 0 to {MAX_TPUS} Edge TPUs")
        if not 0 <= self.usb <= MAX_USB:
            raise UsageError(f"--usb {self.usb}: a board has 0 to {MAX_USB} USB Accelerators")
        if self.memory < 256:
            raise UsageError(f"--memory {self.memory}: a board needs at least 256 MiB")
        for option, chosen, there in (("--suite", self.suites, SUITES), ("--network", self.networks, NETWORKS)):
            for each in chosen:
                if each not in there:
                    raise UsageError(f"{option}: no board has {each!r}", next_step=f"there are: {', '.join(there)}")
        for suite in dict.fromkeys(board.suite for board in self.boards):
            pythons = ("python3", *SUITES[suite].extra)
            if self.python and Path(self.python).name not in pythons:
                raise UsageError(f"a {suite} board has no {self.python}", next_step=f"it has: {', '.join(pythons)}")

    @property
    def wanted(self) -> tuple[tuple[Board, ...], int, str]:
        """The boards as the options of `lab up` have them, to compare two plans by."""
        return self.boards, self.memory, self.python

    @property
    def boards(self) -> tuple[Board, ...]:
        return boards(self.nodes, self.tpus, self.networks, self.suites, self.usb)

    def lower_of(self, board: Board) -> tuple[Path, ...]:
        """The board's root file system layers, topmost first."""
        (layers,) = (layers for *kind, layers in self.lower if kind == [board.suite, board.network])
        return tuple(map(Path, layers))

    @property
    def parts(self) -> frozenset[Path]:
        """Directories of the cache that the lab uses."""
        layers = (place for *_, places in self.lower for place in places)
        return frozenset(map(Path, (*layers, *(place for _, place in self.web), *self.wheels)))

    def describe(self) -> str:
        each = (
            "no Edge TPU" if not self.tpus else f"{self.tpus} Edge TPU{'s' if self.tpus > 1 else ''} each (simulated)"
        )
        if self.usb:
            each += f", {self.usb} USB Accelerator{'s' if self.usb > 1 else ''} each (simulated)"
        boards = f"{self.nodes} board{'s' if self.nodes > 1 else ''}"
        return ", ".join((boards, each, *self.suites, f"{self.memory} MiB", *self.networks))


@dataclass(frozen=True)
class Places:
    """Paths of the files of one lab."""

    name: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", self.name):
            raise UsageError(f"{self.name!r} is not a name for a lab: lower-case letters, digits, hyphens, at most 31")

    @property
    def root(self) -> Path:
        return ROOT / self.name

    @property
    def lock(self) -> Path:
        return Path("/run/clusteradm/lab") / f"{self.name}.lock"

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def inventory(self) -> Path:
        return self.root / "inventory.yml"

    @property
    def known_hosts(self) -> Path:
        return self.root / "known_hosts"

    @property
    def ssh_config(self) -> Path:
        return self.root / "ssh_config"

    @property
    def key(self) -> Path:
        return self.root / "id_ed25519"

    @property
    def netns(self) -> Path:
        return self.root / "netns"

    @property
    def control(self) -> Path:
        return self.root / "control"

    @property
    def log(self) -> Path:
        return self.root / "supervisor.log"

    @property
    def web(self) -> Path:
        return self.root / "web"

    def board(self, name: str) -> Path:
        """Folder of a board."""
        return self.root / "nodes" / name

    def read_plan(self) -> Plan | None:
        """Plan of the lab; None if there is no lab of this name."""
        try:
            text = self.plan.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        fields = json.loads(text)
        try:
            for name in ("suites", "networks", "wheels"):
                fields[name] = tuple(fields[name])
            fields["lower"] = tuple((suite, network, tuple(layers)) for suite, network, layers in fields["lower"])
            fields["web"] = tuple((path, place) for path, place in fields["web"])
            return Plan(**fields)
        except (KeyError, TypeError, ValueError) as error:
            option = "" if self.name == DEFAULT_NAME else f" --name {self.name}"
            raise UsageError(
                f'the lab "{self.name}" was started by another version of clusteradm',
                where=str(self.plan),
                next_step=f"end it with: clusteradm lab down{option}",
            ) from error

    def write_plan(self, plan: Plan) -> None:
        atomic.write(self.plan, json.dumps(dataclasses.asdict(plan), indent=2) + "\n")


def names() -> list[str]:
    """Names of the labs on this machine."""
    return sorted(path.parent.name for path in ROOT.glob("*/plan.json"))
