"""Debian packages made for tests, whole and broken."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from collections.abc import Callable

import zstandard

CONTROL = "Package: {package}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: a <a@a>\nDescription: a\n"
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lambda data: lzma.compress(data, preset=0),
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


def tar(files: dict[str, bytes]) -> bytes:
    """A tar archive of these files."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    return target.getvalue()


def ar(members: list[tuple[str, bytes]]) -> bytes:
    """An ar archive of these members."""
    found = b"!<arch>\n"
    for name, data in members:
        found += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return found


def deb(
    package: str = "libx",
    version: str = "1.0-1",
    architecture: str = "all",
    *,
    packed: str = ".xz",
    control: str = CONTROL,
) -> bytes:
    """A package without files."""
    text = control.format(package=package, version=version, architecture=architecture)
    control_tar = PACKERS[packed](tar({"./": b"", "./md5sums": b"", "./control": text.encode()}))
    return ar([("debian-binary", b"2.0\n"), (f"control.tar{packed}", control_tar), ("data.tar", tar({}))])
