"""Table: what the supervisor tells the front processes, whole with every change."""

from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple

from clusteradm.node.serve.loaded import Loaded
from clusteradm.node.spec.wire.decode import Record
from clusteradm.node.spec.wire.serving import BoardState


@dataclass(eq=False, repr=False)
class TableVersion(Record):
    """A version that is available, and the numbers of the engines that have it."""

    loaded: Loaded
    engines: Tuple[int, ...]


@dataclass(eq=False, repr=False)
class TableModel(Record):
    """A model: as Model of routing.py."""

    name: str
    versions: Tuple[TableVersion, ...]
    labels: Dict[str, int]
    default: Optional[str] = None
    canary: Optional[int] = None


@dataclass(eq=False, repr=False)
class TableEngine(Record):
    """An engine that there is, whatever its state. `servables`: whether it has those of other kinds than models."""

    number: int
    device: str
    simulated: bool
    servables: bool = False


@dataclass(eq=False, repr=False)
class Table(Record):
    """`number` grows with every table; the front processes say which they go by. `elsewhere`: models of other boards,
    and which those are."""

    number: int
    models: Tuple[TableModel, ...]
    engines: Tuple[TableEngine, ...]
    board: BoardState
    elsewhere: Dict[str, str] = field(default_factory=dict)
