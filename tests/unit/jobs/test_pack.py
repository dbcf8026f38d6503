"""inputs.pack: every input's bytes are where the index says, whatever file they came in."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clusteradm.jobs.inputs import SUFFIXES
from clusteradm.node.job.feeder import READ_BYTES, batches
from clusteradm.node.job.pack import Entry, PackError, Wanted, append, find, index

DIGIT = Wanted("uint8", (1, 28, 28, 1))


class Pack:
    """A pack in a folder, filled by hand."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "inputs.pack")
        self.entries: list[Entry] = []
        self.size = 0

    def add(self, name: str, data: bytes) -> None:
        assert append(self.path, io.BytesIO(data)) == len(data)
        self.entries.append(Entry(name, self.size, len(data)))
        self.size += len(data)

    def index(self, wanted: Wanted = DIGIT) -> list[dict[str, Any]]:
        return list(index(self.path, self.entries, wanted))

    def value(self, line: dict[str, Any]) -> Any:
        data = Path(self.path).read_bytes()[line["offset"] : line["offset"] + line["size"]]
        return data if line["form"] is None else np.frombuffer(data, line["form"][0]).reshape(line["form"][1])


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    return Pack(tmp_path)


@pytest.fixture
def images() -> Any:
    return np.random.default_rng(1).integers(0, 256, (3, 28, 28, 1), dtype=np.uint8)


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_pictures_and_arrays_side_by_side(pack: Pack, images: Any) -> None:
    pack.add("a.png", b"first")
    pack.add("b.npy", npy(images))
    pack.add("c.jpg", b"")
    pack.add("d.npy", npy(images[0, :, :, 0].astype(np.float32)))
    lines = pack.index()
    assert [line["input"] for line in lines] == ["a.png", "b.npy[0]", "b.npy[1]", "b.npy[2]", "c.jpg", "d.npy"]
    assert (pack.value(lines[0]), pack.value(lines[4])) == (b"first", b"")
    for row in range(3):
        assert np.array_equal(pack.value(lines[1 + row]), images[row : row + 1])
    assert lines[5]["form"] == ["float32", [1, 28, 28, 1]]
    assert np.array_equal(pack.value(lines[5])[0], images[0].astype(np.float32))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_members(pack: Pack, images: Any, save: Any) -> None:
    file = io.BytesIO()
    save(file, one=images[:1], two=images[1:])
    pack.add("x.png", b"before")
    pack.add("a.npz", file.getvalue())
    lines = pack.index()
    assert [line["input"] for line in lines] == ["x.png", "a.npz:one", "a.npz:two[0]", "a.npz:two[1]"]
    for row in range(3):
        assert np.array_equal(pack.value(lines[1 + row]), images[row : row + 1])
    assert pack.value(lines[0]) == b"before"


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((2, 28, 27), np.uint8), "has shape 2x28x27; the model takes 1x28x28x1"),
        (np.zeros((28, 28), np.int64), "has int64 numbers; the model takes uint8"),
        (np.zeros((28, 28), ">f4"), "little-endian"),
        (np.zeros((28, 28), np.complex64), "little-endian"),
        (np.asfortranarray(np.zeros((5, 28, 28), np.uint8)), "by columns"),
        (np.array([None, 1], object), "little-endian"),
    ],
)
def test_arrays_that_do_not_fit_are_named(pack: Pack, array: Any, said: str) -> None:
    pack.add("bad.npy", npy(array))
    with pytest.raises(PackError, match=r"^bad\.npy") as refused:
        pack.index()
    assert said in str(refused.value)


def test_damaged_arrays_are_named(pack: Pack, images: Any) -> None:
    whole = npy(images)
    for bad in (b"", b"\x93NUMPY", whole[:100], whole[:-1], whole[:10] + b"(" + whole[11:], b"x" + whole[1:]):
        broken = Pack(Path(pack.path).parent)
        Path(broken.path).write_bytes(b"")
        broken.add("bad.npy", bad)
        with pytest.raises(PackError, match=r"bad\.npy is no readable NumPy file"):
            broken.index()
    for bad in (b"", b"PK\3\4", whole):
        broken = Pack(Path(pack.path).parent)
        Path(broken.path).write_bytes(b"")
        broken.add("bad.npz", bad)
        with pytest.raises(PackError, match=r"bad\.npz is no readable NumPy file"):
            broken.index()


def test_what_is_found_on_the_head(tmp_path: Path) -> None:
    for name in ("b.png", "a/z.JPG", "notes.txt", ".hidden.png", ".git/x.png", "c.npy"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"")
    folder = str(tmp_path / "in")
    assert [name for name, _ in find([folder], SUFFIXES)] == ["a/z.JPG", "b.png", "c.npy"]
    assert [name for name, _ in find([folder + "/notes.txt"], SUFFIXES)] == [folder + "/notes.txt"]
    both = [name for name, _ in find([folder + "/a", folder + "/b.png"], SUFFIXES)]
    assert both == [folder + "/a/z.JPG", folder + "/b.png"]
    with pytest.raises(PackError, match="no file or folder"):
        list(find([folder + "/gone"], SUFFIXES))


def test_a_chunk_is_read_in_few_pieces() -> None:
    pieces = [[0, 0, 10, None], [1, 10, 5, None], [2, 15, 5, None], [3, 40, 5, None]]
    assert [[piece[0] for piece in batch] for batch in batches(pieces)] == [[0, 1, 2], [3]]
    large = [[number, number * READ_BYTES, READ_BYTES, None] for number in range(3)]
    assert [len(batch) for batch in batches(large)] == [1, 1, 1]
    assert list(batches([])) == []
