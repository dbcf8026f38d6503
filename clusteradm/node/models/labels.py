"""Labels of a model's versions, on the head: moved by one rename of versions.json, and to a whole version only."""

import os
from dataclasses import replace
from typing import Dict, List, Optional

from clusteradm.node.handler import handles
from clusteradm.node.models import store
from clusteradm.node.spec.wire.versions import (
    LATEST,
    MOVED,
    REFUSED,
    UNCHANGED,
    Label,
    LabelChange,
    LabelVersion,
    RollBack,
    VersionsFile,
)

# Versions that a label was before: as many steps as it can be taken back.
_MOST_BEFORE = 20
_MOST_LABELS = 100


@handles(LabelVersion)
def label(request: LabelVersion) -> LabelChange:
    """Move a label to a version, or take it away."""
    model = store.model_folder(request.shared, request.name)
    with store.locked(model):
        there, state = store.versions(model), store.read_versions(model)
        old = state.labels.get(request.label)
        if request.version is None:
            if old is None:
                return _refused(there, state)
            labels = {name: about for name, about in state.labels.items() if name != request.label}
            store.write_versions(model, replace(state, labels=labels))
            return LabelChange(MOVED, None, old.version, tuple(there), _numbers(labels))
        if request.version not in there or request.label == LATEST:
            return _refused(there, state)
        if old is not None and old.version == request.version:
            return LabelChange(UNCHANGED, old.version, old.version, tuple(there), _numbers(state.labels))
        if old is None and len(state.labels) >= _MOST_LABELS:
            return _refused(there, state, "the model has %d labels already" % _MOST_LABELS)
        if not store.whole(os.path.join(model, str(request.version))):
            return _refused(there, state, "its files are not as they were stored")
        before = (old.version, *old.before)[:_MOST_BEFORE] if old is not None else ()
        return _move(model, state, request.label, Label(request.version, before), there)


@handles(RollBack)
def roll_back(request: RollBack) -> LabelChange:
    """Take a label back by one step; one of a damaged version cannot be taken to it."""
    model = store.model_folder(request.shared, request.name)
    with store.locked(model):
        there, state = store.versions(model), store.read_versions(model)
        old = state.labels.get(request.label)
        if old is None:
            return _refused(there, state)
        before = [number for number in old.before if number in there and number != old.version]
        if not before:
            return _refused(there, state, "it was no other version before that is still there")
        if not store.whole(os.path.join(model, str(before[0]))):
            return _refused(there, state, "the files of version %d are not as they were stored" % before[0])
        return _move(model, state, request.label, Label(before[0], tuple(before[1:])), there)


def _move(model: str, state: VersionsFile, name: str, label: Label, there: List[int]) -> LabelChange:
    old = state.labels.get(name)
    labels = {**state.labels, name: label}
    store.write_versions(model, replace(state, labels=labels))
    before = old.version if old is not None else None
    return LabelChange(MOVED, label.version, before, tuple(there), _numbers(labels))


def _refused(there: List[int], state: VersionsFile, reason: Optional[str] = None) -> LabelChange:
    return LabelChange(REFUSED, versions=tuple(there), labels=_numbers(state.labels), reason=reason)


def _numbers(labels: Dict[str, Label]) -> Dict[str, int]:
    return {name: label.version for name, label in labels.items()}
