"""Copies of models on a host's own disk, where its ranks find them: under their sha256, root's, readable by all.

A copy is made by one rename after it was verified, so that one that is there is whole, unless its disk spoils it.
"""

import hashlib
import os
import re
from typing import List

from clusteradm.node import atomic, locks
from clusteradm.node.account import AccountError, as_user
from clusteradm.node.handler import handles
from clusteradm.node.models import store
from clusteradm.node.spec.wire.repository import Copies, KeepCopies
from clusteradm.node.state import model_copy

_CHUNK = 1 << 20
_NAME = re.compile("[0-9a-f]{64}")
_SECONDS = 600.0  # for one model over the network
_MOST_REASON = 500


@handles(KeepCopies)
def keep(request: KeepCopies) -> Copies:
    """Copy what is missing, copy again what is damaged, remove what is not wanted; and say what was done."""
    for sha256 in request.models:
        if not _NAME.fullmatch(sha256):
            raise ValueError("not a sha256: %r" % sha256[:80])
    folder = os.path.dirname(model_copy(""))
    made: List[str] = []
    mended: List[str] = []
    failed = {}
    with locks.held(locks.COPIES):
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o755)  # noqa: S103 - whatever the umask: the cluster user reads there
        for sha256, path in request.models.items():
            try:
                found = store.sha256(model_copy(sha256))
                if found == sha256:
                    continue
                if found is not None:
                    store.discard(model_copy(sha256))
                _copy(request.user, path, sha256)
            except OSError as error:
                failed[sha256] = str(error)[:_MOST_REASON]
            else:
                (mended if found else made).append(sha256)
        removed = 0
        for name in sorted(set(os.listdir(folder)) - set(request.models)) if not request.others else ():
            try:
                removed += _removed(os.path.join(folder, name))
            except OSError as error:
                failed[name] = "it cannot be removed: %s" % str(error)[:_MOST_REASON]
    return Copies(tuple(made), tuple(mended), removed, failed)


def _removed(path: str) -> bool:
    """Remove what is not wanted; whether it was a copy. A folder of another name is not ours (lost+found)."""
    is_copy = bool(_NAME.fullmatch(os.path.basename(path)))
    if is_copy or os.path.islink(path) or not os.path.isdir(path):
        store.discard(path)
    return is_copy


def _copy(user: str, path: str, sha256: str) -> None:
    """Read it as the user, from a mount that may hang; verify it; rename it."""
    with atomic.replacing(model_copy(sha256), mode=0o444) as file:

        def work() -> str:
            digest = hashlib.sha256()
            with open(path, "rb") as source:
                for data in iter(lambda: source.read(_CHUNK), b""):
                    digest.update(data)
                    file.write(data)
            file.flush()
            return digest.hexdigest()

        try:
            found = as_user(user, work, _SECONDS)
        except AccountError as error:
            raise OSError("%s cannot be copied: %s" % (path, error)) from None
        if found != sha256:
            raise OSError("%s has sha256 %s here, not %s" % (path, found, sha256))
