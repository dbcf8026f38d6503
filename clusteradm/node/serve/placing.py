"""Placing: the head looks at the boards again and again, and decides where models are (placement.py).

By default every model is on all TPUs. Where swaps of models take a good part of the TPUs' time, models are kept apart,
by their loads, until there is next to nothing to do; where a host's memory is too small for all, some are elsewhere.
"""

import time
from dataclasses import replace
from typing import Callable, Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Set, Tuple

from clusteradm.node.models import store
from clusteradm.node.serve import balancer, placement, together
from clusteradm.node.serve.placement import Copies, Need, Tpu
from clusteradm.node.spec.wire.manifest import CLASSIFIER, Manifest
from clusteradm.node.spec.wire.servables import reference
from clusteradm.node.spec.wire.serving import AVAILABLE, END, DesiredState, PlacedModel, ServedModel
from clusteradm.node.spec.wire.serving_requests import BoardSaid

WINDOW = 10.0  # seconds between two measurements of loads and swaps
# Models are kept apart once swaps took such a part of the time of inferences, of TPUs that worked so much of a window,
# in so many windows; and no more after so many seconds in which they worked less than that.
_SWAPS, _BUSY, _WINDOWS = 0.1, 0.05, 3
_IDLE_SECONDS = 600.0
_WEIGHT = 0.3  # of the last window in a model's load
_GRACE = 30.0  # for a TPU that is not ready: it may be back
# Other TPUs are given to models that are kept apart at most so often, if the busiest is so busy, and it helps so much.
_CALM, _PRESSURE, _WORTH = 60.0, 0.5, 0.8
# Of a host's memory for models; each copy takes its file twice: as it was read, and as the runtime has it.
_SHARE, _TIMES = 0.5, 2


class About(NamedTuple):
    """What the repository says of a model: bytes of its files, whether a TPU keeps parameters of it, and the tokens of
    its compiler. Of another servable, which has no TPU: `other`, and the names of its `members`."""

    bytes: int
    kept: bool
    tokens: FrozenSet[str]
    other: bool = False
    members: FrozenSet[str] = frozenset()


def about(shared: str, model: ServedModel) -> About:
    """Of all its versions that are to be served."""
    folder = store.model_folder(shared, model.name)
    try:
        labels = {label: each.version for label, each in store.read_versions(folder).labels.items()}
        numbers = model.wanted(store.versions(folder), labels)
    except OSError:
        numbers = []
    found = [store.manifest("%s/%d" % (folder, number)) for number in numbers]
    known = [each for each in found if each is not None]
    tokens = frozenset(token for each in known for token in each.tokens)
    others = [each.servable for each in known if each.servable is not None]
    members = frozenset(reference(text)[0] for each in others for text in each.members)
    size = sum(each.bytes for each in known)
    return About(size, any(each.cached_bytes for each in known), tokens, bool(others), members)


def models(shared: str, state: DesiredState) -> balancer.Models:
    """What HAProxy is told of the models: all of the repository, for the buffers, as serve up counts them; and which
    one is asked where a request names none but a task, the first that is served by its name."""
    manifests: List[Manifest] = []
    firsts: Dict[str, str] = {}
    served = {model.name for model in state.models}
    for name in store.names(shared):
        folder = store.model_folder(shared, name)
        try:
            numbers = store.versions(folder)
        except OSError:  # it says so to whoever wants it
            continue
        known = [
            each for each in (store.manifest("%s/%d" % (folder, number)) for number in numbers) if each is not None
        ]
        manifests += known
        if known and name in served:
            firsts.setdefault(known[-1].task or CLASSIFIER, name)
    return balancer.Models(manifests, firsts)


def carried(shared: str, old: DesiredState, new: DesiredState) -> Tuple[PlacedModel, ...]:
    """The placement of a new state, before anybody has looked at the boards."""
    known = {model.name: about(shared, model) for model in new.models}
    return together.placed(replace(new, placement=placement.carried(old, new)), _ensembles(known))


def _ensembles(known: Dict[str, About]) -> together.Members:
    return {name: each.members for name, each in known.items() if each.members}


