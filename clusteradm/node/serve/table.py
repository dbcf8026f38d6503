"""Table: what the supervisor tells the front processes, whole with every change."""

from dataclasses import dataclass
from typing import Dict, Optional, Tuple

from clusteradm.node.serve.loaded import Loaded
from clusteradm.node.serve.routing import Entry, Model, Routing
from clusteradm.node.serve.signature import Signature
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
    """An engine that there is, whatever its state."""

    number: int
    device: str
    simulated: bool


@dataclass(eq=False, repr=False)
class Table(Record):
    """`number` grows with every table; the front processes say which they go by."""

    number: int
    models: Tuple[TableModel, ...]
    engines: Tuple[TableEngine, ...]
    board: BoardState


class Reader:
    """Tables to routings. A signature is made once for each version."""

    def __init__(self) -> None:
        self._signatures: Dict[int, Signature] = {}

    def routing(self, table: Table) -> Routing:
        """The routing of a table."""
        models = {
            model.name: Model(
                {each.loaded.version: Entry(self._signature(each.loaded), each.engines) for each in model.versions},
                model.labels,
                model.default,
                model.canary,
            )
            for model in table.models
        }
        keys = {each.loaded.key for model in table.models for each in model.versions}
        self._signatures = {key: known for key, known in self._signatures.items() if key in keys}
        return Routing(models, table.board.versions)

    def _signature(self, loaded: Loaded) -> Signature:
        known = self._signatures.get(loaded.key)
        if known is None or known.loaded != loaded:
            known = self._signatures[loaded.key] = Signature(loaded)
        return known
