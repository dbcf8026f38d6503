"""Model repository on the shared file system: CLUSTER_SHARED/models/NAME/VERSION/.

Versions are whole numbers, as in TensorFlow Serving. A version appears by one rename, complete, and never changes
again: its files are 0444 and its folder 0555. Root of the head writes it, and nobody else can: every board obeys it.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any, Dict, Iterator, List, Optional

from clusteradm.node import atomic, blobs, paths
from clusteradm.node.account import as_user
from clusteradm.node.handler import handles
from clusteradm.node.models import loading
from clusteradm.node.spec.wire.decode import WireError, decode, loads
from clusteradm.node.spec.wire.manifest import LABELS, MANIFEST, MODEL, NAME, Feed, Manifest
from clusteradm.node.spec.wire.repository import (
    ADDED,
    TAKEN,
    UNCHANGED,
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
from clusteradm.node.state import owners, private

_UPLOAD = ".upload-"
_CHUNK = 1 << 20
# Bounds of the reply to ListModels.
_LIST_COUNT = 2000
_LIST_BYTES = 4 << 20
_MANIFEST_BYTES = 64 << 10


@handles(AddModel)
def add(request: AddModel) -> Addition:
    """Store a model whose files came as bodies."""
    model = _model_folder(request.shared, request.name)
    with ExitStack() as stack:
        sources = {
            name: stack.enter_context(open(blobs.path_of(digest), "rb")) for name, digest in request.files.items()
        }
        with _locked(model):
            return _add(model, request, sources)


@handles(VerifyModel)
def verify(request: VerifyModel) -> Digests:
    """The files' sha256, as this host reads them; absent ones are looked for again for `within` seconds."""
    end = time.monotonic() + request.within

    def work() -> Dict[str, Optional[str]]:
        return {name: _sha256(os.path.join(request.path, name)) for name in request.files}

    while True:
        found: Dict[str, Optional[str]] = as_user(request.user, work)
        if None not in found.values() or time.monotonic() > end:
            load = request.load if found.get(MODEL) is not None else None
            model = os.path.join(request.path, MODEL)
            return Digests(found, loading.refusal(request.user, model, load) if load else None)
        time.sleep(0.5)


@handles(ShowModel)
def show(request: ShowModel) -> ModelFound:
    """One version and its manifest, or what there is instead."""
    models = os.path.join(request.shared, "models")
    model = _model_folder(request.shared, request.name)

    if os.path.isdir(model):
        _check_own(model)

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


@handles(ListModels)
def list_versions(request: ListModels) -> ModelList:
    """Every version of every model, up to _LIST_COUNT versions or _LIST_BYTES of manifests."""
    models = os.path.join(request.shared, "models")

    def work() -> Dict[str, Any]:
        names = sorted(name for name in os.listdir(models) if re.fullmatch(NAME, name)) if os.path.isdir(models) else []
        every = [(name, version) for name in names for version in _versions(os.path.join(models, name))]
        found: List[Dict[str, Any]] = []
        left = _LIST_BYTES
        for name, version in every[:_LIST_COUNT]:
            path = os.path.join(models, name, str(version))
            text = _manifest_text(path)
            left -= len(text)
            if left < 0:
                break
            found.append({"name": name, "version": version, "path": path, "text": text.decode("utf-8", "replace")})
        return {"versions": found, "left_out": len(every) - len(found)}

    listed = as_user(request.user, work)
    versions = tuple(
        ListedVersion(one["name"], one["version"], one["path"], _parsed(one["text"])) for one in listed["versions"]
    )
    return ModelList(versions, listed["left_out"])


def _manifest_text(path: str) -> bytes:
    """A version's manifest; b"" where it cannot be read or is larger than a manifest is."""
    try:
        # Not blocking: a folder from before may be another user's, who may have put a FIFO there.
        fd = os.open(os.path.join(path, MANIFEST), os.O_RDONLY | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            text = file.read(_MANIFEST_BYTES + 1)
    except OSError:
        return b""
    return text if len(text) <= _MANIFEST_BYTES else b""


def _parsed(text: str) -> Optional[Manifest]:
    try:
        return Manifest.from_json(loads(text.encode("utf-8")))
    except WireError:
        return None


def _add(model: str, request: AddModel, sources: Dict[str, Any]) -> Addition:
    there = _versions(model)
    version = request.version
    same_as = version if version is not None else (there[-1] if there else None)
    if same_as is not None and same_as in there:
        path = os.path.join(model, str(same_as))
        if _holds(path, request.files) and _fed(path) == request.manifest.feed:
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
    """Exclusive use of the repository. Removes what an interrupted upload left, and a folder without a version."""
    with open(os.path.join(private("locks"), "models"), "ab", opener=owners) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _check_own(os.path.dirname(model))
        with suppress(FileExistsError):
            os.mkdir(model, 0o755)
        _check_own(model)
        try:
            for name in os.listdir(model):
                if name.startswith(_UPLOAD):
                    _remove(os.path.join(model, name))
            yield
        finally:
            if not os.listdir(model):
                os.rmdir(model)


def _check_own(folder: str) -> None:
    """Raise OSError for a folder in which another user could write or put links."""
    with paths.look(folder) as (_, about):
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o022:
            raise OSError(
                errno.EPERM,
                "others than root can write to %s, or it is no folder: what is in it may be anybody's. Move it away, "
                "run clusteradm bootstrap, and deploy the models again" % folder,
            )


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
        return sorted(int(name) for name in os.listdir(model) if name.isdecimal() and str(int(name)) == name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _holds(path: str, wanted: Dict[str, str]) -> bool:
    """Whether a version has exactly these files."""
    return all(_sha256(os.path.join(path, name)) == wanted.get(name) for name in (MODEL, LABELS))


def _fed(path: str) -> Optional[Feed]:
    """How a version's pictures are fed."""
    manifest = _parsed(_manifest_text(path).decode("utf-8", "replace"))
    return manifest.feed if manifest else None


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
