"""Regular files read by name: what is no file (a pipe, a socket, a device) or too large is an error, never a wait."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from clusteradm.errors import UsageError

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def kind(mode: int) -> str | None:
    """The words for what a mode of os.stat is; None for a regular file."""
    return next((words for check, words in _KINDS if check(mode)), None)


def readable(path: str | os.PathLike[str]) -> str:
    """A path for messages: bytes of its name that are not UTF-8 as \\udcXX."""
    return os.fspath(path).encode("utf-8", "backslashreplace").decode("utf-8")


def is_file(path: Path) -> bool:
    """Whether the path leads to a regular file; of a name that no file can have, False (Path.is_file raises)."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def open_file(path: Path) -> BinaryIO:
    """The file, open for reading. Raises UsageError."""
    # Not blocking: the opening of a pipe would wait for a writer. O_NOCTTY: a terminal does not become ours.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        # The opening of a device may do something to it, so that it is looked at before.
        other = kind(path.stat().st_mode)
        handle = -1 if other else os.open(path, flags)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot read it: {reason}", where=readable(path)) from None
    if not other:
        other = kind(os.fstat(handle).st_mode)
        if not other:
            return os.fdopen(handle, "rb")
        os.close(handle)
    raise UsageError(f"it is {other}, not a file", where=readable(path))


def read(path: Path, most: int) -> bytes:
    """The file's bytes. Raises UsageError where it cannot be read or has more than `most`."""
    with open_file(path) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            # By its own size: Python makes room for as much as is asked for.
            data = file.read(size + 1) if size <= most else b""
        except OSError as error:
            raise UsageError(f"cannot read it: {error.strerror}", where=readable(path)) from None
    if len(data) > size:
        raise UsageError("it grows while it is read", where=readable(path))
    if size > most:
        raise UsageError(f"it has {size:,} bytes, more than {most:,}", where=readable(path))
    return data
