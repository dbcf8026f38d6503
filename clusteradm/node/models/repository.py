"""Model repository on the shared file system: CLUSTER_SHARED/models/NAME/VERSION/.

Versions are whole numbers, as in TensorFlow Serving. A version appears by one rename, complete, and never changes
again: its files are 0444 and its folder 0555. All of it is written by the cluster user.
"""

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Dict, Iterator, List, Optional

from clusteradm.node import atomic, blobs
from clusteradm.node.account import as_user
from clusteradm.node.handler import handles
from clusteradm.node.spec.wire.decode import decode
from clusteradm.node.spec.wire.manifest import LABELS, MANIFEST, MODEL
from clusteradm.node.spec.wire.repository import (
    ADDED,
    TAKEN,
    UNCHANGED,
    Addition,
    AddModel,
    Digests,
    ModelFound,
    ShowModel,
    VerifyModel,
)

_UPLOAD = ".upload-"
_CHUNK = 1 << 20


@handles(AddModel)
def add(request: AddModel) -> Addition:
    """Store a model whose files came as bodies."""
    model = _model_folder(request.shared, request.name)
    with ExitStack() as stack:
        # Opened by root, who owns the bodies; read by the cluster user.
        sources = {
            name: stack.enter_context(open(blobs.path_of(digest), "rb")) for name, digest in request.files.items()
        }

        def work() -> Dict[str, Any]:
            with _locked(model):
                return vars(_add(model, request, sources))

        return decode(Addition, as_user(request.user, work))


@handles(VerifyModel)
def verify(request: VerifyModel) -> Digests:
    """The files' sha256, as this host reads them; absent ones are looked for again for `within` seconds."""
    end = time.monotonic() + request.within

    def work() -> Dict[str, Optional[str]]:
        return {name: _sha256(os.path.join(request.path, name)) for name in request.files}

    while True:
        found: Dict[str, Optional[str]] = as_user(request.user, work)
        if None not in found.values() or time.monotonic() > end:
            return Digests(found)
        time.sleep(0.5)


@handles(ShowModel)
def show(request: ShowModel) -> ModelFound:
    """One version and its manifest, or what there is instead."""
    models = os.path.join(request.shared, "models")
    model = _model_folder(request.shared, request.name)

    def work() -> Dict[str, Any]:
        found = _versions(model)
        version = request.version if request.version is not None else (found[-1] if found else None)
        path = os.path.join(model, str(version))
        names = [name for name in sorted(os.listdir(models)) if _versions(os.path.join(models, name))]
        return {
            "models": names,
            "versions": found,
            "version": version,
            "path": path,
            "manifest": _manifest(path) if version in found else None,
        }

    return decode(ModelFound, as_user(request.user, work))


def _add(model: str, request: AddModel, sources: Dict[str, Any]) -> Addition:
    there = _versions(model)
    version = request.version
    same_as = version if version is not None else (there[-1] if there else None)
    if same_as is not None and same_as in there:
        path = os.path.join(model, str(same_as))
        if _holds(path, request.files):
            return Addition(UNCHANGED, same_as, path)
        if version is not None:
            return Addition(TAKEN, version, path)
    if version is None:
        version = there[-1] + 1 if there else 1
    path = os.path.join(model, str(version))
    fresh = os.path.join(model, _UPLOAD + secrets.token_hex(4))
    os.mkdir(fresh)
    try:
        for name, source in sources.items():
            _write(os.path.join(fresh, name), source, request.files[name])
        manifest = replace(request.manifest, version=version).to_json()
        with open(os.path.join(fresh, MANIFEST), "w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=2)
            file.write("\n")
            _keep(file)
        os.chmod(fresh, 0o555)  # noqa: S103 - every node reads it, nobody writes it
        atomic.sync_folder(fresh)
        os.rename(fresh, path)
    except BaseException:
        _remove(fresh)
        raise
    atomic.sync_folder(model)
    return Addition(ADDED, version, path)


@contextmanager
def _locked(model: str) -> Iterator[None]:
    """Exclusive use of this model's folder. Removes what an interrupted upload left, and a folder without a version."""
    os.makedirs(model, exist_ok=True)
    lock = os.open(model, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in os.listdir(model):
            if name.startswith(_UPLOAD):
                _remove(os.path.join(model, name))
        yield
    finally:
        if not os.listdir(model):
            os.rmdir(model)
        os.close(lock)


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


def _keep(file: Any) -> None:
    """Write it to the disk and make it read-only."""
    file.flush()
    os.fsync(file.fileno())
    os.fchmod(file.fileno(), 0o444)


def _remove(folder: str) -> None:
    os.chmod(folder, 0o700)
    shutil.rmtree(folder)


def _versions(model: str) -> List[int]:
    try:
        return sorted(int(name) for name in os.listdir(model) if name.isdigit() and str(int(name)) == name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _holds(path: str, wanted: Dict[str, str]) -> bool:
    """Whether a version has exactly these files."""
    return all(_sha256(os.path.join(path, name)) == wanted.get(name) for name in (MODEL, LABELS))


def _sha256(path: str) -> Optional[str]:
    """None where there is no such file."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for data in iter(lambda: file.read(_CHUNK), b""):
                digest.update(data)
    except FileNotFoundError:
        return None
    return digest.hexdigest()


def _manifest(path: str) -> Any:
    with open(os.path.join(path, MANIFEST), encoding="utf-8") as file:
        return json.load(file)


def _model_folder(shared: str, name: str) -> str:
    return os.path.join(shared, "models", name)
