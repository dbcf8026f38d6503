"""Requests about files that are copied to a host, and from it."""

from dataclasses import dataclass, field
from typing import Optional, Tuple

from clusteradm.node.spec.wire import names
from clusteradm.node.spec.wire.decode import Record, limits
from clusteradm.node.spec.wire.request import Request, Streaming

MOST_FILES = 20_000
MOST_PATH = 4096
PIECE = 1 << 20
_DATA = (PIECE + 2) // 3 * 4


@dataclass(eq=False, repr=False)
class PushedFile(Record):
    """A file or folder to be put on a host. `name`: its path below the destination; `sha256`: None for a folder."""

    name: str
    mode: int
    sha256: Optional[str] = None


@dataclass(eq=False, repr=False)
class Pushed(Record):
    """Outcome. `lacking`: bodies to be sent first, after which nothing was done; `changed`: paths that were written."""

    lacking: Tuple[str, ...] = ()
    changed: Tuple[str, ...] = ()
    unchanged: int = 0


@dataclass(eq=False, repr=False)
class PushFiles(Request[Pushed]):
    """Put files below `dest` as `user`, those whose bodies differ. `into`: `dest` is a folder, made where it is
    missing; else it is the path of the one file, or a folder that is there. A path that does not begin with / is below
    the user's home."""

    user: str
    dest: str
    into: bool
    files: Tuple[PushedFile, ...]
    do = names.PUSH_FILES


@dataclass(eq=False, repr=False)
class FoundFile(Record):
    """A file or folder of a host. `name`: its path below the folder that it is copied to; `modified`: nanoseconds since
    1970; `size`: None for a folder."""

    name: str = field(metadata=limits(most=MOST_PATH))
    path: str = field(metadata=limits(most=MOST_PATH))
    mode: int
    modified: int
    size: Optional[int] = None


@dataclass(eq=False, repr=False)
class FoundFiles(Record):
    """Some of the files."""

    files: Tuple[FoundFile, ...]


@dataclass(eq=False, repr=False)
class FoundEnd(Record):
    """End of a list of files. `left_out`: what cannot be copied, and why; `more`: how many others there are."""

    left_out: Tuple[str, ...] = ()
    more: int = 0


@dataclass(eq=False, repr=False)
class FindFiles(Streaming[FoundFiles, FoundEnd]):
    """Ask for the files of these paths (or patterns, as of a shell), as `user` sees them, those in folders too."""

    user: str
    paths: Tuple[str, ...]
    do = names.FIND_FILES


@dataclass(eq=False, repr=False)
class FilePiece(Record):
    """A piece of a file, in base64."""

    data: str = field(metadata=limits(most=_DATA))


@dataclass(eq=False, repr=False)
class FileRead(Record):
    """End of a file: its size, and the sha256 of all of it, what was before the offset too."""

    size: int
    sha256: str = field(metadata=limits("[0-9a-f]{64}"))


@dataclass(eq=False, repr=False)
class ReadFile(Streaming[FilePiece, FileRead]):
    """Ask for a file from `offset` on, no more than `most` bytes, as `user` may read it."""

    user: str
    path: str
    offset: int
    most: int
    do = names.READ_FILE
