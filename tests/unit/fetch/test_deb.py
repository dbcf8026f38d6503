"""What a package says of itself, of whole, broken and malicious ones."""

from __future__ import annotations

import io
import lzma
import os
from pathlib import Path

import made_debs
import pytest
from made_debs import ar, deb, tar

from clusteradm.errors import UsageError
from clusteradm.fetch.deb import Deb, NotADeb, parse, read

BINARY = ("debian-binary", b"2.0\n")


@pytest.mark.parametrize("packed", made_debs.PACKERS)
def test_every_compression(packed: str) -> None:
    found = parse(io.BytesIO(deb("libedgetpu1-std", "1:16.0tf2.19.1-1~x+y", "amd64", packed=packed)))
    assert found == Deb("libedgetpu1-std", "1:16.0tf2.19.1-1~x+y", "amd64")
    assert str(found) == "libedgetpu1-std 1:16.0tf2.19.1-1~x+y (amd64)"


def test_members_of_later_formats_are_skipped() -> None:
    control = ("control.tar", tar({"control": b"Package: ab\nVersion: 1\nArchitecture: all\n"}))
    assert parse(io.BytesIO(ar([BINARY, ("_odd", b"x"), control]))) == Deb("ab", "1", "all")


def sized(text: str) -> bytes:
    """A package whose control.tar has this size in its header, and no date: what is not there moves no column."""
    whole = deb()
    at = whole.index(b"control.tar")
    return whole[: at + 16] + b" " * 12 + whole[at + 28 : at + 48] + f"{text:<10}".encode() + whole[at + 58 :]


@pytest.mark.parametrize("size", ["-1", " -1", "+1", "1_0", " 100", "1 0", "", "0x10", "99999999-1"])
def test_a_size_that_is_no_number_of_bytes(size: str) -> None:
    file = io.BytesIO(sized(size))
    with pytest.raises(NotADeb, match="it has no control"):
        parse(file)
    # Nothing beyond the header.
    assert file.tell() <= 200


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it does not begin as one"),
        (b"<!doctype html>", "it does not begin as one"),
        (b"!<arch>\n", "it has no control.tar"),
        (ar([("control.tar", tar({}))]), "its members are not in order"),
        (ar([BINARY]), "it has no control.tar"),
        (ar([BINARY, *[(f"_{n}", b"") for n in range(20)], ("control.tar", b"")]), "it has no control.tar"),
        (ar([BINARY, ("control.tar", b"")]), "it has no control file"),
        (ar([BINARY, ("control.tar", tar({"other": b""}))]), "it has no control file"),
        (ar([BINARY, ("control.tar", b"\xff" * 2000)]), "it has no control file"),
        (ar([BINARY, ("control.tar.lz", b"")]), "its control.tar.lz is of no known compression"),
        (ar([BINARY, ("control.tar.xz", b"no xz" * 9)]), "LZMAError"),
        (ar([BINARY, ("control.tar.gz", b"no gzip")]), "error"),
        (ar([BINARY, ("control.tar.zst", b"no zstd")]), "ValueError"),
        (ar([BINARY, ("control.tar", tar({"control": b"\xff"}))]), "UnicodeDecodeError"),
        (ar([BINARY, ("control.tar", tar({"control": b"x" * (1 << 19)}))]), "its control file has 524,288 bytes"),
        (deb()[:150], "it ends in the middle"),
        (ar([BINARY, ("control.tar", b"x" * (5 << 20))]), "its control.tar has 5,242,880 bytes, more than 4,194,304"),
        (
            ar([BINARY, ("control.tar.xz", lzma.compress(bytes((32 << 20) + 1), preset=0))]),
            "its control.tar.xz unpacks to more than 33,554,432 bytes",
        ),
        (deb(control="Package: a b\nVersion: 1\nArchitecture: all\n"), "it has no proper Package"),
        (deb(control="Package: ../x\nVersion: 1\nArchitecture: all\n"), "it has no proper Package"),
        (deb(control="Package: ab\nVersion: $(reboot)\nArchitecture: all\n"), "it has no proper Version"),
        (deb(control="Package: ab\nVersion: 1\n"), "it has no proper Architecture"),
        (deb(control="Package: ab\npackage: cd\nVersion: 1\nArchitecture: all\n"), "it names its Package twice"),
    ],
)
def test_what_is_no_package(data: bytes, why: str) -> None:
    with pytest.raises(NotADeb) as caught:
        parse(io.BytesIO(data), "x.deb")
    assert caught.value.where == "x.deb"
    assert f"it is no Debian package: {why}" in caught.value.what


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.deb"
    path.write_bytes(deb())
    assert read(path) == Deb("libx", "1.0-1", "all")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="it is a FIFO"):
        read(tmp_path / "pipe")
