"""Placement: which models are on which TPUs, by what is said of them, by memory and by traffic. Pure functions.

A TPU keeps the parameters of one model, or of several that were compiled together; an inference after one of another
model loads its own anew. So models that take turns on the same TPUs can be kept apart, where there are enough of them.
Copies of a model are written HOST:DEVICE.
"""

from typing import Dict, FrozenSet, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

from clusteradm.node.spec.wire.serving import DesiredState, PlacedModel, ServedModel

Copies = FrozenSet[str]
# Of two copies of each model one is left when a board is lost.
_SAFE = 2


class Tpu(NamedTuple):
    """A TPU, or the CPU of a host without, that serving has. `ready`: whether it takes requests."""

    host: str
    device: str
    ready: bool = True

    @property
    def copy(self) -> str:
        """As a copy on it is written."""
        return "%s:%s" % (self.host, self.device)


class Need(NamedTuple):
    """What a model needs. `memory`: bytes of its host's for each copy; `kept`: whether the TPU keeps parameters of it;
    `tokens`: of the compiler; `load`: seconds of inference a second."""

    model: ServedModel
    memory: int = 0
    kept: bool = True
    tokens: FrozenSet[str] = frozenset()
    load: float = 0.0

    @property
    def name(self) -> str:
        """The model's."""
        return self.model.name


def homes(desired: DesiredState, host: str, name: str) -> Optional[Set[str]]:
    """The devices of a host that are to have a model: none, or None for all that there are."""
    placed = next((each for each in desired.placement if each.name == name), None)
    if placed is None:
        model = next((each for each in desired.models if each.name == name), None)
        return set() if model is None or (model.hosts and host not in model.hosts) else None
    if not placed.tpus or host in placed.tpus:
        return None
    return {device for place, _, device in (each.partition(":") for each in placed.tpus) if place == host}


def hosts_of(desired: DesiredState, name: str) -> Tuple[str, ...]:
    """The hosts that are to have a model; none for all."""
    placed = next((each for each in desired.placement if each.name == name), None)
    if placed is not None:
        return tuple(sorted({each.partition(":")[0] for each in placed.tpus}))
    return next((each.hosts for each in desired.models if each.name == name), ())


def carried(old: DesiredState, new: DesiredState) -> Tuple[PlacedModel, ...]:
    """The placement of a new state, before anybody has looked at the boards: nothing leaves where it is, and what is
    said of a model that is new, or that may be where it was not, holds at once."""
    before = {each.name: each for each in old.placement}
    known = {each.name: each for each in old.models}
    found = []
    for model in new.models:
        said = model.tpus or model.hosts
        placed = before.get(model.name)
        if model.name not in known:
            if said:
                found.append(PlacedModel(model.name, tuple(sorted(said))))
        elif _where(model) == _where(known[model.name]):
            found += [placed] if placed is not None else []
        else:
            now = set(placed.tpus) if placed is not None else set(known[model.name].hosts)
            # From everywhere, or to everywhere, it is everywhere until the boards have been looked at.
            wide = tuple(sorted(now | set(said))) if now and said else ()
            there = tuple(sorted({copy.partition(":")[0] for copy in now}))
            found.append(PlacedModel(model.name, wide, (placed.balanced if placed is not None else ()) or there))
    return tuple(found)


def _where(model: ServedModel) -> Tuple[Tuple[str, ...], Tuple[str, ...], Optional[int]]:
    return model.hosts, model.tpus, model.each


