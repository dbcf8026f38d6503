"""Routes: what the front processes are to know of the models, by what is desired and what the engines have."""

from typing import Dict, Iterable, Optional, Tuple

from clusteradm.node.serve.convergence import Convergence
from clusteradm.node.serve.engines import EngineKeeper
from clusteradm.node.serve.loaded import Loaded
from clusteradm.node.serve.servables import members
from clusteradm.node.serve.table import TableModel, TableVersion
from clusteradm.node.spec.wire.serving import ServedModel


class Routes:
    """A label, or a default version, moves when the version that it moves to is available, and not before."""

    def __init__(self, convergence: Convergence) -> None:
        self._convergence = convergence
        self._known: Dict[int, Loaded] = {}
        self._labels: Dict[Tuple[str, str], int] = {}
        self._defaults: Dict[str, Optional[str]] = {}

    def models(self, engines: Iterable[EngineKeeper]) -> Tuple[TableModel, ...]:
        """The models of this board, each with the versions that are available, or were before their engines ended."""
        engines = list(engines)
        keys = {key for _, key in self._convergence.served()}
        self._known = {key: loaded for key, loaded in self._known.items() if key in keys}
        versions: Dict[str, Dict[int, TableVersion]] = {}
        for (name, number, _), key in self._convergence.served():
            having = [engine for engine in engines if key in engine.loaded]
            if having:
                self._known[key] = having[0].loaded[key]
            # One whose engines start anew is known all the same.
            if having or (key in self._known and not any(key in engine.failures for engine in engines)):
                there, numbers = versions.setdefault(name, {}), tuple(engine.number for engine in having)
                # A number that was given anew is what it was until the new content is available.
                if having or number not in there:
                    there[number] = TableVersion(self._known[key], numbers)
        wanted = self._convergence.models()
        before = dict(self._labels), dict(self._defaults)
        found = tuple(self._model(model, versions.get(model.name, {})) for model in wanted)
        self._convergence.withheld = away = members.withheld(found, self._convergence.elsewhere())
        seen = {(model.name, each.loaded.version) for model in found for each in model.versions}
        self._convergence.whole = seen - set(away)
        if not away:
            return found
        # An ensemble that lacks something is not available, and no label moves to it.
        self._labels, self._defaults = before
        for name, number in away:
            del versions[name][number]
        return tuple(self._model(model, versions.get(model.name, {})) for model in wanted)

    def _model(self, model: ServedModel, versions: Dict[int, TableVersion]) -> TableModel:
        labels = {}
        for label, number in self._convergence.labels(model.name).items():
            before = self._labels.get((model.name, label), number)
            labels[label] = before if number not in versions and before in versions else number
            self._labels[model.name, label] = labels[label]
        default = model.default
        if default is not None and default.isdigit() and int(default) not in versions:
            default = self._defaults.get(model.name, default)
        self._defaults[model.name] = default
        canary = model.canary.version if model.canary is not None else None
        return TableModel(model.name, tuple(versions.values()), labels, default, canary)
