"""Ensembles in the placement: a board answers for one only where it has all that the ensemble is of. Pure functions."""

from typing import Dict, FrozenSet, List, Optional, Set, Tuple

from clusteradm.node.serve import placement
from clusteradm.node.spec.wire.serving import DesiredState, PlacedModel, ServedModel

# What each ensemble that is served is of, by name: models and others, ensembles among them.
Members = Dict[str, FrozenSet[str]]


def parts(name: str, members: Members) -> Set[str]:
    """All that an ensemble is of in the end: the members of those of its members that are ensembles, too."""
    found, left = set(), {name}
    while left:
        one = left.pop()
        found.add(one)
        left |= members.get(one, frozenset()) - found
    return found - members.keys()


def placed(
    state: DesiredState, members: Members, able: Optional[Dict[str, Set[str]]] = None
) -> Tuple[PlacedModel, ...]:
    """The placement of a state, and ensembles where all their members are to be. `able`: the hosts that answer for
    each, to which requests are sent; None where nobody has looked."""
    known = {each.name: each for each in state.placement}
    found: List[Optional[PlacedModel]] = []
    for model in state.models:
        old = known.get(model.name)
        hosts = _hosts(state, model, members) if model.name in members else frozenset()
        if not hosts:
            # It is wherever it may be; or nowhere whole, and each board says what it lacks.
            found.append(old if model.name not in members or model.hosts or model.tpus else None)
            continue
        tpus = tuple(sorted(hosts))
        if able is None:
            found.append(old if old is not None and old.tpus == tpus else PlacedModel(model.name, tpus))
            continue
        to = able.get(model.name, set()) & hosts
        found.append(PlacedModel(model.name, tpus, tuple(sorted(to)) if to != hosts else ()))
    return tuple(each for each in found if each is not None)


def _hosts(state: DesiredState, model: ServedModel, members: Members) -> FrozenSet[str]:
    """The hosts that may have an ensemble and are to have all its members; none for all hosts, or for no host."""
    said = model.hosts or tuple(copy.partition(":")[0] for copy in model.tpus)
    limits = [placement.hosts_of(state, part) for part in parts(model.name, members)]
    sets = [frozenset(hosts) for hosts in (said, *limits) if hosts]
    return frozenset.intersection(*sets) if any(limits) else frozenset()
