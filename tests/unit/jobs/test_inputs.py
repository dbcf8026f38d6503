"""What a job is to infer: found, named, sorted, and cut into parts."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from child import measured

from clusteradm.errors import UsageError
from clusteradm.jobs import inputs
from clusteradm.jobs.inputs import File, HeadInputs, LocalInputs, parts, resolve


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a/z.JPG", "notes.txt", ".hidden.png", ".git/x.png", "c.npy"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "in"


def local(*arguments: object) -> LocalInputs:
    found = resolve([str(argument) for argument in arguments])
    assert isinstance(found, LocalInputs)
    return found


def test_a_folder_gives_its_inputs_by_name_and_says_what_it_left_out(folder: Path) -> None:
    inputs = local(folder)
    assert [(file.name, file.size) for file in inputs.files] == [("a/z.JPG", 7), ("b.png", 5), ("c.npy", 5)]
    assert inputs.skipped == (folder / "notes.txt",)
    assert inputs.bytes == 17


def test_files_are_taken_as_they_are_named(folder: Path) -> None:
    named = local(folder / "notes.txt", folder / "b.png")
    assert [file.name for file in named.files] == [str(folder / "b.png"), str(folder / "notes.txt")]
    both = local(folder / "a", folder / "b.png", folder / "b.png")
    assert [file.name for file in both.files] == [str(folder / "a" / "z.JPG"), str(folder / "b.png")]


def test_inputs_on_the_head() -> None:
    assert resolve(["head:/data/x", "head:y", "head:"]) == HeadInputs(("/data/x", "y", "."))


def test_what_makes_no_job_is_refused_before_any_connection(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no file or folder .*gone here") as missing:
        resolve([str(tmp_path / "gone")])
    assert f"head:{tmp_path / 'gone'}" in missing.value.next_step
    with pytest.raises(UsageError, match="all here or all on the head"):
        resolve([str(folder), "head:x"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no inputs in"):
        resolve([str(tmp_path / "empty")])
    with pytest.raises(UsageError, match="an input without a name"):
        resolve([str(folder), ""])
    with pytest.raises(UsageError, match="cannot read it: File name too long"):
        resolve(["x" * 5000])


def test_parts_are_the_bytes_in_order_with_the_files_that_begin_in_each(tmp_path: Path) -> None:
    sizes = [3, 0, 10, 7, 1, 0]
    files = []
    for number, size in enumerate(sizes):
        path = tmp_path / str(number)
        path.write_bytes(bytes([number]) * size)
        files.append(File(str(number), path, size))
    for limit in (1, 2, 3, 4, 5, 8, 21, 100):
        cut = list(parts(files, limit))
        assert b"".join(part.data for part in cut) == b"".join(bytes([n]) * size for n, size in enumerate(sizes))
        assert [file.name for part in cut for file in part.files] == [str(number) for number in range(6)]
        assert all(len(part.data) == limit for part in cut[:-1])
        # A file is named in the part that has its first byte, so that the pack's offsets add up.
        at, begins = 0, []
        for part in cut:
            begins += [at <= sum(sizes[: int(file.name)]) <= at + len(part.data) for file in part.files]
            at += len(part.data)
        assert all(begins)


def test_a_file_that_shrinks_while_it_is_sent_is_an_error_and_those_after_it_keep_their_places(tmp_path: Path) -> None:
    for name in ("log.png", "z.png"):
        (tmp_path / name).write_bytes(b"short")
    for limit in (2, 100):
        cut = list(parts([File("log.png", tmp_path / "log.png", 9), File("z.png", tmp_path / "z.png", 5)], limit))
        assert b"".join(part.data for part in cut) == b"short\0\0\0\0short"
        failed = {name: why for part in cut for name, why in part.failed.items()}
        assert failed == {"log.png": "it has become shorter while it was sent"}


def odd(folder: Path) -> None:
    """Everything that has the name of a picture and is none."""
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(folder / "socket.png"))
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "secret.png").symlink_to("/etc/passwd")
    (folder / "gone.png").symlink_to("nowhere")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "again.png").symlink_to("b.png")
    (folder / "around").symlink_to(".")
    (folder / "up").symlink_to("..")
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(b"x")


def test_what_is_no_file_is_left_out_of_a_folder_by_name_and_reason(folder: Path) -> None:
    odd(folder)
    found = local(folder)
    assert [file.name for file in found.files] == ["a/z.JPG", "again.png", "b.png", "c.npy", "caf\\udce9.png"]
    out = "a link that leads out of the folder, which is followed only if it is named itself"
    link = "a link to a folder, which is followed only if it is named itself"
    assert sorted(text.removeprefix(f"{folder}/") for text in found.left_out) == [
        f"around: {link}",
        f"device.png: {out}",
        "gone.png: No such file or directory",
        "loop.png: Too many levels of symbolic links",
        "pipe.png: a FIFO",
        f"secret.png: {out}",
        "socket.png: a socket",
        f"up: {link}",
    ]
    assert b"".join(part.data for part in parts(found.files)).count(b"b.png") == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pipe.png", "it is a FIFO, not a file"),
        ("socket.png", "it is a socket, not a file"),
        ("device.png", "it is a device, not a file"),
        ("gone.png", "cannot read it: No such file or directory"),
        ("loop.png", "cannot read it: Too many levels of symbolic links"),
    ],
)
def test_what_is_no_file_is_refused_where_it_is_named(folder: Path, name: str, said: str) -> None:
    odd(folder)
    with pytest.raises(UsageError, match=said) as refused:
        local(folder / name)
    str(refused.value).encode()


def test_a_link_that_is_named_is_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "b.png").symlink_to(folder / "b.png")
    assert [file.name for file in local(tmp_path / "link").files] == ["a/z.JPG", "b.png", "c.npy"]
    assert local(tmp_path / "b.png").bytes == 5


def test_a_path_on_the_head_that_cannot_be_sent_is_refused() -> None:
    with pytest.raises(UsageError, match="not UTF-8"):
        resolve(["head:" + os.fsdecode(b"caf\xe9")])


def test_a_folder_that_cannot_be_read_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError, match=r"in/a: cannot read the folder: Permission denied"):
        local(folder)


def test_a_file_that_changes_while_it_is_sent_is_an_error_of_its_own(folder: Path) -> None:
    planned = local(folder / "a", folder / "b.png").files

    def failed() -> str:
        (part,) = parts(planned)
        assert [file.name for file in part.files] == [file.name for file in planned]
        assert len(part.data) == sum(file.size for file in planned)
        ((name, why),) = part.failed.items()
        assert name == str(folder / "b.png")
        return why

    path = folder / "b.png"
    path.write_bytes(b"other")
    os.utime(path, ns=(0, 0))
    assert failed() == "it has changed while it was sent"
    path.write_bytes(b"longer than it was")
    assert failed() == "it has changed while it was sent"
    path.unlink()
    assert failed() == "cannot read it: No such file or directory"
    os.mkfifo(path)
    assert failed() == "it is a FIFO, not a file"


def test_a_file_that_cannot_be_read_is_an_error_of_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.open

    def refuse(path: Any, *more: Any, **options: Any) -> int:
        if str(path).endswith(".npy"):
            raise PermissionError(13, "Permission denied")
        return whole(path, *more, **options)

    monkeypatch.setattr(os, "open", refuse)
    (part,) = parts(local(folder).files)
    assert part.failed == {"c.npy": "cannot read it: Permission denied"}
    with pytest.raises(UsageError, match=r"c\.npy: cannot read it: Permission denied"):
        local(folder / "c.npy")


def test_a_part_names_no_more_files_than_one_request_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_PART_FILES", 3)
    path = tmp_path / "empty"
    path.write_bytes(b"")
    cut = list(parts([File(str(number), path, 0) for number in range(7)]))
    assert [len(part.files) for part in cut] == [3, 3, 1]


def test_a_large_folder_takes_little(tmp_path: Path) -> None:
    for number in range(20_000):
        (tmp_path / f"{number:06}.png").touch()
    cost = measured(lambda folder: len(local(folder).files), str(tmp_path))
    assert cost.result == 20_000
    # A fifth of what a folder of 100,000 may take; 0.4 s and 15 MiB here.
    assert (cost.seconds < 2, cost.mebibytes < 60) == (True, True), cost


def test_a_folder_that_grows_while_it_is_read_gives_each_file_once(tmp_path: Path) -> None:
    before = {f"{number:04}.png" for number in range(500)}
    for name in before:
        (tmp_path / name).write_bytes(name.encode())
    ended = threading.Event()

    def grow() -> None:
        number = 500
        while not ended.wait(0.001):  # faster, it would grow beyond what is read
            (tmp_path / f"{number:04}.png").write_bytes(f"{number:04}.png".encode())
            number += 1

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        for _ in range(5):
            found = local(tmp_path)
            names = [file.name for file in found.files]
            assert len(names) == len(set(names)) and before <= set(names)
            sent = list(parts(found.files))
            # One that was only half written when it was looked at is an error of its own.
            failed = {name for part in sent for name in part.failed}
            assert failed <= set(names) - before
            assert sum(len(part.data) for part in sent) == found.bytes
    finally:
        ended.set()
        writer.join()


def test_names_of_every_kind(tmp_path: Path) -> None:
    names = [
        b"a b.png",
        b"new\nline.png",
        b"caf\xe9.png",
        b"-rf.png",
        b"esc\x1b[31m.png",
        "\u4e2d.png".encode(),
        b"'q\".png",
    ]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(name)
    found = local(tmp_path)
    assert b"".join(part.data for part in parts(found.files)) == b"".join(
        os.fsencode(file.path.name) for file in found.files
    )
    # Text that JSON can hold, each a name of its own.
    assert {file.name for file in found.files} == {os.fsdecode(name).replace("\udce9", "\\udce9") for name in names}
    assert all(file.name.encode() for file in found.files)
