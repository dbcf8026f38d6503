"""Model repository on the shared file system: versions added, verified, shown, listed.

Versions are whole numbers, as in TensorFlow Serving. A version appears by one rename, complete, and never changes
again: its files are 0444 and its folder 0555.
"""

import hashlib
import json
import os
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Dict, List, Optional, Tuple

from clusteradm.node import atomic, blobs
from clusteradm.node.account import as_user
from clusteradm.node.handler import handles
from clusteradm.node.models import loading, store, uses
from clusteradm.node.spec.wire.decode import decode
from clusteradm.node.spec.wire.manifest import LABELS, MANIFEST, MODEL, SUMS, sums_text
from clusteradm.node.spec.wire.repository import (
    ADDED,
    LACKING,
    REPAIRED,
    TAKEN,
    UNCHANGED,
    UNREADABLE,
    Addition,
    AddModel,
    Digests,
    ListedVersion,
    ListModels,
    ModelFound,
    ModelList,
    ShowModel,
    VerifyModel,
)
from clusteradm.node.spec.wire.versions import MOST_VERSION, VersionsFile

_CHUNK = 1 << 20
# Bounds of the reply to ListModels.
_LIST_COUNT = 2000
_LIST_BYTES = 4 << 20


@handles(AddModel)
def add(request: AddModel) -> Addition:
    """Store a model whose files came as bodies."""
    model = store.model_folder(request.shared, request.name)
    with store.locked(model):
        done = _add(model, request)
    if done.state in (ADDED, REPAIRED):
        for digest in request.files.values():
            blobs.drop(digest)
    return done


@handles(VerifyModel)
def verify(request: VerifyModel) -> Digests:
    """The files' sha256, as this host reads them; absent ones are looked for again for `within` seconds."""
    end = time.monotonic() + request.within

    def work() -> Dict[str, Optional[str]]:
        return {name: store.sha256(os.path.join(request.path, name)) for name in request.files}

    # Looked for first, and hashed once: a model may have a gigabyte, and every host reads it over the network.
    while not as_user(request.user, lambda: _are_there(request)) and time.monotonic() <= end:
        time.sleep(0.5)
    found: Dict[str, Optional[str]] = as_user(request.user, work)
    load = None if (found.get(MODEL) or UNREADABLE).startswith(UNREADABLE) else request.load
    tried = loading.trial(request.user, os.path.join(request.path, MODEL), load) if load else loading.Trial(False)
    return Digests(found, tried.tried, tried.refused)


def _are_there(request: VerifyModel) -> bool:
    """Whether no file is absent; one that cannot be looked at is not absent, and what reads it says why."""
    for name in request.files:
        try:
            os.lstat(os.path.join(request.path, name))
        except FileNotFoundError:
            return False
        except OSError:
            continue
    return True


@handles(ShowModel)
def show(request: ShowModel) -> ModelFound:
    """One version and its manifest, or what there is instead."""
    model = store.model_folder(request.shared, request.name)
    if os.path.isdir(model):
        store.check_own(model)

    def work() -> Any:
        there = store.versions(model)
        labels = {name: label.version for name, label in store.read_versions(model).labels.items()} if there else {}
        version = request.version
        if request.label is not None:
            version = labels.get(request.label)
        elif version is None and there:
            version = there[-1]
        path = os.path.join(model, str(version))
        about = store.manifest(path) if version in there else None
        if version in there and about is None and store.is_there(path):
            raise ValueError(
                "the manifest of %s version %s is damaged: clusteradm model verify %s says more"
                % (request.name, version, request.name)
            )
        return _plain(ModelFound(tuple(store.names(request.shared)), tuple(there), version, path, about, labels))

    found = decode(ModelFound, as_user(request.user, work))
    return replace(found, uses=tuple(uses.of(request.shared, request.name))) if request.uses else found


@handles(ListModels)
def list_versions(request: ListModels) -> ModelList:
    """The versions that are asked for, up to _LIST_COUNT versions or _LIST_BYTES of manifests."""
    return decode(ModelList, as_user(request.user, lambda: _plain(_listed(request))))


def _plain(document: Any) -> Any:
    """The record as JSON values, which a process hands to another."""
    return json.loads(json.dumps(document, default=vars))


def _listed(request: ListModels) -> ModelList:
    shared = request.shared
    labels: Dict[str, VersionsFile] = {}
    damaged: List[str] = []
    every: List[Tuple[str, int]] = []
    for name in store.names(shared):
        if request.name not in (None, name):
            continue
        model = store.model_folder(shared, name)
        labels[name] = VersionsFile()
        try:
            there = store.versions(model)
        except OSError as error:
            damaged.append("the model %s cannot be listed: %s, on %s" % (name, error.strerror, model))
            continue
        try:
            labels[name] = store.read_versions(model)
        except OSError as error:
            damaged.append(str(error.strerror))
        every += [
            (name, version)
            for version in there
            if request.version in (None, version) and _is_labelled(labels[name], version, request.label)
        ]
    found: List[ListedVersion] = []
    left, room = len(every), _LIST_BYTES
    for name, version in every[:_LIST_COUNT]:
        path = os.path.join(store.model_folder(shared, name), str(version))
        room -= len(store.text(path, MANIFEST))
        if room < 0:
            break
        left -= 1
        about = store.manifest(path)
        if about is None and not store.is_there(path):
            continue  # it was removed meanwhile
        mine = tuple(sorted(word for word, label in labels[name].labels.items() if label.version == version))
        sums = store.sums(path) if os.path.lexists(os.path.join(path, SUMS)) else None
        found.append(ListedVersion(name, version, path, about, mine, sums))
    return ModelList(tuple(found), left, tuple(damaged))


