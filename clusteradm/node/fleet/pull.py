"""Files of this host for the admin's machine: found and read as a user."""

import array
import base64
import glob
import hashlib
import os
import socket
import stat
from typing import Any, Dict, Generator, Iterator, List, Optional, Tuple

from clusteradm.node import paths
from clusteradm.node.account import as_user
from clusteradm.node.handler import handles
from clusteradm.node.spec.wire.copying import (
    MOST_FILES,
    MOST_PATH,
    PIECE,
    FilePiece,
    FileRead,
    FindFiles,
    FoundEnd,
    FoundFile,
    FoundFiles,
    ReadFile,
)

_PART = 200
_MOST_LEFT_OUT = 20
_MOST_DEPTH = 60


@handles(FindFiles)
def find(request: FindFiles) -> Generator[FoundFiles, None, FoundEnd]:
    """Every file, folders before what is in them; in folders no link is followed."""
    found: Dict[str, Any] = as_user(request.user, lambda: _find(request.paths))
    for start in range(0, len(found["files"]), _PART):
        yield FoundFiles(tuple(FoundFile(*one) for one in found["files"][start : start + _PART]))
    left_out = found["left_out"]
    return FoundEnd(tuple(left_out[:_MOST_LEFT_OUT]), max(0, len(left_out) - _MOST_LEFT_OUT))


@handles(ReadFile)
def read(request: ReadFile) -> Generator[FilePiece, None, FileRead]:
    """The pieces of a file. What comes before the offset is read for the sum alone."""
    digest, place = hashlib.sha256(), 0
    with os.fdopen(_opened(request.user, request.path), "rb") as file:
        while place < request.most:
            wanted = request.offset - place if place < request.offset else request.most - place
            data = file.read(min(PIECE, wanted))
            if not data:
                break
            digest.update(data)
            if place >= request.offset:
                yield FilePiece(base64.b64encode(data).decode("ascii"))
            place += len(data)
    return FileRead(place, digest.hexdigest())


def _opened(user: str, path: str) -> int:
    """A descriptor of a regular file that the user may read."""
    here, there = socket.socketpair()
    with here, there:

        def work() -> None:
            with paths.named(path):
                fd = paths.opener(path, os.O_RDONLY)
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ValueError("%s is no regular file" % path)
            there.sendmsg([b"1"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]).tobytes())])

        as_user(user, work)
        size = array.array("i").itemsize
        sent = here.recvmsg(1, socket.CMSG_SPACE(size))[1]
        return int(array.array("i", sent[0][2][:size])[0])


def _find(wanted: Tuple[str, ...]) -> Dict[str, Any]:
    """As the user."""
    found: List[Any] = []
    left_out: List[str] = []
    os.chdir(os.environ["HOME"])
    for pattern in wanted:
        pattern = os.path.expanduser(pattern) if pattern == "~" or pattern.startswith("~/") else pattern
        there = [pattern] if os.path.lexists(pattern) else sorted(glob.glob(pattern))
        if not there:
            left_out.append("%s: %s" % (pattern, _why_not(pattern)))
        for path in there:
            path = os.path.abspath(path)
            for one in _walk(path, os.path.basename(path) or "root", left_out):
                if len(found) == MOST_FILES:
                    raise ValueError("more than %d files: name fewer" % MOST_FILES)
                found.append(one)
    return {"files": found, "left_out": left_out}


def _why_not(pattern: str) -> str:
    """Why nothing is there: it may only be for others to see."""
    try:
        os.lstat(pattern)
    except PermissionError as error:
        return "%s (as root: --sudo)" % error.strerror
    except OSError:
        pass
    return "no such file"


def _walk(path: str, name: str, left_out: List[str], depth: int = 0) -> Iterator[Tuple[Any, ...]]:
    """The file, or the folder and all that is in it: the fields of FoundFile."""
    try:
        about = os.stat(path) if depth == 0 else os.lstat(path)
        entries = sorted(os.listdir(path)) if stat.S_ISDIR(about.st_mode) else None
    except OSError as error:
        left_out.append("%s: %s" % (path, error.strerror))
        return
    reason = _unfit(path, about, depth)
    if reason is not None:
        left_out.append("%s: %s" % (ascii(path)[1:-1], reason))
        return
    size = about.st_size if entries is None else None
    yield name, path, stat.S_IMODE(about.st_mode) & 0o777, about.st_mtime_ns, size
    for entry in entries or ():
        yield from _walk(os.path.join(path, entry), name + "/" + entry, left_out, depth + 1)


def _unfit(path: str, about: os.stat_result, depth: int) -> Optional[str]:
    if stat.S_ISLNK(about.st_mode):
        return "a link in a folder is not followed"
    if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):
        return "no regular file"
    try:
        if len(path.encode("utf-8")) > MOST_PATH or depth > _MOST_DEPTH:
            return "its path is too long"
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    return None