def target(
    needs: Sequence[Need],
    tpus: Sequence[Tpu],
    apart: bool,
    memory: Dict[str, int],
    now: Dict[str, Copies],
    together: Sequence[Set[str]] = (),
) -> Dict[str, Copies]:
    """The copies that each model is to have. `apart`: whether models are to be kept from each other's TPUs; `memory`:
    bytes of each host for models; `now`: the copies that there are, which are kept where nothing speaks against it;
    `together`: the models of each ensemble, of which one host has to have all."""
    found: Dict[str, Copies] = {}
    used: Dict[str, int] = {}
    for need in needs:
        found[need.name] = _allowed(need, tpus, used, now.get(need.name, frozenset()))
        for copy in found[need.name] if need.model.each is not None else ():
            used[copy] = used.get(copy, 0) + 1
    if apart:
        free = [need for need in needs if not need.model.tpus and need.model.each is None and need.kept]
        found.update(_apart(_units(free, found), tpus, found, now))
    return _within(needs, tpus, found, memory, together)


def _allowed(need: Need, tpus: Sequence[Tpu], used: Dict[str, int], now: Copies) -> Copies:
    """Where a model may be, by what is said of it; of a number of each host those with the fewest others."""
    model = need.model
    fit = [tpu for tpu in tpus if (not model.hosts or tpu.host in model.hosts)]
    fit = [tpu for tpu in fit if not model.tpus or tpu.copy in model.tpus]
    if model.each is None or not fit:
        # Of what is not there now it may come.
        return frozenset(tpu.copy for tpu in fit) or frozenset(model.tpus or model.hosts)
    chosen: Set[str] = set()
    for host in sorted({tpu.host for tpu in fit}):
        copies = [tpu for tpu in fit if tpu.host == host]
        copies.sort(key=lambda tpu: (not tpu.ready, tpu.copy not in now, used.get(tpu.copy, 0), tpu.device))
        chosen |= {tpu.copy for tpu in copies[: model.each]}
    return frozenset(chosen)


def _units(needs: Sequence[Need], allowed: Dict[str, Copies]) -> List[List[Need]]:
    """The models in groups: those that were compiled together share a TPU without a swap."""
    units: List[List[Need]] = []
    for need in sorted(needs, key=lambda need: need.name):
        for unit in units:
            if any(need.tokens & each.tokens for each in unit) and allowed[need.name] == allowed[unit[0].name]:
                unit.append(need)
                break
        else:
            units.append([need])
    return units


def _apart(
    units: List[List[Need]], tpus: Sequence[Tpu], allowed: Dict[str, Copies], now: Dict[str, Copies]
) -> Dict[str, Copies]:
    """TPUs for each unit by its load, none for two as long as there are enough."""
    ready = [tpu for tpu in tpus if tpu.ready] or list(tpus)
    load = {id(unit): sum(need.load for need in unit) for unit in units}
    counts = _counts(units, load, len(ready))
    taken: Dict[str, float] = {}
    found: Dict[str, Copies] = {}
    # The one with the fewest places to choose from first.
    for unit in sorted(units, key=lambda unit: (len(allowed[unit[0].name]), -load[id(unit)], unit[0].name)):
        mine = [tpu for tpu in ready if tpu.copy in allowed[unit[0].name]]
        there = now.get(unit[0].name, frozenset())
        chosen: List[Tpu] = []
        while mine and len(chosen) < counts[id(unit)]:
            hosts = [tpu.host for tpu in chosen]
            mine.sort(
                key=lambda tpu: (
                    taken.get(tpu.copy, -1.0),
                    hosts.count(tpu.host),
                    tpu.copy not in there,
                    tpu.copy,
                )
            )
            if chosen and mine[0].copy in taken:
                break  # the others' are left to them
            chosen.append(mine.pop(0))
        for tpu in chosen:
            taken[tpu.copy] = max(0.0, taken.get(tpu.copy, 0.0)) + load[id(unit)] / len(chosen)
        for need in unit:
            found[need.name] = frozenset(tpu.copy for tpu in chosen) or allowed[need.name]
    return found


