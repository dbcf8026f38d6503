"""Inputs that are named by files: lists of paths, tar files, one array of an .npz file."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clusteradm.errors import UsageError
from clusteradm.jobs.inputs import LocalInputs, parts, resolve
from clusteradm.node.job import naming, pack
from clusteradm.node.job.naming import Source
from clusteradm.node.job.pack import Entry, Wanted


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def local(*arguments: str) -> LocalInputs:
    found = resolve(arguments)
    assert isinstance(found, LocalInputs)
    return found


def bodies(inputs: LocalInputs) -> dict[str, bytes]:
    """What is sent of each file."""
    data = b"".join(part.data for part in parts(inputs.files))
    found, at = {}, 0
    for file in inputs.files:
        found[file.name] = data[at : at + file.size]
        at += file.size
    assert at == len(data)
    return found


def test_a_list_of_paths(here: Path) -> None:
    (here / "in").mkdir()
    for name in ("a.png", "b c.png", "-x\\n.png", "caf\udce9.png", "in/d.png", "e.txt"):
        (here / name).write_bytes(os.fsencode(name))
    (here / "list.txt").write_bytes(b"a.png\r\nb c.png\n\n-x\\n.png\ncaf\xe9.png\nin\n./e.txt")
    found = local("@list.txt")
    assert bodies(found) == {
        "-x\\n.png": b"-x\\n.png",
        "./e.txt": b"e.txt",
        "a.png": b"a.png",
        "b c.png": b"b c.png",
        "caf\\udce9.png": b"caf\xe9.png",
        "in/d.png": b"in/d.png",
    }
    assert bodies(local("@list.txt", "in")) == bodies(found)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("a.png\ngone.png\n", r"no file or folder gone.png here \(list.txt, line 2\)"),
        ("@list.txt", "no path of an input"),
        ("a.png\0", "no path of an input"),
        ("\n\n", "no inputs in @list.txt"),
        ("a.png\nhead:b.png", "all here or all on the head"),
    ],
)
def test_a_list_that_is_none(here: Path, lines: str, said: str) -> None:
    (here / "a.png").write_bytes(b"a")
    (here / "list.txt").write_text(lines)
    with pytest.raises(UsageError) as refused:
        resolve(["@list.txt"])
    text = f"{refused.value.what} ({refused.value.where})"
    assert re.search(said, text), text


def test_a_list_that_a_program_of_windows_wrote(here: Path) -> None:
    (here / "a.png").write_bytes(b"a")
    (here / "list.txt").write_bytes(b"\xef\xbb\xbfa.png\r\n")
    assert bodies(local("@list.txt")) == {"a.png": b"a"}


def test_a_list_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="No such file"):
        resolve(["@gone.txt"])


def tar(path: Path, members: dict[str, bytes | tarfile.TarInfo], kind: int = tarfile.PAX_FORMAT) -> None:
    with tarfile.open(path, "w", format=kind) as archive:
        for name, data in members.items():
            info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(data, bytes):
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data) if isinstance(data, bytes) else None)


def link(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_the_files_in_a_tar_file_are_inputs(here: Path, kind: int) -> None:
    long = "/".join(["folder" * 5] * 4) + "/n.png"
    tar(here / "a.tar", {"z.png": b"zzz", "b/c.JPG": b"cc", "notes.txt": b"n", ".h.png": b"h", long: b"l" * 3000}, kind)
    (here / "e.png").write_bytes(b"e")
    found = local("a.tar", "e.png")
    assert bodies(found) == {
        f"a.tar/{long}": b"l" * 3000,
        "a.tar/b/c.JPG": b"cc",
        "a.tar/z.png": b"zzz",
        "e.png": b"e",
    }
    one = next(file for file in found.files if file.size == 3000)
    assert one.read(3000) == b"l" * 3000
    with pytest.raises(UsageError, match="3,000 bytes, more than 2,999"):
        one.read(2999)


def test_no_name_in_a_tar_file_is_a_path(here: Path) -> None:
    (here / "secret.png").write_bytes(b"secret")
    tar(
        here / "a.tar",
        {
            "../secret.png": b"mine",
            "/etc/x.png": b"etc",
            "soft.png": link("soft.png", tarfile.SYMTYPE, "secret.png"),
            "hard.png": link("hard.png", tarfile.LNKTYPE, "secret.png"),
            "pipe.png": link("pipe.png", tarfile.FIFOTYPE, ""),
            "folder.png": link("folder.png", tarfile.DIRTYPE, ""),
            "a\nb\x1b.png": b"odd",
        },
    )
    found = local("a.tar")
    assert bodies(found) == {"a.tar/../secret.png": b"mine", "a.tar//etc/x.png": b"etc", "a.tar/a\nb\x1b.png": b"odd"}
    assert [text.partition(":")[0] for text in found.left_out] == [
        *("a.tar/soft.png", "a.tar/hard.png", "a.tar/pipe.png"),
    ]


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.tar.xz", "A.TAR.BZ2"])
def test_a_compressed_tar_file_is_refused_by_name(here: Path, name: str) -> None:
    (here / name).write_bytes(b"")
    with pytest.raises(UsageError, match="a compressed tar file") as refused:
        resolve([name])
    assert "gunzip" in refused.value.next_step


def test_what_is_no_tar_file(here: Path) -> None:
    tar(here / "whole.tar", {"a.png": b"a" * 2000, "b.png": b"b" * 2000})
    whole = (here / "whole.tar").read_bytes()
    for number, (data, said) in enumerate(
        [
            (b"", "no sound tar file"),
            (gzip.compress(whole), "a compressed tar file"),
            (b"x" * 10240, "no sound tar file"),
            (whole[:1000], "cut short"),
            (whole[:3000], "cut short"),
            (whole[:512], "cut short"),
        ]
    ):
        (here / f"{number}.tar").write_bytes(data)
        with pytest.raises(UsageError, match=said):
            resolve([f"{number}.tar"])
    tar(here / "none.tar", {"notes.txt": b"n"})
    with pytest.raises(UsageError, match=r"no inputs in none\.tar"):
        resolve(["none.tar"])


def test_a_header_of_a_tar_file_takes_no_memory_that_it_claims(here: Path) -> None:
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    (here / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    with pytest.raises(UsageError, match="a header of 8589934592 bytes"):
        resolve(["a.tar"])


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_headers_without_a_member_are_no_recursion_without_end(here: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("n")
    info.type = kind
    (here / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) * 1500 + bytes(1024))
    with pytest.raises(UsageError, match="hundreds of headers before a single member"):
        resolve(["a.tar"])


def test_a_tar_file_that_changes_while_it_is_sent(here: Path) -> None:
    tar(here / "a.tar", {"a.png": b"a" * 3000, "b.png": b"b"})
    found = local("a.tar")
    with (here / "a.tar").open("ab") as file:
        file.write(bytes(512))
    failed = {}
    for part in parts(found.files):
        failed.update(part.failed)
    assert failed == dict.fromkeys(("a.tar/a.png", "a.tar/b.png"), "it has changed while it was sent")


ONE, TWO = np.arange(4, dtype=np.uint8)[None], np.arange(8, dtype=np.uint8).reshape(2, 4)


@pytest.fixture
def arrays(here: Path) -> Path:
    np.savez_compressed(here / "f.npz", one=ONE, **{"two.b": TWO}, bad=np.zeros(3))
    return here / "f.npz"


def index(inputs: LocalInputs, folder: Path) -> list[tuple[str, Any]]:
    """(name, the values, or why there are none) of each input."""
    entries, at = [], 0
    whole = folder / "inputs.pack"
    with whole.open("wb") as file:
        for part in parts(inputs.files):
            file.write(part.data)
    for one in inputs.files:
        entries.append(Entry(one.name, at, one.size, None, one.member))
        at += one.size
    lines = list(pack.index(str(whole), entries, Wanted("uint8", (1, 4))))
    data = whole.read_bytes()
    return [
        (
            line["input"],
            line["form"]["error"]
            if isinstance(line["form"], dict)
            else list(data[line["offset"] : line["offset"] + line["size"]]),
        )
        for line in lines
    ]


def test_one_array_of_a_file(arrays: Path, here: Path) -> None:
    assert index(local("f.npz:one"), here) == [("f.npz:one", [0, 1, 2, 3])]
    assert index(local("f.npz:two.b"), here) == [("f.npz:two.b[0]", [0, 1, 2, 3]), ("f.npz:two.b[1]", [4, 5, 6, 7])]
    both = index(local("f.npz:two.b", "f.npz:one"), here)
    assert [name for name, _ in both] == ["f.npz:one", "f.npz:two.b[0]", "f.npz:two.b[1]"]
    ((name, why),) = index(local("f.npz:three"), here)
    assert name == "f.npz:three" and "it holds no array of this name, but: bad, one, two.b" in why
    assert len(index(local("f.npz"), here)) == 4


def test_an_array_of_a_file_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"no file or folder gone\.npz:one here"):
        resolve(["gone.npz:one"])


def test_a_file_with_such_a_name_is_itself(arrays: Path, here: Path) -> None:
    (here / "f.npz:one").write_bytes(b"picture")
    assert bodies(local("f.npz:one")) == {"f.npz:one": b"picture"}


def test_on_the_head(arrays: Path) -> None:
    found = list(naming.find([f"{arrays}:one", str(arrays)], [".npz"]))
    assert found == [Source(str(arrays), str(arrays)), Source(f"{arrays}:one", str(arrays), None, "one")]
    with pytest.raises(pack.PackError, match=r"gone\.npz:one on the head"):
        list(naming.find(["/gone.npz:one"], []))


def test_tar_files_and_lists_on_the_head(place: Any, here: Path) -> None:
    """As those here, but that what is not absolute is below the shared directory."""
    for number in range(4):
        (place.shared / f"{number}.png").write_bytes(b"%d" % number * (number + 1))
    tar(
        place.shared / "a.tar",
        {"z.png": b"zzz", "d/1.png": b"one", "n.txt": b"", "soft.png": link("soft.png", tarfile.SYMTYPE, "z.png")},
    )
    (place.shared / "list").write_bytes(f"\ufeff1.png\r\n\n{place.shared}/3.png\na.tar".encode())

    def sent(*arguments: str) -> dict[str, bytes | str]:
        inputs = resolve(arguments)
        job, _ = place.submit(inputs)
        packed = (place.folder(job) / "inputs.pack").read_bytes()
        lines = [json.loads(line) for line in (place.own(job) / "run" / "inputs.jsonl").read_text().splitlines()]
        return {
            line["input"].removeprefix(f"{place.shared}/"): line["form"]["error"]
            if line["form"]
            else packed[line["offset"] : line["offset"] + line["size"]]
            for line in lines
        }

    in_tar = {"a.tar/z.png": b"zzz", "a.tar/d/1.png": b"one"}
    bad = {"a.tar/soft.png": "a link, a device or a sparse file in a tar file"}
    assert sent("head:a.tar") == {**in_tar, **bad}
    assert sent("head:@list") == {**in_tar, **bad, "1.png": b"11", "3.png": b"3333"}
    assert sent("head:@list", "head:0.png") == {**in_tar, **bad, "0.png": b"0", "1.png": b"11", "3.png": b"3333"}
    (here / "mine").write_text("head:0.png\nhead:a.tar\n")
    assert sent("@mine") == {**in_tar, **bad, "0.png": b"0"}
    whole = (place.shared / "a.tar").read_bytes()
    for name, body, said in (
        ("cut.tar", whole[:700], "no sound tar file: unexpected end of data"),
        ("no.tar", b"x" * 2000, "no sound tar file"),
        ("a.tar.gz", b"", "a compressed tar file: decompress it"),
        ("bad1", b"gone.png\n", "bad1, line 1: no file or folder .*gone.png on the head"),
        ("bad2", b"1.png\n@bad2\n", "bad2, line 2: no path of an input"),
        ("bad3", b"a\0b\n", "bad3, line 1: no path of an input"),
    ):
        (place.shared / name).write_bytes(body)
        with pytest.raises(UsageError, match=said):
            sent(f"head:{'@' if name.startswith('bad') else ''}{name}")
    for name, said in (("head:@none", "the list .*none on the head: cannot read it"), ("@head:list", "no list here")):
        with pytest.raises(UsageError, match=said):
            sent(name)
    assert os.listdir(place.shared / "jobs") and not [
        name for name in os.listdir(place.shared / "jobs") if name[0] == "."
    ]
