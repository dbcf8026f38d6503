"""Inputs that are named by files: lists of paths, the members of a tar file, one array of an .npz file."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from clusteradm import regular
from clusteradm.errors import UsageError

LIST = "@"
TAR = ".tar"
# Files that tar itself unpacks, and of which no member can be found without unpacking all before it.
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_MEMBER = re.compile(r"(.+\.npz):(.+)", re.DOTALL | re.IGNORECASE)

_MOST_LIST = 256 << 20  # bytes of a list
# As of a job's inputs.
_MOST_MEMBERS = 5_000_000
# What tarfile reads at once is a header, or a long name: the bodies of members are passed over.
_MOST_READ = 1 << 20


@dataclass(frozen=True)
class Member:
    """A file in a tar file. `offset`: of its bytes there."""

    name: str
    offset: int
    size: int


def expanded(arguments: Sequence[str]) -> Iterator[str]:
    """The arguments, with the lines of a list in the place of @LIST. Raises UsageError for a list that cannot be read,
    or names what is not there."""
    for argument in arguments:
        if not argument.startswith(LIST):
            yield argument
            continue
        path = Path(argument.removeprefix(LIST))
        lines = regular.read(path, _MOST_LIST).split(b"\n")
        for number, line in enumerate(lines, 1):
            name = os.fsdecode(line.removesuffix(b"\r"))
            if not name:
                continue
            if "\0" in name or name.startswith(LIST):
                raise UsageError("no path of an input", where=f"{regular.readable(path)}, line {number}")
            if not name.startswith("head:") and not os.path.lexists(name) and member(name) is None:
                raise UsageError(
                    f"no file or folder {regular.readable(name)} here",
                    where=f"{regular.readable(path)}, line {number}",
                    next_step="its paths are counted from the folder in which clusteradm is started",
                )
            yield name


def member(argument: str) -> tuple[Path, str] | None:
    """The .npz file and the name of an array in it, of FILE.npz:NAME; None where there is no such file."""
    found = _MEMBER.fullmatch(argument)
    return (Path(found[1]), found[2]) if found and os.path.lexists(found[1]) else None


def is_tar(path: Path) -> bool:
    """Whether it is a tar file by its name. Raises UsageError for a compressed one."""
    name = path.name.lower()
    if name.endswith(_PACKED):
        raise UsageError(
            "a compressed tar file",
            where=regular.readable(path),
            next_step="decompress it (gunzip, bunzip2, unxz, zstd -d), as pictures are compressed already",
        )
    return name.endswith(TAR)


def members(file: BinaryIO, where: str, suffixes: tuple[str, ...]) -> Iterator[Member | str]:
    """The files in a tar file that are inputs by their suffix, in its order; a reason as text for what has such a name
    and is no file. `where`: what the tar file is called. Nothing is unpacked: no name in it is ever a path.

    Raises UsageError for what is no tar file, or not a whole one.
    """
    total = os.fstat(file.fileno()).st_size
    try:
        # Uncompressed alone: whatever else it is would be unpacked.
        with tarfile.open(fileobj=_Bounded(file), mode="r:") as archive:  # type: ignore[call-overload]
            for number, info in enumerate(archive):
                archive.members = []  # else it keeps all of them
                if number >= _MOST_MEMBERS:
                    raise UsageError(f"more than {_MOST_MEMBERS:,} members", where=where)
                name = regular.readable(info.name)
                base = name.rpartition("/")[2]
                if info.isdir() or base.startswith(".") or not base.lower().endswith(suffixes):
                    continue
                if not info.isreg() or info.issparse():
                    yield f"{where}/{name}: a link, a device or a sparse file in a tar file"
                elif info.offset_data + info.size > total:
                    raise UsageError(f"the tar file is cut short: in {name}", where=where)
                else:
                    yield Member(name, info.offset_data, info.size)
            file.seek(archive.offset)
            # A header that is none, or half of one, is the end to tarfile.
            if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
                raise UsageError("the tar file is damaged or cut short", where=where)
    except (tarfile.TarError, EOFError, ValueError, OverflowError, OSError) as error:
        raise UsageError(f"no sound tar file: {error}", where=where) from None


class _Bounded:
    """A file of which no more is read at once than a header may have."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes. Raises ValueError for more than a header has."""
        if not 0 <= size <= _MOST_READ:
            raise ValueError(f"a header of {size} bytes")
        return self._file.read(size)
