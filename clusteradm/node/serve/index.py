"""Index of the models of the whole cluster, of which each board has but some: what is served, and how it is, and what
else the repository has. The head makes it of what the boards say (control.py)."""

from dataclasses import dataclass, field
from typing import Dict, Iterable, List, Tuple

from clusteradm.node.spec.wire.decode import Record
from clusteradm.node.spec.wire.serving import (
    AVAILABLE,
    END,
    LOADING,
    START,
    UNLOADING,
    BoardState,
    ServedModel,
    VersionState,
)

UNSERVED = "it is not served: load it, or clusteradm serve deploy %s"
_UNKNOWN = "no board that answers knows of it: clusteradm serve status"
# Of the boards' words that which is the best for a client, who is sent there.
_BEST = (AVAILABLE, LOADING, START, UNLOADING, END)


@dataclass(eq=False, repr=False)
class Index(Record):
    """`versions`: those that are to be served or leave; `others`: models of which there is none, and why."""

    versions: Tuple[VersionState, ...] = ()
    others: Dict[str, str] = field(default_factory=dict)


def whole(models: Iterable[ServedModel], names: Iterable[str], boards: Iterable[BoardState]) -> Index:
    """Of what is served, the names in the repository, and the boards that answer."""
    best: Dict[Tuple[str, int], VersionState] = {}
    for board in boards:
        for each in _said(board):
            old = best.get((each.name, each.version))
            if old is None or _BEST.index(each.state) < _BEST.index(old.state):
                best[each.name, each.version] = each
    known = {name for name, _ in best}
    others = {name: UNSERVED % name for name in names if name not in known}
    others.update({model.name: _UNKNOWN for model in models if model.name not in known})
    return Index(tuple(best[key] for key in sorted(best)), others)


def _said(board: BoardState) -> List[VersionState]:
    """What a board has, as it is for a client: nothing is available where no new request is sent to."""
    found = []
    for each in board.versions:
        state, reason = each.state, each.reason if each.state != AVAILABLE else ""
        if state == AVAILABLE and not board.balance:
            state, reason = START, "%s, which has it, takes no new requests" % board.host
        found.append(VersionState(each.name, each.version, state, reason, each.labels))
    return found
