"""push and pull as they are typed, on real SSH servers with the real node program; a host that lies about its files."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusteradm.cli import main
from clusteradm.errors import HostFailed, HostUnreachable, UsageError
from clusteradm.fleet import pull, push
from clusteradm.inventory import Cluster, Host
from clusteradm.testing import FakeConnections, FakeHosts
from clusteradm.transport import NodeError

from .conftest import Start
from .test_enroll_command import inventory

Run = Any


@pytest.fixture
def run(start: Start, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command on two boards: its exit status, output and messages."""
    file = inventory(start(2))

    def command(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main.main([str(words[0]), "-i", file, "--accept-new", *map(str, words[1:])])
        said = capsys.readouterr()
        return status, said.out, said.err

    return command


def content(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path.relative_to(folder)): (path.read_text() if path.is_file() else "", path.stat().st_mode & 0o777)
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a program, a file that only its owner reads, a link to each, and what is no file."""
    folder = tmp_path / "source"
    (folder / "inner").mkdir(parents=True)
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "inner/secret").write_text("s" * 3_000)
    (folder / "inner/secret").chmod(0o600)
    (folder / "inner/link").symlink_to("secret")
    (folder / "loop").symlink_to(".")
    os.mkfifo(folder / "fifo")
    return folder


def test_a_folder_is_pushed_once_with_its_modes(run: Run, source: Path, tmp_path: Path) -> None:
    status, out, err = run("push", "--limit", "b0", source, tmp_path / "there")
    assert status == 0, err
    assert [line.split() for line in out.splitlines()] == [["host", "copied", "unchanged"], ["b0", "5", "0"]]
    assert content(tmp_path / "there") == {
        "source": ("", 0o755),
        "source/inner": ("", 0o755),
        "source/inner/link": ("s" * 3_000, 0o600),
        "source/inner/secret": ("s" * 3_000, 0o600),
        "source/run.sh": ("#!/bin/sh\n", 0o755),
    }
    assert "loop: a link to a folder is not followed" in err and "fifo: no regular file" in err
    (tmp_path / "there/source/run.sh").write_text("changed there")
    (tmp_path / "there/source/inner/secret").chmod(0o644)
    status, out, _ = run("push", "--json", "--limit", "b0", source, tmp_path / "there")
    found = json.loads(out)["hosts"]["b0"]
    assert (status, found["unchanged"]) == (0, 3)
    assert sorted(found["changed"]) == [f"{tmp_path}/there/source/{name}" for name in ("inner/secret", "run.sh")]


def test_where_a_single_file_goes(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "folder").mkdir()
    for dest, place in (("folder", "folder/a"), ("b", "b"), ("new/", "new/a")):
        assert run("push", "--limit", "b0", tmp_path / "a", f"{tmp_path}/{dest}")[0] == 0
        assert (tmp_path / place).read_text() == "a"
    status, _, err = run("push", "--limit", "b0", tmp_path / "a", f"{tmp_path}/none/b")
    assert status == 3 and "b0: " in err and "does not exist" in err
    status, _, err = run("push", tmp_path / "a", "/proc/a")
    assert status == 3 and "error: b0: /proc/a: " in err and err.index("error: b0") < err.index("error: b1")
    status, _, err = run("push", "--limit", "b0", tmp_path / "none", "x")
    assert status == 2 and "none: no such file" in err
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a").write_text("other")
    assert "two of the files would be a there" in run("push", tmp_path / "a", tmp_path / "other/a", "x")[2]
    os.mkfifo(tmp_path / "pipe")
    status, _, err = run("push", "--limit", "b0", tmp_path / "a", tmp_path / "pipe")
    assert status == 3 and "pipe is no regular file" in err


def test_an_empty_file_and_one_that_changes_meanwhile(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").touch()
    assert run("push", "--limit", "b0", tmp_path / "empty", tmp_path / "copy")[0] == 0
    assert (tmp_path / "copy").read_bytes() == b""
    (tmp_path / "log").write_text("new")
    monkeypatch.setattr(push, "_sum", lambda path: (hashlib.sha256(b"old").hexdigest(), 3))
    status, _, err = run("push", "--limit", "b0", tmp_path / "log", tmp_path / "copy")
    assert status == 3 and "b0: a file came with other content" in err and "run it again" in err


def test_an_upload_goes_on_after_a_lost_connection(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    what = push.load([tmp_path / "a"], "b")
    (sha256,) = what.bodies
    hosts = FakeHosts()
    host = Host("b0", ("head",), {"ansible_user": "ann"}, {})
    cluster = Cluster(tmp_path / "i.yml", {}, {"b0": host})
    for answer in ({"lacking": [sha256]}, HostUnreachable("cut"), {"changed": ["/home/ann/b"]}):
        hosts["b0"].answer("push-files", answer)
    with FakeConnections(hosts, cluster, tmp_path / "k") as connections:
        assert push.push(connections, [host], what).ok["b0"].changed == ("/home/ann/b",)
        assert hosts["b0"].blobs == {sha256: b"a"} and hosts["b0"].requests[0].fields["user"] == "ann"
        hosts["b0"].answer("push-files", {"lacking": ["f" * 64]})
        failed = push.push(connections, [host], what, sudo=True).failed["b0"]
    assert "files that nobody sends" in str(failed) and hosts["b0"].requests[-1].fields["user"] == "root"


def test_pull_to_a_folder_for_each_host(run: Run, source: Path, tmp_path: Path) -> None:
    status, _, err = run("pull", source, f"{source}/*.sh", tmp_path / "here")
    assert status == 0, err
    copy = {
        "inner": ("", 0o755),
        "inner/secret": ("s" * 3_000, 0o600),
        "run.sh": ("#!/bin/sh\n", 0o755),
    }
    for name in ("b0", "b1"):
        assert content(tmp_path / "here" / name) == {
            "source": ("", 0o755),
            "run.sh": copy["run.sh"],
            **{f"source/{path}": about for path, about in copy.items()},
        }
    assert err.count("a link in a folder is not followed") == 4 and err.count("fifo: no regular file") == 2
    (tmp_path / "here/b0/run.sh").write_text("longer than it was")
    out = run("pull", "--json", source, f"{source}/*.sh", tmp_path / "here")[1]
    hosts = json.loads(out)["hosts"]
    assert hosts["b0"]["changed"] == [f"{tmp_path}/here/b0/run.sh"] and hosts["b1"]["unchanged"] == 3
    status, _, err = run("pull", "--max-size", "1M", source, "/nowhere", tmp_path / "here")
    assert status == 0 and "b0: left out: /nowhere: no such file" in err
    status, _, err = run("pull", "/nowhere", tmp_path / "here")
    assert status == 3 and "nothing was copied: /nowhere: no such file" in err
    assert "x\\udce9: a name that is not UTF-8" in run("pull", "x\udce9", tmp_path / "here")[2]
    assert "x\\udce9: its name is not UTF-8" in run("push", source, "x\udce9")[2]
    with pytest.raises(SystemExit):
        run("pull", "--max-size", "1", "x", "y")


class Liar:
    """A host whose list and files are what the test says."""

    def __init__(self, folder: Path) -> None:
        self.hosts, self.folder = FakeHosts(), folder
        self.host = Host("b0", ("head",), {}, {})
        self.cluster = Cluster(folder / "i.yml", {}, {"b0": self.host})
        self.node = self.hosts["b0"]

    def lists(self, *files: tuple[str, int | None]) -> None:
        parts = [{"name": name, "path": "/x", "mode": 0o4777, "modified": 10**18, "size": size} for name, size in files]
        self.node.answer_always("find-files", {}, {"files": parts})

    def gives(self, data: bytes, whole: bytes | None = None) -> None:
        whole = data if whole is None else whole
        answer = {"size": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}
        self.node.answer("read-file", answer, {"data": base64.b64encode(data).decode()})

    def pull(self, most: int = 1000) -> pull.Pulled:
        with FakeConnections(self.hosts, self.cluster, self.folder / "k") as connections:
            outcome = pull.pull(connections, [self.host], ["x"], self.folder / "here", most=most)
        if outcome.failed:
            raise outcome.failed["b0"]
        return outcome.ok["b0"]


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[Liar]:
    yield Liar(tmp_path)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a/../../x", "", ".", "a//b", "a/", "nul\0", "n" * 256, "a/./b", "..", "/"]
)
def test_no_name_leads_out_of_the_folder(liar: Liar, name: str) -> None:
    liar.lists(("fine", 1), (name, 1))
    with pytest.raises(HostFailed, match="cannot be below a folder"):
        liar.pull()
    assert not (liar.folder / "here").exists()


def test_a_file_that_is_gone_or_not_for_this_user_costs_no_other(liar: Liar) -> None:
    liar.lists(("log.1", 1), ("b", 1), ("log.2", 1))
    liar.node.answer("read-file", NodeError("/x/log.1: No such file or directory", where="b0"))
    liar.gives(b"b")
    liar.node.answer("read-file", NodeError("/x/log.2: Permission denied", where="b0"))
    pulled = liar.pull()
    assert [path.name for path in pulled.changed] == ["b"]
    assert pulled.left_out == ["/x/log.1: No such file or directory", "/x/log.2: Permission denied"]
    assert [path.name for path in (liar.folder / "here/b0").iterdir()] == ["b"]


def test_no_file_that_can_be_read_is_a_failure(liar: Liar) -> None:
    liar.lists(("a", 1))
    liar.node.answer("read-file", NodeError("/x/a: Permission denied", where="b0"))
    with pytest.raises(HostFailed, match="nothing was copied: /x/a: Permission denied"):
        liar.pull()


def test_one_name_twice_and_a_file_in_a_file(liar: Liar) -> None:
    liar.lists(("a", 1), ("a", 1))
    with pytest.raises(HostFailed, match="two of its files"):
        liar.pull()
    other = Liar(liar.folder)
    other.lists(("a", 1), ("a/b", 1))
    other.gives(b"1")
    with pytest.raises(HostFailed, match="cannot write"):
        other.pull()


def test_it_is_bounded_and_has_no_set_uid_bit(liar: Liar) -> None:
    liar.lists(("a", 2))
    liar.gives(b"12")
    (path,) = liar.pull().changed
    assert (path.read_bytes(), path.stat().st_mode & 0o7777) == (b"12", 0o777)
    for size, data in ((2000, b""), (3, b"x" * 2000)):
        big = Liar(liar.folder)
        big.lists(("b", size))
        if data:
            big.gives(data)
        with pytest.raises(HostFailed, match="more than 1,000"):
            big.pull()
        assert not (liar.folder / "here/b0/b").exists()


def test_what_was_cut_goes_on_and_what_is_damaged_is_not_kept(liar: Liar) -> None:
    liar.lists(("a", 6))
    liar.gives(b"abc", whole=b"abcdef")
    with pytest.raises(HostFailed, match="came damaged"):
        liar.pull()
    liar.node.answer("read-file", HostUnreachable("cut"), {"data": base64.b64encode(b"abc").decode()})
    liar.gives(b"def", whole=b"abcdef")
    assert liar.pull().changed[0].read_bytes() == b"abcdef"
    assert liar.node.requests[-1].fields["offset"] == 3
    assert [path.name for path in (liar.folder / "here/b0").iterdir()] == ["a"]
    assert liar.pull().unchanged == 1


def test_what_lies_here_of_another_file_is_no_beginning(liar: Liar) -> None:
    liar.lists(("a", 3))
    for _ in range(2):
        liar.node.answer("read-file", HostUnreachable("cut"), {"data": base64.b64encode(b"zz").decode()})
    liar.node.answer("read-file", {"size": 3, "sha256": hashlib.sha256(b"abc").hexdigest()})
    liar.gives(b"abc")
    assert liar.pull().changed[0].read_bytes() == b"abc"
    assert [request.fields.get("offset") for request in liar.node.requests] == [None, 0, 2, 4, 0]


def test_what_cannot_be_pushed_is_refused_before_a_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "same").write_text("x")
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    odd.write_text("x")
    for source, words in ((Path("/"), "all of this machine"), (odd, "not UTF-8"), (tmp_path / "none", "no such file")):
        with pytest.raises(UsageError, match=words):
            push.load([source], "/tmp/")
    load = push.load([tmp_path], "/tmp/")
    assert load.bytes == 1 and [each.name for each in load.files] == [
        tmp_path.name,
        *(f"{tmp_path.name}/{n}" for n in ("a", "same")),
    ]
    assert load.left_out == (f"{tmp_path}/\\udcff: its name is not UTF-8",)

    def refuse(path: Path) -> tuple[str, int]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(push, "_sum", refuse)  # as root, who may read everything
    with pytest.raises(UsageError, match="cannot read it: Permission denied"):
        push.load([tmp_path], "/tmp/")
