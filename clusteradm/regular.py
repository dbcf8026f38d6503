"""Regular files read by name: what is no file (a FIFO, a socket, a device) or too large is an error, never a wait."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from clusteradm.errors import UsageError

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a FIFO"),
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


def is_text(path: str | os.PathLike[str]) -> bool:
    """Whether its name is UTF-8: a name that is not can neither be sent to a host nor written to a document."""
    return readable(path) == os.fspath(path)


def is_file(path: Path) -> bool:
    """Whether the path leads to a regular file; of a name that no file can have, False (Path.is_file raises)."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether the path leads to a folder; of a name that no file can have, False (Path.is_dir raises)."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def exists(path: Path) -> bool:
    """Whether the path leads to anything; of a name that no file can have, False (Path.exists raises)."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


class NotAFile(OSError):
    """What a path leads to is no regular file; `strerror` says what it is."""

    def __init__(self, what: str) -> None:
        super().__init__(errno.EINVAL, f"it is {what}, not a file")


def is_at(handle: int, path: Path) -> bool:
    """Whether the open file is the one that the path leads to, and not one that was there before."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def opened(path: Path) -> BinaryIO:
    """The file, open for reading. Raises NotAFile, another OSError, or ValueError for a name that no file can have."""
    # The opening of a device may do something to it, so that it is looked at before.
    other = kind(path.stat().st_mode)
    if other:
        raise NotAFile(other)
    # Not blocking: the opening of a pipe would wait for a writer. O_NOCTTY: a terminal does not become ours.
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    other = kind(os.fstat(handle).st_mode)
    if other:
        os.close(handle)
        raise NotAFile(other)
    return os.fdopen(handle, "rb")


def open_file(path: Path) -> BinaryIO:
    """The file, open for reading. Raises UsageError."""
    try:
        return opened(path)
    except NotAFile as error:
        raise UsageError(str(error.strerror), where=readable(path)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot read it: {reason}", where=readable(path)) from None


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