class Placer:
    """`clock`: seconds that never go back."""

    def __init__(self, shared: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._shared, self._clock = shared, clock
        self.apart = False
        self._tpus: Dict[str, Tuple[Tpu, float]] = {}  # by copy; when it was ready last
        self._loads: Dict[str, float] = {}
        self._measured: Optional[float] = None
        self._counts: Dict[str, float] = {}
        self._swapping = 0  # windows in a row
        self._busy_at = 0.0
        self._target: Dict[str, Copies] = {}
        self._basis: object = None
        self._decided = 0.0

    def next(self, state: DesiredState, said: Dict[str, BoardSaid]) -> Tuple[PlacedModel, ...]:
        """The placement to ask for, by what the boards say of themselves."""
        now = self._clock()
        ready = self._look(state, said, now)
        if not ready:
            return state.placement  # nobody answers
        if self._measured is None:  # after a start it goes on with what it had decided
            free = {model.name for model in state.models if not (model.hosts or model.tpus or model.each)}
            self.apart = any(placed.name in free and placed.tpus for placed in state.placement)
        tpus = [tpu for tpu, _ in self._tpus.values()]
        able = {
            model.name: frozenset(copy for copy in _available(model.name, said) if copy in ready)
            for model in state.models
        }
        self._measure(said, now)
        there = {model.name: _there(state, model, tpus) for model in state.models}
        known = {model.name: about(self._shared, model) for model in state.models}
        ensembles = _ensembles(known)
        needs = self._needs(state.models, known)
        memory = {
            host: int(each.state.memory * _SHARE)
            for host, each in said.items()
            if each.state is not None and each.state.memory
        }
        names = {need.name for need in needs}
        whole = [both for both in (together.parts(name, ensembles) & names for name in sorted(ensembles)) if both]
        wanted = self._wanted(needs, tpus, memory, there, whole, now)
        for need in needs:
            wanted[need.name] = self._alive(need, wanted[need.name], ready)
        copies = placement.step(there, wanted, able)
        # What wants no requests gets none from HAProxy, whatever is said here.
        silent = {host for host, each in said.items() if each.state is None or not each.state.balance}
        moving = {placed.name for placed in state.placement} | _lacked(said, silent)
        placed = placement.written(state.models, copies, tpus, able, silent, moving)
        answers = {name: _hosts(name, said) for name in ensembles}
        answers = {name: hosts | silent if hosts else hosts for name, hosts in answers.items()}
        return together.placed(replace(state, placement=placed), ensembles, answers)

    def _look(self, state: DesiredState, said: Dict[str, BoardSaid], now: float) -> Copies:
        """Learn which TPUs there are; those that are ready."""
        ready = set()
        for host, each in said.items():
            if each.state is None:
                continue
            out = host in (*state.drained, *state.out_of_service)
            engines = {
                engine.pci_address or "cpu": engine.state == "ready" and not out
                for engine in each.state.engines
                if not engine.servables
            }
            for copy in [copy for copy, (tpu, _) in self._tpus.items() if tpu.host == host]:
                if copy.partition(":")[2] not in engines:
                    del self._tpus[copy]  # it is not serving's any more
            for device, is_ready in engines.items():
                tpu = Tpu(host, device)
                before = self._tpus.get(tpu.copy, (tpu, now - 2 * _GRACE))[1]
                self._tpus[tpu.copy] = (tpu, now if is_ready else before)
                if is_ready:
                    ready.add(tpu.copy)
        for copy in [copy for copy, (tpu, _) in self._tpus.items() if tpu.host not in said]:
            del self._tpus[copy]
        for copy, (tpu, at) in self._tpus.items():
            self._tpus[copy] = (tpu._replace(ready=now - at <= _GRACE), at)
        return frozenset(ready)

    def _measure(self, said: Dict[str, BoardSaid], now: float) -> None:
        """Loads and swaps since the last window. What a board has counted begins anew with its server."""
        if self._measured is not None and now - self._measured < WINDOW:
            return
        counts: Dict[str, float] = {}
        for host, each in said.items():
            for version in each.state.versions if each.state is not None else ():
                key = "model %s %s" % (host, version.name)
                counts[key] = counts.get(key, 0.0) + version.busy_seconds
            for engine in each.state.engines if each.state is not None else ():
                if engine.servables:
                    continue
                counts["busy %s %s" % (host, engine.pci_address)] = engine.busy_seconds
                counts["swap %s %s" % (host, engine.pci_address)] = engine.swap_seconds
        before, self._counts = self._counts, {**self._counts, **counts}
        if self._measured is None:
            self._measured, self._busy_at = now, now
            return
        seconds, self._measured = now - self._measured, now
        grown = {key: max(0.0, value - before.get(key, value)) / seconds for key, value in counts.items()}
        loads: Dict[str, float] = {}
        for key, value in grown.items():
            if key.startswith("model "):
                name = key.split(" ")[2]
                loads[name] = loads.get(name, 0.0) + value
        for name in {*loads, *self._loads}:
            old = self._loads.get(name, 0.0)
            self._loads[name] = old + _WEIGHT * (loads.get(name, 0.0) - old)
        busy = sum(value for key, value in grown.items() if key.startswith("busy "))
        swaps = sum(value for key, value in grown.items() if key.startswith("swap "))
        works = busy >= _BUSY * max(1, len(self._tpus))
        self._swapping = self._swapping + 1 if works and swaps >= _SWAPS * busy else 0
        if works:
            self._busy_at = now
        if self._swapping >= _WINDOWS:
            self.apart = True
        elif now - self._busy_at >= _IDLE_SECONDS:
            self.apart = False

    def _needs(self, models: Sequence[ServedModel], known: Dict[str, About]) -> List[Need]:
        """What the models need. What an ensemble is of has to be on every board that has the ensemble: it is kept from
        no TPU."""
        members = {name for each in known.values() for name in each.members}
        found = []
        for model in models:
            its = known[model.name]
            if not its.other:
                kept, load = its.kept and model.name not in members, self._loads.get(model.name, 0.0)
                found.append(Need(model, _TIMES * its.bytes, kept, its.tokens, load))
        return found

    def _wanted(
        self,
        needs: Sequence[Need],
        tpus: List[Tpu],
        memory: Dict[str, int],
        there: Dict[str, Copies],
        whole: List[Set[str]],
        now: float,
    ) -> Dict[str, Copies]:
        """The target; of models that are kept apart the one of before, as long as it is good enough."""
        new = placement.target(needs, tpus, self.apart, memory, there, whole)
        basis = (
            self.apart,
            memory,
            sorted(tpus),
            [(need.model, need.memory, need.kept, need.tokens) for need in needs],
            whole,
        )
        if self.apart and basis == self._basis:
            calm = now - self._decided < _CALM
            before, after = _pressure(needs, self._target), _pressure(needs, new)
            if calm or before < _PRESSURE or after > _WORTH * before:
                return dict(self._target)
        self._target, self._basis, self._decided = new, basis, now
        return dict(new)

    def _alive(self, need: Need, copies: Copies, ready: Copies) -> Copies:
        """The copies, with another one where none of them is ready: it is for those that wait, and not to be lost."""
        model = need.model
        if copies & ready or model.tpus:
            return copies
        able = [copy for copy in sorted(ready) if not model.hosts or copy.partition(":")[0] in model.hosts]
        return copies | frozenset(able[:1])


def _available(name: str, said: Dict[str, BoardSaid]) -> Copies:
    """The copies of a model that the boards have loaded."""
    return frozenset(
        "%s:%s" % (host, device)
        for host, each in said.items()
        for version in (each.state.versions if each.state is not None else ())
        if version.name == name and version.state == AVAILABLE
        for device in version.tpus
    )


def _lacked(said: Dict[str, BoardSaid], silent: Set[str]) -> Set[str]:
    """The models of which a board that takes requests has no version, and cannot get one: its disk is full, say. A
    request for one that came there would wait for it in vain."""
    return {
        version.name
        for host, each in said.items()
        if each.state is not None and host not in silent
        for version in each.state.versions
        if version.state == END and not _hosts(version.name, {host: each})
    }


def _hosts(name: str, said: Dict[str, BoardSaid]) -> Set[str]:
    """The hosts that answer for what has no TPU."""
    return {
        host
        for host, each in said.items()
        for version in (each.state.versions if each.state is not None else ())
        if version.name == name and version.state == AVAILABLE
    }


def _there(state: DesiredState, model: ServedModel, tpus: Sequence[Tpu]) -> Copies:
    """The copies that are asked for now."""
    found = set()
    for tpu in tpus:
        devices = placement.homes(state, tpu.host, model.name)
        if devices is None or tpu.device in devices:
            found.add(tpu.copy)
    return frozenset(found)


def _pressure(needs: Sequence[Need], copies: Dict[str, Copies]) -> float:
    """How busy the busiest TPU would be."""
    work: Dict[str, float] = {}
    for need in needs:
        mine = copies.get(need.name, frozenset())
        for copy in mine:
            work[copy] = work.get(copy, 0.0) + need.load / len(mine)
    return max(work.values(), default=0.0)
