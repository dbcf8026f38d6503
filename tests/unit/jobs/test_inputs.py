"""What a job is to infer: found, named, sorted, and cut into parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusteradm.errors import UsageError
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


def test_a_file_that_shrinks_while_it_is_sent_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "log.png"
    path.write_bytes(b"short")
    with pytest.raises(UsageError, match="has become shorter"):
        list(parts([File("log.png", path, 6)]))
