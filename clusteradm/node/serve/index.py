"""Index of the models of the whole cluster, of which each board has but some: what is served, and how it is, and what
else the repository has. The head makes it of what the boards say (control.py)."""

from dataclasses import dataclass, field
from typing import Dict, Iterable, List, Optional, Set, Tuple

from clusteradm.node.models import store
from clusteradm.node.serve.table import named, newest
from clusteradm.node.spec.wire.decode import Record
from clusteradm.node.spec.wire.manifest import DETECTOR, LABELS
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
class Detector(Record):
    """A model that finds objects: the version that answers, the names of its classes, and the shape of its input."""

    name: str
    version: int
    labels: Tuple[str, ...] = ()
    shape: Tuple[int, ...] = ()


@dataclass(eq=False, repr=False)
class Index(Record):
    """`versions`: those that are to be served or leave; `others`: models of which there is none, and why;
    `detectors`: of those that answer, which find objects."""

    versions: Tuple[VersionState, ...] = ()
    others: Dict[str, str] = field(default_factory=dict)
    detectors: Tuple[Detector, ...] = ()


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


def detectors(shared: str, models: Iterable[ServedModel], versions: Iterable[VersionState]) -> Tuple[Detector, ...]:
    """Those of the models that are served, by the repository."""
    there: Dict[str, Set[int]] = {}
    for each in versions:
        if each.state == AVAILABLE:
            there.setdefault(each.name, set()).add(each.version)
    found = []
    for model in sorted(models, key=lambda model: model.name):
        number = _default(shared, model, there.get(model.name, set()))
        folder = "%s/%s" % (store.model_folder(shared, model.name), number)
        known = store.manifest(folder) if number is not None else None
        if number is not None and known is not None and known.task == DETECTOR and known.inputs:
            names = store.text(folder, LABELS).decode("utf-8", "replace").rstrip("\n").split("\n")
            labels = tuple(name.rstrip("\r") for name in names) if names != [""] else ()
            found.append(Detector(model.name, number, labels, known.inputs[0].shape))
    return tuple(found)


def _default(shared: str, model: ServedModel, there: Set[int]) -> Optional[int]:
    """The version of requests that name none; None where it is not there."""
    number, label = named(model.default, None, None)
    if label is not None:
        try:
            its = store.read_versions(store.model_folder(shared, model.name)).labels.get(label)
        except OSError:  # it says so to whoever wants it
            its = None
        number = its.version if its is not None else None
    elif number is None:
        number = newest(there, model.canary.version if model.canary is not None else None)
    return number if number in there else None


def _said(board: BoardState) -> List[VersionState]:
    """What a board has, as it is for a client: nothing is available where no new request is sent to."""
    found = []
    for each in board.versions:
        state, reason = each.state, each.reason if each.state != AVAILABLE else ""
        if state == AVAILABLE and not board.balance:
            state, reason = START, "%s, which has it, takes no new requests" % board.host
        found.append(VersionState(each.name, each.version, state, reason, each.labels))
    return found
