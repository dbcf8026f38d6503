"""What a Debian package says of itself: name, version, architecture. The file is a stranger's: everything is bounded.

deb(5): an ar archive of debian-binary, control.tar and data.tar, of which only the second is read. It may be compressed
by gzip, xz or zstd (Ubuntu's dpkg since 21.10).
"""

from __future__ import annotations

import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from clusteradm import regular
from clusteradm.errors import UsageError

# control.tar: scripts, and a list of checksums of all files.
_MOST_PACKED = 4 << 20
_MOST = 32 << 20
_MOST_CONTROL = 256 << 10
# Members before control.tar: debian-binary, and those whose names begin with an underscore, for later formats.
_MOST_MEMBERS = 16
# The tar's: scripts, lists, templates.
_MOST_FILES = 256
_XZ_MEMORY = 256 << 20
_ZSTD_WINDOW = 128 << 20

# The patterns of deb-control(5) and deb-version(7): nothing that a shell, a path or a terminal takes for its own.
FIELDS = {
    "Package": re.compile(r"[a-z0-9][a-z0-9+.-]{1,99}"),
    "Version": re.compile(r"[0-9][A-Za-z0-9.+:~-]{0,99}"),
    "Architecture": re.compile(r"[a-z0-9][a-z0-9-]{0,31}"),
}


@dataclass(frozen=True)
class Deb:
    """Name, version and architecture of a package, as dpkg knows it."""

    package: str
    version: str
    architecture: str

    def __str__(self) -> str:
        return f"{self.package} {self.version} ({self.architecture})"


class NotADeb(UsageError):
    """A file that is no Debian package, or one that is made to harm."""


def read(path: Path) -> Deb:
    """What the package says of itself. Raises NotADeb, or another UsageError where the file cannot be read."""
    with regular.open_file(path) as file:
        return parse(file, regular.readable(path))


def parse(file: BinaryIO, where: str = "") -> Deb:
    """The same of an open file. Raises NotADeb."""
    try:
        return _deb(_control(_control_tar(file)))
    except NotADeb as error:
        raise NotADeb(f"it is no Debian package: {error.what}", where=where) from None
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise NotADeb(f"it is no Debian package: {type(error).__name__}", where=where) from None


def _control_tar(file: BinaryIO) -> bytes:
    for name, size in _members(file):
        if name.startswith("control.tar"):
            if size > _MOST_PACKED:
                raise NotADeb(f"its {name} has {size:,} bytes, more than {_MOST_PACKED:,}")
            packed = file.read(size)
            if len(packed) < size:
                raise NotADeb("it ends in the middle")
            if name not in _UNPACK:
                raise NotADeb(f"its {name} is of no known compression")
            data = _UNPACK[name](packed)
            if len(data) > _MOST:
                raise NotADeb(f"its {name} unpacks to more than {_MOST:,} bytes")
            return data
        # Members begin at even places.
        file.seek(size + size % 2, io.SEEK_CUR)
    raise NotADeb("it has no control.tar")


def _members(file: BinaryIO) -> Iterator[tuple[str, int]]:
    """Name and size of each member of the ar archive, with the file at its beginning."""
    if file.read(8) != b"!<arch>\n":
        raise NotADeb("it does not begin as one")
    for number in range(_MOST_MEMBERS):
        head = file.read(60)
        found = re.fullmatch(rb"([ -~]{16})[ -~]{32}([0-9 ]{10})`\n", head)
        named = found and re.fullmatch(rb"([!-~]{1,15}?)/? *", found[1])
        sized = found and re.fullmatch(rb"([0-9]+) *", found[2])
        if not named or not sized:
            return
        name = named[1].decode()
        if (name == "debian-binary") != (number == 0):
            raise NotADeb("its members are not in order")
        yield name, int(sized[1])


def _gzip(packed: bytes) -> bytes:
    return zlib.decompressobj(31).decompress(packed, _MOST + 1)


def _xz(packed: bytes) -> bytes:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY).decompress(packed, _MOST + 1)


def _zstd(packed: bytes) -> bytes:
    # For few packages, and slow to import.
    import zstandard

    try:
        with zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).stream_reader(packed) as stream:
            return stream.read(_MOST + 1)
    except zstandard.ZstdError as error:
        raise ValueError from error


_UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "control.tar": bytes,
    "control.tar.gz": _gzip,
    "control.tar.xz": _xz,
    "control.tar.zst": _zstd,
}


def _control(data: bytes) -> str:
    """The text of the file `control` in the tar (tar(5)).

    Not by tarfile, which follows extended headers: some of its versions do not end with sizes below 0.
    """
    place = 0
    for _ in range(_MOST_FILES):
        head = data[place : place + 512]
        found = re.match(rb"[ 0]*([0-7]{0,11})[ \0]", head[124:136])
        if len(head) < 512 or not found or not head[0]:
            break
        size, name = int(found[1] or b"0", 8), head[:100].rstrip(b"\0")
        body = data[place + 512 : place + 512 + size]
        if name in (b"control", b"./control") and head[156:157] in (b"0", b"\0"):
            if size > _MOST_CONTROL:
                raise NotADeb(f"its control file has {size:,} bytes, more than {_MOST_CONTROL:,}")
            return body.decode("utf-8")
        place += 512 + (size + 511) // 512 * 512
    raise NotADeb("it has no control file")


def _deb(control: str) -> Deb:
    values: dict[str, str] = {}
    for line in control.split("\n"):
        name, colon, value = line.partition(":")
        field = next((field for field in FIELDS if field.lower() == name.lower()), None)
        if field is None or not colon:
            continue
        if field in values:
            raise NotADeb(f"it names its {field} twice")
        values[field] = value.strip(" \t\r")
    for field, pattern in FIELDS.items():
        if not pattern.fullmatch(values.get(field, "")):
            raise NotADeb(f"it has no proper {field}")
    return Deb(*(values[field] for field in FIELDS))
