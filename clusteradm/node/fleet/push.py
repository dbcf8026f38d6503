"""Files of the admin's machine, put on this host as a user: those whose content differs, each in one step."""

import contextlib
import hashlib
import os
import stat
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from clusteradm.node import blobs, files, paths
from clusteradm.node.account import as_user
from clusteradm.node.handler import handles
from clusteradm.node.spec.wire.copying import Pushed, PushedFile, PushFiles

# Bodies that are open at a time.
_AT_ONCE = 64
_PIECE = 1 << 18


@handles(PushFiles)
def run(request: PushFiles) -> Pushed:
    """Compare every file, and write those that differ once all of their bodies are here."""
    for one in request.files:
        if one.name.startswith("/") or ".." in one.name.split("/"):
            raise ValueError("%r is no path below a folder" % one.name)
    planned: List[Dict[str, Any]] = as_user(request.user, lambda: _plan(request))
    differing = [(one, plan) for one, plan in zip(request.files, planned) if plan["differs"]]
    wanted = {one.sha256 for one, _ in differing if one.sha256 is not None}
    lacking = _lacking(wanted)
    if lacking:
        return Pushed(lacking)
    if request.into:
        as_user(request.user, lambda: files.make_folders(_at_home(request.dest)))
    for start in range(0, len(differing), _AT_ONCE):
        gone = _put(request.user, differing[start : start + _AT_ONCE])
        if gone is not None:
            return Pushed((gone,))
    for sha256 in wanted:
        blobs.drop(sha256)
    return Pushed((), tuple(plan["path"] for _, plan in differing), len(request.files) - len(differing))


def _lacking(wanted: Iterable[str]) -> Tuple[str, ...]:
    return tuple(sorted(sha256 for sha256 in wanted if not os.path.exists(blobs.path_of(sha256))))


def _at_home(path: str) -> str:
    """As a shell would have it, which does not see what is quoted: "~/data"; and as scp, below the home."""
    return os.path.expanduser(path) if path == "~" or path.startswith("~/") else os.path.join(os.environ["HOME"], path)


def _plan(request: PushFiles) -> List[Dict[str, Any]]:
    """As the user: the path of each file, and whether it has to be written."""
    dest = _at_home(request.dest)
    into = request.into or os.path.isdir(dest)
    found = []
    for one in request.files:
        path = os.path.join(dest, one.name) if into else dest
        found.append({"path": path, "differs": _differs(path, one)})
    return found


def _differs(path: str, one: PushedFile) -> bool:
    if one.sha256 is None:
        return not os.path.isdir(path)
    try:
        with open(path, "rb", opener=paths.opener) as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise ValueError("%s is no regular file" % path)
            digest = hashlib.sha256()
            for data in iter(lambda: file.read(_PIECE), b""):
                digest.update(data)
            return stat.S_IMODE(about.st_mode) != one.mode or digest.hexdigest() != one.sha256
    except FileNotFoundError:
        return True


def _put(user: str, some: Sequence[Any]) -> Optional[str]:
    """Write some files as the user, who cannot read root's bodies: these are opened before. The body that another
    session has used up meanwhile, if any: then nothing is written."""
    with contextlib.ExitStack() as stack:
        bodies: List[Any] = []
        for one, _ in some:
            try:
                is_file = one.sha256 is not None
                bodies.append(stack.enter_context(open(blobs.path_of(one.sha256), "rb")) if is_file else None)
            except FileNotFoundError:
                return str(one.sha256)

        def work() -> None:
            for (one, plan), body in zip(some, bodies):
                if body is None:
                    files.make_folder(plan["path"])
                    files.attributes(plan["path"], _mode(one.mode | stat.S_IRWXU), False)
                else:
                    _write(plan["path"], body, one.mode)

        as_user(user, work)
    return None


def _write(path: str, body: Any, mode: int) -> None:
    pieces = iter(lambda: body.read(_PIECE), b"")
    files.write(path, pieces, prepare=lambda file: os.fchmod(file.fileno(), mode))


def _mode(mode: int) -> Dict[str, Any]:
    return {"owner": None, "group": None, "mode": mode}
