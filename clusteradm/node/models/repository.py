"""The model repository on the shared file system: CLUSTER_SHARED/models/NAME/VERSION/ (DESIGN section 5).

Versions are whole numbers, as in TensorFlow Serving. A version appears by one rename, complete, and never changes
again: its files are 0444 and its folder 0555. All of it is written by the cluster user.
"""

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from contextlib import ExitStack, contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional

from clusteradm.node import blobs
from clusteradm.node.account import as_user

MODEL, LABELS, MANIFEST = "model.tflite", "labels.txt", "manifest.json"
_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_UPLOAD = ".upload-"
_CHUNK = 1 << 20
# Bounds of an answer to repository-list.
_LIST_COUNT = 2000
_LIST_BYTES = 4 << 20
_MANIFEST_BYTES = 64 << 10

Reply = Callable[[Dict[str, Any]], None]


def add(request: Dict[str, Any], reply: Reply) -> Dict[str, Any]:
    """Store a model that came as blobs.

    {"shared", "user", "name", "version": number or null, "files": {"model.tflite": sha256, "labels.txt": sha256},
    "manifest"} -> {"state": "added" | "unchanged" | "taken", "version", "path"}. Without a version: the next one, or
    the latest where that has these very files. "taken": that version is there with other files, and stays as it is.
    """
    model = _model_folder(request)
    with ExitStack() as stack:
        # Opened by root, whose the blobs are; read by the cluster user.
        sources = {
            name: stack.enter_context(open(blobs.path_of(digest), "rb")) for name, digest in request["files"].items()
        }

        def work() -> Dict[str, Any]:
            with _locked(model):
                return _add(model, request, sources)

        return dict(as_user(request["user"], work))


def verify(request: Dict[str, Any], reply: Reply) -> Dict[str, Any]:
    """The files' sha256, as this host sees them.

    {"user", "path", "files": [names], "within": seconds} -> {"sha256": {name: sha256 or null}}. A file that is not
    there is looked for again until `within` seconds are over: NFS clients remember for a while what a folder lacked.
    """
    end = time.monotonic() + request["within"]

    def work() -> Dict[str, Optional[str]]:
        return {name: _sha256(os.path.join(request["path"], name)) for name in request["files"]}

    while True:
        found = as_user(request["user"], work)
        if None not in found.values() or time.monotonic() > end:
            return {"sha256": found}
        time.sleep(0.5)


def show(request: Dict[str, Any], reply: Reply) -> Dict[str, Any]:
    """One version and its manifest.

    {"shared", "user", "name", "version": number or null for the latest} -> {"models", "versions", "version", "path",
    "manifest"}. "manifest" is null where there is no such version; "models" and "versions" then say what there is.
    """
    models = os.path.join(request["shared"], "models")
    model = _model_folder(request)

    def work() -> Dict[str, Any]:
        found = _versions(model)
        version = request["version"] if request["version"] is not None else (found[-1] if found else None)
        path = os.path.join(model, str(version))
        names = [name for name in sorted(os.listdir(models)) if _versions(os.path.join(models, name))]
        return {
            "models": names,
            "versions": found,
            "version": version,
            "path": path,
            "manifest": _manifest(path) if version in found else None,
        }

    return dict(as_user(request["user"], work))


def list_versions(request: Dict[str, Any], reply: Reply) -> Dict[str, Any]:
    """Every version of every model, by name and number, with its manifest.

    {"shared", "user"} -> {"versions": [{"name", "version", "path", "manifest"}], "left_out": number}. "manifest" is
    null where it is damaged or larger than a manifest is. Versions past _LIST_COUNT or _LIST_BYTES of manifests are
    counted in "left_out".
    """
    models = os.path.join(request["shared"], "models")

    def work() -> Dict[str, Any]:
        names = sorted(name for name in os.listdir(models) if _NAME.fullmatch(name)) if os.path.isdir(models) else []
        every = [(name, version) for name in names for version in _versions(os.path.join(models, name))]
        found: List[Dict[str, Any]] = []
        left = _LIST_BYTES
        for name, version in every[:_LIST_COUNT]:
            path = os.path.join(models, name, str(version))
            text = _manifest_text(path)
            left -= len(text)
            if left < 0:
                break
            found.append({"name": name, "version": version, "path": path, "manifest": _parsed(text)})
        return {"versions": found, "left_out": len(every) - len(found)}

    return dict(as_user(request["user"], work))


def _manifest_text(path: str) -> bytes:
    """A version's manifest; b"" where it cannot be read or is larger than one is."""
    try:
        # Not blocking: the folder is the cluster user's, who may have put a FIFO there.
        fd = os.open(os.path.join(path, MANIFEST), os.O_RDONLY | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            text = file.read(_MANIFEST_BYTES + 1)
    except OSError:
        return b""
    return text if len(text) <= _MANIFEST_BYTES else b""


def _parsed(text: bytes) -> Optional[Dict[str, Any]]:
    try:
        found = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _add(model: str, request: Dict[str, Any], sources: Dict[str, Any]) -> Dict[str, Any]:
    there = _versions(model)
    version = request["version"]
    same_as = version if version is not None else (there[-1] if there else None)
    if same_as in there:
        path = os.path.join(model, str(same_as))
        if _holds(path, request["files"]):
            return {"state": "unchanged", "version": same_as, "path": path}
        if version is not None:
            return {"state": "taken", "version": version, "path": path}
    if version is None:
        version = there[-1] + 1 if there else 1
    path = os.path.join(model, str(version))
    fresh = os.path.join(model, _UPLOAD + secrets.token_hex(4))
    os.mkdir(fresh)
    try:
        for name, source in sources.items():
            _write(os.path.join(fresh, name), source, request["files"][name])
        manifest = dict(request["manifest"], version=version)
        with open(os.path.join(fresh, MANIFEST), "w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=2)
            file.write("\n")
            _keep(file)
        os.chmod(fresh, 0o555)  # noqa: S103 - every node reads it, nobody writes it
        _sync(fresh)
        os.rename(fresh, path)
    except BaseException:
        _remove(fresh)
        raise
    _sync(model)
    return {"state": "added", "version": version, "path": path}


@contextmanager
def _locked(model: str) -> Iterator[None]:
    """Alone at this model. What an interrupted upload left is removed; a model without any version, too."""
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
    """Copy a blob into the version, and see that it is what it was to be."""
    found = hashlib.sha256()
    with open(path, "wb") as file:
        for data in iter(lambda: source.read(_CHUNK), b""):
            found.update(data)
            file.write(data)
        _keep(file)
    if found.hexdigest() != digest:
        raise OSError("%s arrived with sha256 %s, not %s" % (path, found.hexdigest(), digest))


def _keep(file: Any) -> None:
    """On the disk, and read-only."""
    file.flush()
    os.fsync(file.fileno())
    os.fchmod(file.fileno(), 0o444)


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


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


def _model_folder(request: Dict[str, Any]) -> str:
    if not _NAME.fullmatch(request["name"]):
        raise ValueError("%r cannot be a model's name" % request["name"])
    return os.path.join(request["shared"], "models", request["name"])
