"""Files in an uncompressed tar file, read in place, by the admin's machine or the head. No name in it is a path."""

import os
import tarfile
from typing import Any, BinaryIO, Iterator, NamedTuple, Optional, Tuple

SUFFIX = ".tar"
# Files that tar itself unpacks, and of which no member can be found without unpacking all before it.
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_PACKED_BYTES = (b"\x1f\x8b", b"BZh", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0")  # gzip, bzip2, zstd, xz
COMPRESSED = "a compressed tar file"
DECOMPRESS = "decompress it (gunzip, bunzip2, unxz, zstd -d), as pictures are compressed already"
# As of a job's inputs.
_MOST_MEMBERS = 5000000
# What tarfile reads at once is a header, or a long name: the bodies of members are passed over.
_MOST_READ = 1 << 20


class Unsound(Exception):
    """What is no tar file, or not a whole one; the text says why."""


class Member(NamedTuple):
    """A file in a tar file. `offset`: of its bytes there; `error`: what it is, that has such a name and is no file."""

    name: str
    offset: int
    size: int
    error: Optional[str] = None


def is_tar(name: str) -> bool:
    """Whether a file is a tar file, by its name. Raises Unsound for a compressed one."""
    if name.lower().endswith(_PACKED):
        raise Unsound(COMPRESSED)
    return name.lower().endswith(SUFFIX)


def members(file: BinaryIO, suffixes: Tuple[str, ...]) -> Iterator[Member]:
    """The files in a tar file that are inputs by their suffix, in its order. Nothing is unpacked. Raises Unsound."""
    total = os.fstat(file.fileno()).st_size
    if file.read(len(_PACKED_BYTES[-1])).startswith(_PACKED_BYTES):  # whatever it is called
        raise Unsound(COMPRESSED)
    file.seek(0)
    bounded: Any = _Bounded(file)
    try:
        # Uncompressed alone: whatever else it is would be unpacked.
        with tarfile.open(fileobj=bounded, mode="r:") as opened:
            archive: Any = opened
            for number, info in enumerate(archive):
                archive.members = []  # else it keeps all of them
                if number >= _MOST_MEMBERS:
                    raise Unsound("more than %d members" % _MOST_MEMBERS)
                name = info.name.encode("utf-8", "backslashreplace").decode("utf-8")
                base = name.rpartition("/")[2]
                if info.size < 0:
                    raise Unsound("a member of %d bytes" % info.size)
                if info.isdir() or base.startswith(".") or not base.lower().endswith(suffixes):
                    continue
                if not info.isreg() or info.issparse():
                    yield Member(name, 0, 0, "a link, a device or a sparse file in a tar file")
                elif info.offset_data + info.size > total:
                    raise Unsound("the tar file is cut short: in %s" % name)
                else:
                    yield Member(name, info.offset_data, info.size)
            file.seek(archive.offset)
            # A header that is none, or half of one, is the end to tarfile.
            if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
                raise Unsound("the tar file is damaged or cut short")
    except RecursionError:  # tarfile calls itself for each long name, and each set of further words on a member
        raise Unsound("no sound tar file: hundreds of headers before a single member") from None
    except (tarfile.TarError, EOFError, ValueError, OverflowError, OSError) as error:
        raise Unsound("no sound tar file: %s" % error) from None


class _Bounded:
    """A file of which no more is read at once than a header may have."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes. Raises ValueError for more than a header has."""
        if not 0 <= size <= _MOST_READ:
            raise ValueError("a header of %d bytes" % size)
        return self._file.read(size)