def _counts(units: List[List[Need]], load: Dict[int, float], size: int) -> Dict[int, int]:
    """How many TPUs each unit gets: at least one, two where there are enough, and the others by the load."""
    least = _SAFE if size >= _SAFE * len(units) else 1
    counts = {id(unit): least for unit in units}
    for _ in range(size - least * len(units)):
        # To whoever would have the most work on each.
        most = max(units, key=lambda unit: ((load[id(unit)] + 1e-9) / counts[id(unit)], unit[0].name), default=None)
        if most is None:
            break
        counts[id(most)] += 1
    return counts


def _within(
    needs: Sequence[Need],
    tpus: Sequence[Tpu],
    found: Dict[str, Copies],
    memory: Dict[str, int],
    together: Sequence[Set[str]],
) -> Dict[str, Copies]:
    """The same within each host's memory: of the models that have copies elsewhere the largest goes first. A model's
    last copy stays, whatever it takes; so does an ensemble's last host."""
    size = {need.name: need.memory for need in needs}
    fixed = {need.name for need in needs if need.model.tpus}
    copies = {name: set(each) for name, each in found.items()}
    ready = {tpu.copy for tpu in tpus if tpu.ready}
    for host, most in sorted(memory.items()):
        here = {tpu.copy for tpu in tpus if tpu.host == host}
        while most and sum(size[name] * len(each & here) for name, each in copies.items()) > most:
            spare = [
                name
                for name, each in copies.items()
                if name not in fixed
                and size[name]
                and each & here
                and (
                    len(each & here) > 1 or ((each & ready) - here and not _parted(name, host, copies, ready, together))
                )
            ]
            if not spare:
                break
            name = max(spare, key=lambda name: (len(copies[name] & here) > 1, size[name], name))
            copies[name].discard(max(copies[name] & here, key=lambda copy: (copy not in ready, copy)))
    return {name: frozenset(each) for name, each in copies.items()}


def _parted(name: str, host: str, copies: Dict[str, Set[str]], ready: Set[str], together: Sequence[Set[str]]) -> bool:
    """Whether an ensemble that this host has the models of would have no host any more without this model here."""
    for names in together:
        if name in names:
            hosts = [{copy.partition(":")[0] for copy in copies.get(each, set()) & ready} for each in names]
            if set.intersection(*hosts) == {host}:
                return True
    return False


def step(now: Dict[str, Copies], wanted: Dict[str, Copies], ready: Dict[str, Copies]) -> Dict[str, Copies]:
    """The copies to ask for next: as wanted, and besides those that there are of a model of which less than half of
    what is wanted is ready, so that nothing goes before something is in its place. `ready`: those that answer."""
    found = {}
    for name, copies in wanted.items():
        able = ready.get(name, frozenset())
        there = now.get(name, frozenset())
        done = len(copies & able)
        enough = done and 2 * done >= min(len(copies), len(there & able) or 1)
        found[name] = copies if enough or not there & able else copies | (there & able)
    return found


def written(
    models: Iterable[ServedModel],
    copies: Dict[str, Copies],
    tpus: Sequence[Tpu],
    ready: Dict[str, Copies],
    silent: Set[str],
    moving: Set[str],
) -> Tuple[PlacedModel, ...]:
    """The placement as the desired state has it: of what is everywhere nothing, but while it gets there (`moving`: the
    models that have a placement, or that a board cannot get). Requests are sent to the hosts where a model is ready;
    `silent`: those of which HAProxy finds out by itself."""
    everywhere = {tpu.copy for tpu in tpus}
    found = []
    for model in models:
        mine = copies.get(model.name)
        if not mine:
            continue
        hosts = {copy.partition(":")[0] for copy in mine}
        able = {copy.partition(":")[0] for copy in mine & ready.get(model.name, frozenset())}
        to = able | (silent & hosts)
        balanced = tuple(sorted(to)) if able and to != hosts else ()
        if mine >= everywhere and not (model.hosts or model.tpus or model.each):
            if balanced and model.name in moving:
                found.append(PlacedModel(model.name, (), balanced))
            continue
        found.append(PlacedModel(model.name, tuple(sorted(mine)), balanced))
    return tuple(found)
