"""Share helper: `python3 -m clusteradm.node.serve.share SPEC`, the only process of a server that touches the share.

It hangs when the head's NFS server does, and nothing else does. Each line on its socket is a request and gets one
line as an answer. What it copies is whole, verified, and appears in the cache by one rename.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import stat
import sys
from typing import Any, BinaryIO, Dict, Iterator, List, Optional, Tuple

from clusteradm.node import atomic, paths
from clusteradm.node.models import store
from clusteradm.node.spec.wire.decode import WireError, decode, loads
from clusteradm.node.spec.wire.manifest import LABELS, MANIFEST, MODEL, SUMS
from clusteradm.node.spec.wire.serving import DESIRED, MOST_BYTES, SERVING, DesiredState
from clusteradm.node.state import model_copy
from clusteradm.node.texts import reason

_CHUNK = 1 << 20
_SEEN, _MOST_SEEN = "seen.json", 4 * MOST_BYTES  # the desired state with its escapes, and what there is of the models
_CACHED = re.compile("([0-9]{1,10})-([0-9a-f]{64})")


class Share:
    """`shared`: the head's file system; `cache`: this host's own folder."""

    def __init__(self, shared: str, cache: str) -> None:
        self._shared, self._cache = shared, cache
        self._contents: Dict[str, Tuple[Tuple[int, ...], str]] = {}

    def look(self) -> Dict[str, Any]:
        """The desired state, and of its models the versions there are and their labels. Also kept in the cache, for
        the next start."""
        text = _read(os.path.join(self._shared, SERVING, DESIRED))
        if text is None:
            if not os.path.isdir(store.models_folder(self._shared)):
                return {"error": "%s is not there: is the shared file system mounted?" % self._shared}
            return {"desired": None, "models": {}}
        desired = decode(DesiredState, loads(text))
        models: Dict[str, Dict[str, Any]] = {}
        for model in desired.models:
            folder = store.model_folder(self._shared, model.name)
            one: Dict[str, Any] = {"versions": store.versions(folder), "labels": {}, "error": ""}
            try:
                labels = store.read_versions(folder).labels
                one["labels"] = {name: each.version for name, each in labels.items()}
            except OSError as error:  # the versions are served without
                one["error"] = str(error)[:500]
            wanted = model.wanted(one["versions"], one["labels"])
            one["contents"] = {str(number): self._content(os.path.join(folder, str(number))) for number in wanted}
            models[model.name] = one
        found = {"desired": text, "models": models}
        self._keep(found)
        return found

    def _content(self, folder: str) -> str:
        """The sha256 of what tells the content of a version from another one's that had its number: of SHA256SUMS, or
        of the manifest of a version from before that. "" where it is not known."""
        for name in (SUMS, MANIFEST):
            path = os.path.join(folder, name)
            try:
                about = os.stat(path)
            except FileNotFoundError:
                continue
            except OSError:
                return ""
            seen = (about.st_ino, about.st_mtime_ns, about.st_ctime_ns, about.st_size)
            known = self._contents.get(path)
            if known is None or known[0] != seen:
                text = store.text(folder, name)
                if not text:
                    return ""
                known = self._contents[path] = (seen, hashlib.sha256(text).hexdigest())
            return known[1]
        return ""

    def fetch(self, name: str, number: int, content: str) -> Dict[str, Any]:
        """Copy a version into the cache, where it is not there whole; the folder."""
        target = cached(self._cache, name, number, content)
        if content and is_whole(target):
            return {"folder": target}
        source = os.path.join(store.model_folder(self._shared, name), str(number))
        if not os.path.isdir(source):
            return {"error": "version %d of model %s is not in the repository" % (number, name)}
        if self._content(source) != content:
            return {"error": "version %d of model %s has other files by now" % (number, name)}
        os.makedirs(os.path.dirname(target), exist_ok=True)
        temporary = os.path.join(os.path.dirname(target), ".%d-%s" % (number, secrets.token_hex(4)))
        try:
            os.mkdir(temporary)
            self._copy(source, temporary)
            if not store.whole(temporary):
                return {"error": "its files are not as they were deployed: deploy it again"}
            if os.path.isdir(target):
                store.discard(target)
            os.rename(temporary, target)
            atomic.sync_folder(os.path.dirname(target))
        finally:
            if os.path.isdir(temporary):
                shutil.rmtree(temporary, ignore_errors=True)
        return {"folder": target}

    def _copy(self, source: str, target: str) -> None:
        """The files of a version, and nothing else that lies there; the model of this host's own copy, where
        deploy-model has made one."""
        manifest = store.manifest(source)
        names = {*store.sums(source), MODEL, LABELS, MANIFEST, SUMS}
        for name in sorted(names.intersection(os.listdir(source))):
            path = os.path.join(source, name)
            own = model_copy(manifest.sha256) if manifest is not None and name == MODEL else ""
            if own and os.path.isfile(own) and store.sha256(own) == manifest.sha256:  # type: ignore[union-attr]
                path = own
            with _opened(path) as reader, open(os.path.join(target, name), "xb") as writer:
                for data in iter(lambda: reader.read(_CHUNK), b""):
                    writer.write(data)
                writer.flush()
                os.fsync(writer.fileno())

    def prune(self, keep: List[str]) -> Dict[str, Any]:
        """Remove the versions in the cache that are not among these folders."""
        removed = 0
        models = os.path.join(self._cache, "models")
        for name in os.listdir(models) if os.path.isdir(models) else ():
            folder = os.path.join(models, name)
            for version in os.listdir(folder):
                path = os.path.join(folder, version)
                if path not in keep:
                    with contextlib.suppress(OSError):
                        store.discard(path)
                        removed += 1
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        return {"removed": removed}

    def _keep(self, found: Dict[str, Any]) -> None:
        text = json.dumps(found, sort_keys=True)
        path = os.path.join(self._cache, _SEEN)
        with contextlib.suppress(OSError):
            if _read(path, _MOST_SEEN) == text:
                return
        with contextlib.suppress(OSError), atomic.replacing(path) as file:
            file.write(text.encode("utf-8"))


def cached(cache: str, name: str, number: int, content: str) -> str:
    """The folder of a version in the cache."""
    return os.path.join(cache, "models", name, "%d-%s" % (number, content or "unknown"))


def is_whole(folder: str) -> bool:
    """Whether there is a version in the cache, as it was deployed."""
    return os.path.isdir(folder) and store.whole(folder)


def seen(cache: str) -> Optional[Dict[str, Any]]:
    """What `look` found when it last did, with the versions that are in the cache; None for nothing."""
    try:
        text = _read(os.path.join(cache, _SEEN), _MOST_SEEN)
        if text is None:
            return None
        found: Dict[str, Any] = loads(text)
        for name, model in found["models"].items():
            here: Dict[str, List[str]] = {}
            folder = os.path.join(cache, "models", name)
            for each in map(_CACHED.fullmatch, sorted(os.listdir(folder)) if os.path.isdir(folder) else ()):
                if each is not None:
                    here.setdefault(each[1], []).append(each[2])
            before = model.get("contents", {})
            # What the head had last, where it has come here.
            model["contents"] = {
                number: before[number] if before.get(number) in contents else contents[0]
                for number, contents in here.items()
            }
            model["versions"] = sorted(map(int, here))
        return found
    except (WireError, ValueError, LookupError, TypeError, AttributeError, OSError):
        return None


@contextlib.contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """A file to be read. Raises OSError for anything else, such as a FIFO, which would be waited for."""
    with open(path, "rb", opener=paths.opener) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("%s is no regular file" % path)
        yield file


def _read(path: str, most: int = MOST_BYTES) -> Optional[str]:
    """A text file; None where there is none. Raises OSError for one that is none, or too large."""
    try:
        with _opened(path) as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        return None
    if len(data) > most:
        raise OSError("%s has more than %d bytes" % (path, most))
    return data.decode("utf-8", "replace")


def _why(error: Exception, cache: str) -> str:
    """An error in words."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "this host's disk has no room for it: make some for %s (df -h shows what is full)" % cache
    return reason(error)


def main() -> None:
    """The program."""
    spec = json.loads(sys.argv[1])
    share = Share(spec["shared"], spec["cache"])
    connection = socket.socket(fileno=spec["control"])
    with connection.makefile("rb") as lines:
        for line in lines:
            request = json.loads(line.decode("utf-8"))
            try:
                answer = getattr(share, request.pop("do"))(**request)
            except (OSError, WireError, ValueError) as error:
                answer = {"error": " ".join(_why(error, spec["cache"]).split())[:1000]}
            try:
                connection.sendall(json.dumps(answer).encode("utf-8") + b"\n")
            except OSError:
                return


if __name__ == "__main__":
    main()
