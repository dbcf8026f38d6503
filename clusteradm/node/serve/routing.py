"""Routing table: which versions of which models this board serves, under which labels, on which engines."""

from typing import Dict, Iterable, List, NamedTuple, Optional, Tuple

from clusteradm.node.serve.loaded import Loaded
from clusteradm.node.serve.plane import NOT_FOUND, UNAVAILABLE, Refusal
from clusteradm.node.serve.servables.signature import ServableSignature
from clusteradm.node.serve.signature import Signature
from clusteradm.node.serve.table import Table, named, newest
from clusteradm.node.spec.wire.serving import END, LOADING, START, VersionState


class Entry(NamedTuple):
    """A version that is available. `engines`: the numbers of those that have it."""

    signature: Signature
    engines: Tuple[int, ...]

    @property
    def loaded(self) -> Loaded:
        return self.signature.loaded


class Model(NamedTuple):
    """A model that is served. `default`: a label or a version, None for the highest but the `canary`."""

    versions: Dict[int, Entry]
    labels: Dict[str, int]
    default: Optional[str]
    canary: Optional[int]


class Routing:
    """Immutable; a change makes another one, which takes its place between two requests."""

    def __init__(
        self,
        models: Dict[str, Model],
        states: Iterable[VersionState] = (),
        elsewhere: Optional[Dict[str, str]] = None,
    ) -> None:
        self.models, self.elsewhere = models, elsewhere or {}
        self.states: List[VersionState] = list(states)

    def find(self, model: str, version: Optional[int] = None, label: Optional[str] = None) -> Entry:
        """The version that a request means. Raises Refusal: NOT_FOUND, or UNAVAILABLE for one that is not loaded."""
        known = self.models.get(model)
        if known is None:
            raise self._refused(model, version, "no model %s is served here" % _shown(model))
        version, label = named(known.default, version, label)
        if label is not None:
            if label not in known.labels:
                raise Refusal(NOT_FOUND, "model %s has no label %s" % (model, _shown(label)))
            version = known.labels[label]
        if version is None:
            version = newest(known.versions, known.canary)
        if version is None:
            raise self._refused(model, None, "no version of model %s is served here" % model)
        if version not in known.versions:
            raise self._refused(model, version, "model %s has no version %d here" % (model, version))
        return known.versions[version]

    def _refused(self, model: str, version: Optional[int], text: str) -> Refusal:
        """NOT_FOUND; but UNAVAILABLE, with the reason, for what is to be served and is not yet, or cannot be, and for
        what other boards have: a balancer sends the request there."""
        for state in self.states:
            waits = state.state in (START, LOADING) or (state.state == END and state.reason)
            if state.name == model and version in (None, state.version) and waits:
                reason = state.reason or "it is in the state %s" % state.state
                return Refusal(UNAVAILABLE, "model %s version %d: %s" % (model, state.version, reason), 1.0)
        if model in self.elsewhere:
            return Refusal(UNAVAILABLE, "model %s is not on this board: ask %s" % (model, self.elsewhere[model]), 1.0)
        return Refusal(NOT_FOUND, text)


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
        return Routing(models, table.board.versions, table.elsewhere)

    def _signature(self, loaded: Loaded) -> Signature:
        known = self._signatures.get(loaded.key)
        if known is None or known.loaded != loaded:
            kind = Signature if loaded.servable is None else ServableSignature
            known = self._signatures[loaded.key] = kind(loaded)
        return known


def _shown(text: str) -> str:
    return ascii(text[:100])[1:-1]
