"""Table: what the supervisor tells the front processes, whole with every change."""

from dataclasses import dataclass, field
from typing import Collection, Dict, Optional, Tuple

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


def named(default: Optional[str], version: Optional[int], label: Optional[str]) -> Tuple[Optional[int], Optional[str]]:
    """The version or label of a request: where it names neither, those of the model's `default`, if it has one."""
    if version is not None or label is not None or default is None:
        return version, label
    return (int(default), None) if default.isdigit() else (None, default)


def newest(versions: Collection[int], canary: Optional[int]) -> Optional[int]:
    """The highest version but the canary, or the canary where it is alone; None for no versions."""
    return max([number for number in versions if number != canary] or versions, default=None)
