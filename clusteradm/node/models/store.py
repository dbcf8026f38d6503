"""Folders of the model repository: CLUSTER_SHARED/models/NAME/VERSION/, and NAME/versions.json beside the versions.

Root of the head writes them, and nobody else can: every board obeys what is in them. What is being made or removed has
a name with a dot, which no listing shows, and becomes a version, or is one no more, by one rename.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Dict, Iterator, List, Optional

from clusteradm.node import atomic, locks, paths
from clusteradm.node.spec.wire.decode import WireError, decode, loads
from clusteradm.node.spec.wire.manifest import FILE, LABELS, MANIFEST, MODEL, NAME, SUMS, Manifest, sums_text
from clusteradm.node.spec.wire.repository import UNREADABLE
from clusteradm.node.spec.wire.versions import VERSIONS, VersionsFile

# What is being made or removed, and a versions.json that was not renamed yet.
_HIDDEN = re.compile(r"\.((upload|removed)-|%s\.).*" % re.escape(VERSIONS))
_CHUNK = 1 << 20
_MOST_TEXT = 64 << 10  # bytes of a manifest, and of the other small files
_SUM = re.compile("([0-9a-f]{64})  (?P<name>%s)" % FILE)


def models_folder(shared: str) -> str:
    """The folder of all models."""
    return os.path.join(shared, "models")


def model_folder(shared: str, name: str) -> str:
    """The folder of a model's versions."""
    return os.path.join(models_folder(shared), name)


def names(shared: str) -> List[str]:
    """The models that have a version, or whose folder cannot be read."""
    models = models_folder(shared)
    there = sorted(os.listdir(models)) if os.path.isdir(models) else []
    return [name for name in there if re.fullmatch(NAME, name) and _is_model(os.path.join(models, name))]


def _is_model(path: str) -> bool:
    try:
        return bool(versions(path))
    except OSError:
        return True


def versions(model: str) -> List[int]:
    """The numbers of a model's versions; none where there is no such model. Raises OSError where it cannot be read."""
    try:
        return sorted(int(name) for name in os.listdir(model) if name.isdecimal() and str(int(name)) == name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def is_there(path: str) -> bool:
    """Whether there is anything at this path, also what cannot be read."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True


def manifest(path: str) -> Optional[Manifest]:
    """The manifest of a version; None where it is damaged."""
    try:
        return Manifest.from_json(loads(text(path, MANIFEST)))
    except WireError:
        return None


def text(path: str, name: str) -> bytes:
    """A small file of a version; b"" where it cannot be read or is larger than such a file is."""
    try:
        # A folder from before may be another user's, who may have put a FIFO there.
        with open(os.path.join(path, name), "rb", opener=_open_at_once) as file:
            found = file.read(_MOST_TEXT + 1)
    except OSError:
        return b""
    return found if len(found) <= _MOST_TEXT else b""


def sums(path: str) -> Dict[str, str]:
    """The sha256 of a version's files as they were stored; {} where SHA256SUMS is missing or damaged."""
    record = text(path, SUMS).decode("utf-8", "replace")
    found = {match["name"]: match[1] for match in map(_SUM.fullmatch, record.split("\n")) if match}
    return found if sums_text(found) == record else {}


def _open_at_once(path: str, flags: int) -> int:
    """An opener for open() that waits for no writer of a FIFO, which reads as an empty file then."""
    return os.open(path, flags | os.O_NONBLOCK)


def sha256(path: str) -> Optional[str]:
    """Digest of a file as its disk or its server has it, not as this host remembers it; None where it is not there.

    UNREADABLE and the reason where it cannot be read (a disk's error, a folder in its place), which is damage too.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            for data in iter(lambda: file.read(_CHUNK), b""):
                digest.update(data)
    except FileNotFoundError:
        return None
    except OSError as error:
        return "%s: %s" % (UNREADABLE, error.strerror)
    return digest.hexdigest()


def whole(path: str) -> bool:
    """Whether the files of a version are as they were stored. One from before SHA256SUMS: by its manifest."""
    known = sums(path)
    if not known:
        about = manifest(path)
        if about is None or os.path.exists(os.path.join(path, SUMS)):
            return False
        known = {MODEL: about.sha256}
        if about.labels_sha256 is not None:
            known[LABELS] = about.labels_sha256
    return all(sha256(os.path.join(path, name)) == digest for name, digest in known.items())


def read_versions(model: str) -> VersionsFile:
    """versions.json of a model. Raises OSError for one that cannot be read: nothing is forgotten in silence."""
    path = os.path.join(model, VERSIONS)
    if not os.path.lexists(path):
        return VersionsFile()
    try:
        state = decode(VersionsFile, loads(text(model, VERSIONS)))
        if state.sum != state.right_sum():
            raise WireError("its contents are not what its sum is of")
        return state
    except WireError as error:
        raise OSError(
            errno.EINVAL,
            "%s, which has the model's labels, is damaged (%s). Move it away, and set the labels again" % (path, error),
        ) from None


def write_versions(model: str, state: VersionsFile) -> None:
    """Replace versions.json, by one rename; every node may read it."""
    state = replace(state, sum=state.right_sum())
    with atomic.replacing(os.path.join(model, VERSIONS), mode=0o644) as file:
        file.write(json.dumps(state, indent=1, sort_keys=True, default=vars).encode("utf-8") + b"\n")


@contextmanager
def locked(model: str) -> Iterator[None]:
    """Exclusive use of the repository. Removes what was left half-way, and a folder without a version.

    Raises OSError for a repository in which another user could write.
    """
    models = os.path.dirname(model)
    with locks.held(locks.MODELS):
        check_own(models)
        with suppress(FileExistsError):
            os.mkdir(model, 0o755)
            atomic.sync_folder(models)
        check_own(model)
        try:
            for folder in (models, model):
                for name in filter(_HIDDEN.fullmatch, os.listdir(folder)):
                    discard(os.path.join(folder, name))
            yield
        finally:
            if os.path.isdir(model) and not os.listdir(model):
                os.rmdir(model)


def check_own(folder: str) -> None:
    """Raise OSError for a folder in which another user could write or put links."""
    with paths.look(folder) as (_, about):
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o022:
            raise OSError(
                errno.EPERM,
                "others than root can write to %s, or it is no folder: what is in it may be anybody's. Move it away, "
                "run clusteradm bootstrap, and deploy the models again" % folder,
            )


def hidden(folder: str, kind: str) -> str:
    """A new path in a folder that no listing shows. `kind`: "upload" or "removed"."""
    return os.path.join(folder, ".%s-%s" % (kind, secrets.token_hex(4)))


def hide(path: str) -> str:
    """Take a version, or a model, out of every listing by one rename; its new path, which is to be discarded."""
    folder = os.path.dirname(path)
    away = hidden(folder, "removed")
    os.rename(path, away)
    atomic.sync_folder(folder)
    return away


def discard(folder: str) -> None:
    """Remove a folder with all that is in it, whatever its modes; or a file."""
    if not os.path.isdir(folder) or os.path.islink(folder):
        os.unlink(folder)
        return
    os.chmod(folder, 0o700)
    for base, inner, _ in os.walk(folder):
        for name in inner:
            path = os.path.join(base, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(folder)
