"""Plan of a lab (plan.json): number of boards, TPUs, suite; and the paths of its files on this machine."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path

from clusteradm import atomic
from clusteradm.errors import UsageError
from clusteradm.lab.topology import MAX_NODES, MAX_TPUS, NETWORKS, Board, boards

ROOT = Path("/var/lib/clusteradm/lab")
DEFAULT_NAME = "lab"
DEFAULT_MEMORY = 1024


@dataclass(frozen=True)
class Plan:
    """`memory`: MiB a board. `python`: the inventory's ansible_python_interpreter, or "" for python3.

    `networks`: the boards' network tools (see topology.boards). `lower`, `web` and `layers` are the image's (see
    image.Image).
    """

    nodes: int
    tpus: int
    suite: str
    memory: int
    python: str
    networks: tuple[str, ...] = ()
    lower: tuple[str, ...] = ()
    web: tuple[tuple[str, str], ...] = ()
    layers: tuple[tuple[str, str], ...] = ()

    def check(self) -> None:
        """Raise UsageError for numbers out of range."""
        if not 1 <= self.nodes <= MAX_NODES:
            raise UsageError(f"--nodes {self.nodes}: a lab has 1 to {MAX_NODES} boards")
        if not 0 <= self.tpus <= MAX_TPUS:
            raise UsageError(f"--tpus {self.tpus}: a board has 0 to {MAX_TPUS} Edge TPUs")
        if self.memory < 256:
            raise UsageError(f"--memory {self.memory}: a board needs at least 256 MiB")
        for network in self.networks:
            if network not in NETWORKS:
                raise UsageError(f"--network: no board has {network!r}", next_step=f"there are: {', '.join(NETWORKS)}")

    @property
    def wanted(self) -> tuple[int, int, str, int, str, tuple[str, ...]]:
        """The options of `lab up`, to compare two plans by."""
        return self.nodes, self.tpus, self.suite, self.memory, self.python, self.networks

    @property
    def boards(self) -> tuple[Board, ...]:
        return boards(self.nodes, self.tpus, self.networks)

    def lower_of(self, board: Board) -> tuple[Path, ...]:
        """The board's root file system layers, topmost first."""
        of_network = (place for network, place in self.layers if network == board.network)
        return tuple(Path(place) for place in (*self.lower[:-1], *of_network, *self.lower[-1:]))

    def describe(self) -> str:
        each = (
            "no Edge TPU" if not self.tpus else f"{self.tpus} Edge TPU{'s' if self.tpus > 1 else ''} each (simulated)"
        )
        networks = f", {', '.join(self.networks)}" if self.networks else ""
        return f"{self.nodes} board{'s' if self.nodes > 1 else ''}, {each}, {self.suite}, {self.memory} MiB{networks}"


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
        for name in ("lower", "networks"):
            fields[name] = tuple(fields[name])
        for name in ("web", "layers"):
            fields[name] = tuple((key, place) for key, place in fields[name])
        return Plan(**fields)

    def write_plan(self, plan: Plan) -> None:
        atomic.write(self.plan, json.dumps(dataclasses.asdict(plan), indent=2) + "\n")


def names() -> list[str]:
    """Names of the labs on this machine."""
    return sorted(path.parent.name for path in ROOT.glob("*/plan.json"))
