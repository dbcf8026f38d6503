"""Removal of a model's versions, on the head: out of every listing by one rename, then off the disk."""

import os
from dataclasses import replace

from clusteradm.node.handler import handles
from clusteradm.node.models import store, uses
from clusteradm.node.spec.wire.versions import Removal, RemoveVersions


@handles(RemoveVersions)
def remove(request: RemoveVersions) -> Removal:
    """Remove a version, or all; nothing where one of them is used, or where a label would be left without a version."""
    model = store.model_folder(request.shared, request.name)
    with store.locked(model):
        there = store.versions(model)
        if not there or (request.version is not None and request.version not in there):
            return Removal(versions=tuple(there))
        if request.version is None and request.confirmed is not None:
            unconfirmed = sorted(set(there) - set(request.confirmed))
            if unconfirmed:
                return Removal(versions=tuple(there), unconfirmed=tuple(unconfirmed))
        used = tuple(uses.of(request.shared, request.name, request.version))
        # A file of labels that is damaged is no reason to keep a model that is to go as a whole.
        state = store.read_versions(model) if request.version is not None else None
        labels = state.labels if state is not None else {}
        held = tuple(sorted(name for name, label in labels.items() if label.version == request.version))
        if used or held:
            return Removal((), tuple(there), held, used)
        if request.version is None:
            store.discard(store.hide(model))
            return Removal(tuple(there), tuple(there))
        if state is not None and there[-1] > state.last:
            # Before it is gone: its number is not given to other content.
            store.write_versions(model, replace(state, last=there[-1]))
        store.discard(store.hide(os.path.join(model, str(request.version))))
        return Removal((request.version,), tuple(there))
