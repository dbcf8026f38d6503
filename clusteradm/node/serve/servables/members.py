"""Members of ensembles on a board: whether each ensemble has all of them, and they fit together. Without NumPy."""

from typing import Dict, Optional, Sequence, Tuple

from clusteradm.node.serve.loaded import Loaded
from clusteradm.node.serve.table import TableModel, named, newest
from clusteradm.node.spec.servables import ensembles
from clusteradm.node.spec.servables.ensembles import Member
from clusteradm.node.spec.servables.problem import Problem
from clusteradm.node.spec.wire.servables import ENSEMBLE, reference

Version = Tuple[str, int]


def member(loaded: Loaded) -> Member:
    """What an ensemble has to know of a version that is loaded."""
    return Member(
        loaded.name, loaded.inputs, loaded.outputs, loaded.servable, loaded.feed, loaded.task, loaded.batches > 1
    )


def withheld(models: Sequence[TableModel], elsewhere: Optional[Dict[str, str]] = None) -> Dict[Version, str]:
    """The ensembles that cannot answer, each with the reason: a member that is not there, or does not fit. `elsewhere`:
    the models that are served, and not here, and where."""
    known = {model.name: model for model in models}
    found: Dict[Version, str] = {}
    while True:  # an ensemble that is withheld may be another one's member
        more = {
            (each.loaded.name, each.loaded.version): reason
            for model in models
            for each in model.versions
            for reason in [_reason(each.loaded, known, found, elsewhere or {})]
            if reason is not None
        }
        if more.keys() == found.keys():
            return more
        found = more


def _reason(
    loaded: Loaded, known: Dict[str, TableModel], bad: Dict[Version, str], elsewhere: Dict[str, str]
) -> Optional[str]:
    servable = loaded.servable
    if servable is None or servable.kind != ENSEMBLE:
        return None

    def find(text: str) -> Member:
        return member(_found(text, known, bad, elsewhere))

    try:
        ensembles.check_circle(loaded.name, servable, find)
        made = ensembles.ensemble(servable, loaded.inputs, find)
        for one, other in zip(made, loaded.outputs):
            pairs = list(zip(one.shape, other.shape))
            same = len(one.shape) == len(other.shape) and all(-1 in pair or pair[0] == pair[1] for pair in pairs)
            if (one.name, one.dtype) != (other.name, other.dtype) or not same:
                raise Problem("its output %s is another one than when it was deployed: deploy it again" % other.name)
    except Problem as problem:
        return str(problem)
    return None


def _found(text: str, known: Dict[str, TableModel], bad: Dict[Version, str], elsewhere: Dict[str, str]) -> Loaded:
    name, version, label = reference(text)
    model = known.get(name)
    if model is None and name in elsewhere:
        text = "model %s is on other boards (%s), and an ensemble needs it here: clusteradm serve deploy %s --tpus all"
        raise Problem(text % (name, elsewhere[name], name))
    if model is None:
        raise Problem("model %s is not served here: clusteradm serve deploy %s" % (name, name))
    wanted = version_of(model, version, label)
    found = next((each.loaded for each in model.versions if each.loaded.version == wanted), None)
    if found is None:
        raise Problem("model %s is not available here: clusteradm serve status says more of it" % text)
    if (name, found.version) in bad:
        raise Problem("model %s is not ready: %s" % (text, bad[name, found.version]))
    return found


def version_of(model: TableModel, version: Optional[int], label: Optional[str]) -> Optional[int]:
    """The version that a request means, as routing finds it; None for none."""
    version, label = named(model.default, version, label)
    if label is not None:
        return model.labels.get(label)
    if version is not None:
        return version
    return newest([each.loaded.version for each in model.versions], model.canary)