def _is_labelled(state: VersionsFile, version: int, wanted: Optional[str]) -> bool:
    return wanted is None or (wanted in state.labels and state.labels[wanted].version == version)


def _add(model: str, request: AddModel) -> Addition:
    there = store.versions(model)
    version = request.version
    same_as = version if version is not None else (there[-1] if there else None)
    if same_as is not None and same_as in there:
        path = os.path.join(model, str(same_as))
        if _is_same(path, request):
            return Addition(UNCHANGED, same_as, path)
        if _was_same(path, request, same_as):
            return _publish(REPAIRED, model, request, same_as)
        if version is not None:
            return Addition(TAKEN, version, path)
    if version is None:
        version = max(there[-1] if there else 0, store.read_versions(model).last) + 1
        if version > MOST_VERSION:
            raise ValueError(
                "%s has no number after version %d: name a free one (--version)" % (request.name, version - 1)
            )
    return _publish(ADDED, model, request, version)


def _publish(state: str, model: str, request: AddModel, version: int) -> Addition:
    """Write the version under a hidden name, verify it, have it on the disk, and rename it."""
    path = os.path.join(model, str(version))
    with ExitStack() as stack:
        try:
            sources = {
                name: stack.enter_context(open(blobs.path_of(digest), "rb")) for name, digest in request.files.items()
            }
        except FileNotFoundError:
            return Addition(LACKING, version, path)
        fresh = _written(model, request, version, sources)
    if state == REPAIRED:
        store.discard(store.hide(path))
    os.rename(fresh, path)
    atomic.sync_folder(model)
    return Addition(state, version, path)


def _written(model: str, request: AddModel, version: int, sources: Dict[str, Any]) -> str:
    """A hidden folder with all files of the version, on the disk."""
    fresh = store.hidden(model, "upload")
    os.mkdir(fresh)
    try:
        for name, source in sources.items():
            _write(os.path.join(fresh, name), source, request.files[name])
        manifest = _manifest(request, version)
        _write_text(os.path.join(fresh, MANIFEST), manifest)
        _write_text(os.path.join(fresh, SUMS), sums_text(_sums(request, manifest)))
        os.chmod(fresh, 0o555)  # noqa: S103 - every node reads it, nobody writes it
        atomic.sync_folder(fresh)
    except BaseException:
        store.discard(fresh)
        raise
    return fresh


def _manifest(request: AddModel, version: int) -> str:
    return json.dumps(replace(request.manifest, version=version).to_json(), indent=2) + "\n"


def _sums(request: AddModel, manifest: str) -> Dict[str, str]:
    return {**request.files, MANIFEST: hashlib.sha256(manifest.encode("utf-8")).hexdigest()}


def _write(path: str, source: Any, digest: str) -> None:
    """Copy a body into the version and verify its sha256."""
    found = hashlib.sha256()
    with open(path, "wb") as file:
        for data in iter(lambda: source.read(_CHUNK), b""):
            found.update(data)
            file.write(data)
        _keep(file)
    if found.hexdigest() != digest:
        raise OSError("%s arrived with sha256 %s, not %s" % (path, found.hexdigest(), digest))


def _write_text(path: str, text: str) -> None:
    with open(path, "wb") as file:
        file.write(text.encode("utf-8"))
        _keep(file)


def _keep(file: Any) -> None:
    """Write it to the disk and make it read-only."""
    file.flush()
    os.fsync(file.fileno())
    os.fchmod(file.fileno(), 0o444)


def _is_same(path: str, request: AddModel) -> bool:
    """Whether a version is whole, has exactly these files, and is fed and read in the same way."""
    about, known = store.manifest(path), store.sums(path)
    new = request.manifest
    if about is None or (about.feed, about.threshold) != (new.feed, new.threshold):
        return False
    if about.task not in (None, new.task):  # None: of an earlier program, or unknown
        return False
    if (about.servable, new.servable) != (None, None) and (about.servable, about.inputs, about.outputs) != (
        new.servable,
        new.inputs,
        new.outputs,
    ):
        return False
    if not known:
        return not os.path.exists(os.path.join(path, SUMS)) and _holds(path, request.files)
    return {**known, MANIFEST: ""} == {**request.files, MANIFEST: ""} and store.whole(path)


def _was_same(path: str, request: AddModel, version: int) -> bool:
    """Whether a version that is damaged now was stored as this one would be."""
    manifest = _manifest(request, version)
    if store.sums(path) == _sums(request, manifest):
        return True
    # The record itself is damaged, and all that it is about is there.
    same = store.text(path, MANIFEST) == manifest.encode("utf-8") and _holds(path, request.files)
    return same and os.path.exists(os.path.join(path, SUMS))


def _holds(path: str, wanted: Dict[str, str]) -> bool:
    """Whether a version has exactly these files."""
    names = {MODEL, LABELS} | wanted.keys()
    return all(store.sha256(os.path.join(path, name)) == wanted.get(name) for name in names)
