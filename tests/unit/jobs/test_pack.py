"""inputs.pack: every input's bytes are where the index says, whatever file they came in."""

from __future__ import annotations

import io
import itertools
import os
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from child import measured

from clusteradm.jobs.inputs import SUFFIXES
from clusteradm.node.edgetpu.tensors import BadInput, Preprocessor
from clusteradm.node.job.feeder import READ_BYTES, batches
from clusteradm.node.job.naming import find, open_input
from clusteradm.node.job.pack import (
    MOST_PICTURE,
    Entry,
    NoInput,
    PackError,
    Wanted,
    append,
    index,
    write_index,
)

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


def test_of_a_name_that_is_twice_in_an_npz_the_last_counts_and_folders_are_none(pack: Pack, images: Any) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the name
        for image in images[:2]:
            body = io.BytesIO()
            np.save(body, image)
            archive.writestr("d/a.npy", body.getvalue())
        archive.writestr("d/", b"")
    pack.add("a.npz", file.getvalue())
    (line,) = pack.index()
    assert line["input"] == "a.npz:d/a" and np.array_equal(pack.value(line)[0], images[1])


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((2, 28, 27), np.uint8), "it has shape 2x28x27; the model takes 1x28x28x1"),
        (np.zeros((28, 28), np.int64), "it has int64 numbers; the model takes uint8"),
        (np.zeros((28, 28), np.uint16), "it has uint16 numbers; the model takes uint8"),
        (np.zeros((28, 28), bool), "it has bool numbers; the model takes uint8"),
        (np.zeros((28, 28), np.complex64), "this has the type '<c8'"),
        (np.zeros((28, 28), [("r", "u1")]), "this has the type of records"),
        (np.asfortranarray(np.zeros((5, 28, 28), np.uint8)), "by columns"),
        (np.array([None, 1], object), "this has the type '|O'"),
        (np.array(["a"]), "this has the type '<U1'"),
        (np.zeros((0, 28, 28), np.uint8), "it holds no input: its shape is 0x28x28"),
        (np.zeros((5, 0), np.uint8), "it has shape 5x0"),
        (np.array(7, np.uint8), "it has shape ()"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_an_array_that_does_not_fit_is_one_error_and_the_others_are_indexed(
    pack: Pack, images: Any, array: Any, said: str, packed: bool
) -> None:
    file = io.BytesIO()
    np.savez_compressed(file, x=array, y=images)
    pack.add("a.png", b"")
    pack.add("bad.npz" if packed else "bad.npy", file.getvalue() if packed else npy(array))
    pack.add("c.npy", npy(images))
    lines = pack.index()
    bad = [line for line in lines if isinstance(line["form"], dict)]
    assert [line["input"] for line in bad] == ["bad.npz:x" if packed else "bad.npy"]
    assert bad[0]["form"]["error"].startswith("not an input for this model: ")
    assert said in bad[0]["form"]["error"]
    assert len(lines) == (8 if packed else 5)


@pytest.mark.parametrize("kind", [">f4", ">f8", ">i2"])
def test_numbers_in_the_other_order_of_bytes_are_the_same_numbers(pack: Pack, kind: str) -> None:
    values = np.arange(8).reshape(2, 4).astype(kind)
    pack.add("a.npy", npy(values))
    wanted = "int16" if kind == ">i2" else "float32"
    lines = pack.index(Wanted(wanted, (1, 4)))
    details = {"shape": [1, 4], "dtype": np.dtype(wanted).type, "quantization": (0, 0)}
    for row, line in enumerate(lines):
        data = Path(pack.path).read_bytes()[line["offset"] : line["offset"] + line["size"]]
        tensor = Preprocessor(details).tensor(data, line["form"])
        assert (tensor.dtype, tensor.tolist()) == (np.dtype(wanted), [values[row].tolist()])


def test_an_archive_without_arrays_is_an_error(pack: Pack) -> None:
    file = io.BytesIO()
    np.savez(file)
    pack.add("none.npz", file.getvalue())
    assert errors(pack) == ["not an input for this model: it holds no array"]


def test_inputs_of_which_none_can_be_used_are_no_job(pack: Pack, tmp_path: Path) -> None:
    for name in "abcde":
        pack.add(f"{name}.npy", npy(np.zeros((0, 28, 28), np.uint8)))
    with pytest.raises(PackError) as refused:
        write_index(str(tmp_path / "inputs.jsonl"), iter(pack.index()))
    assert str(refused.value).startswith("no input can be used: a.npy: not an input for this model: it holds no input")
    assert str(refused.value).endswith("; and 2 more")
    pack.add("f.png", b"")
    assert write_index(str(tmp_path / "inputs.jsonl"), iter(pack.index())) == 6


def test_a_damaged_array_is_a_line_with_its_error_and_the_others_are_indexed(pack: Pack, images: Any) -> None:
    whole = npy(images)
    bad = [b"", b"\x93NUMPY", whole[:100], whole[:-1], whole[:10] + b"(" + whole[11:], b"x" + whole[1:]]
    for number, data in enumerate(bad):
        pack.add(f"{number}.npy", data)
    for number, data in enumerate([b"", b"PK\3\4", whole]):
        pack.add(f"{number}.npz", data)
    pack.add("good.npy", whole)
    lines = pack.index()
    errors = {line["input"]: line["form"]["error"] for line in lines if isinstance(line["form"], dict)}
    assert set(errors) == {f"{n}.npy" for n in range(6)} | {f"{n}.npz" for n in range(3)}
    assert all(text.startswith("not an input that can be read: ") for text in errors.values())
    assert all((line["offset"], line["size"]) == (0, 0) for line in lines if line["input"] in errors)
    assert np.array_equal(pack.value(lines[-1])[0], images[2])
    with pytest.raises(BadInput, match="not an input that can be read: it is cut short"):
        Preprocessor(INPUT).tensor(b"", lines[2]["form"])


INPUT = {"shape": [1, 28, 28, 1], "dtype": np.uint8, "quantization": (0, 0)}


def header(text: bytes, version: int = 1) -> bytes:
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text


def described(shape: str, descr: str = "'|u1'") -> bytes:
    return b"{'descr': %s, 'fortran_order': False, 'shape': (%s), }" % (descr.encode(), shape.encode())


@pytest.mark.parametrize(
    "data",
    [
        header(b"{" + b"(" * 9000),
        header(b"{'descr':" + b"-" * 9000 + b"1}"),
        b"\x93NUMPY\2\0" + struct.pack("<I", 0xFFFFFFFF) + b"{",
        header(b"{'descr': 'a'" + b" " * 60_000 + b"}"),
        header(described("4294967296,4294967296,4294967296,4294967296")),
        header(described("-1,28,28")),
        header(described("9" * 5000)),
        header(described("1," * 2000)),
        header(described("28,28"), 9),
    ],
    ids=["nested", "signs", "length", "blanks", "product", "negative", "digits", "dimensions", "version"],
)
def test_a_hostile_header_is_one_error(pack: Pack, data: bytes) -> None:
    pack.add("bad.npy", data)
    cost = measured(pack.index)
    assert cost.error == ""
    assert [list(line["form"]) for line in cost.result] == [["error"]]
    assert (cost.seconds < 1, cost.mebibytes < 16) == (True, True)


def npz(name: str, data: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(name, data)
    return file.getvalue()


def errors(pack: Pack) -> list[str]:
    return [line["form"]["error"] for line in pack.index()]


def test_no_more_is_unpacked_than_the_header_says(pack: Pack) -> None:
    pack.add("bomb.npz", npz("a.npy", header(described("28,28")) + bytes(48 << 20)))
    cost = measured(pack.index)
    assert "more numbers than its header says" in cost.result[0]["form"]["error"]
    assert (cost.seconds < 1, cost.mebibytes < 16) == (True, True)
    assert Path(pack.path).stat().st_size == pack.size  # nothing of it is left


def test_nothing_is_unpacked_that_does_not_fit_the_model(pack: Pack) -> None:
    pack.add("bomb.npz", npz("a.npy", header(described("50331648")) + bytes(48 << 20)))
    cost = measured(pack.index)
    assert "it has shape 50331648" in cost.result[0]["form"]["error"]
    assert (cost.seconds < 1, cost.mebibytes < 16) == (True, True)
    assert Path(pack.path).stat().st_size == pack.size


def test_all_arrays_of_a_job_unfold_to_so_many_times_its_inputs(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusteradm.node.job.pack._MOST_BESIDES", 1 << 20)
    for name in "abc":
        pack.add(f"{name}.npz", npz("a.npy", header(described("1000,28,28")) + bytes(784_000)))
    lines = pack.index()
    assert [line["input"] for line in lines if isinstance(line["form"], dict)] == ["b.npz:a", "c.npz:a"]
    assert "unfold to many times its inputs" in lines[-1]["form"]["error"]
    assert len(lines) == 1002


def test_a_stored_array_ends_with_its_file(pack: Pack, images: Any) -> None:
    data = bytearray(npz("a.npy", npy(images), zipfile.ZIP_STORED))
    at = data.rindex(b"PK\1\2")
    struct.pack_into("<LL", data, at + 20, 1 << 30, 1 << 30)
    data = data.replace(b"'shape': (3,", b"'shape': (9,")
    pack.add("a.npz", bytes(data))
    pack.add("z.png", bytes(1 << 20))
    assert "it is cut short" in pack.index()[0]["form"]["error"]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_damage_of_a_zip_is_an_error_or_an_array(pack: Pack, method: int) -> None:
    whole = npz("a.npy", header(described("2,2")) + bytes(4), method)
    for place in range(len(whole)):
        for byte in (0, 0xFF, whole[place] ^ 1):
            Path(pack.path).write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
            pack.entries = [Entry("a.npz", 0, len(whole))]
            list(pack.index(Wanted("uint8", (1, 2, 2))))


def test_a_list_of_two_hundred_thousand_arrays_is_not_read(pack: Pack) -> None:
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, *[0] * 15)
    body = entry * 200_000
    pack.add("a.npz", body + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, len(body), 0, 0))
    cost = measured(errors, pack)
    assert "it claims a list of files of 9200000 bytes" in cost.result[0]
    assert (cost.seconds < 1, cost.mebibytes < 32) == (True, True)


def test_a_picture_file_that_no_rank_could_hold_is_one_error(pack: Pack) -> None:
    with open(pack.path, "wb") as sparse:
        sparse.truncate(MOST_PICTURE + 1)
    pack.entries = [Entry("a.png", 0, MOST_PICTURE + 1)]
    assert "a picture file of 134217729 bytes, more than 134217728" in errors(pack)[0]


def test_more_inputs_than_a_job_holds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusteradm.node.job.pack.MOST_INPUTS", 2)
    with pytest.raises(PackError, match="more than 2 inputs: make several jobs"):
        write_index(str(tmp_path / "inputs.jsonl"), ({"input": n, "form": None} for n in itertools.count()))


def test_on_the_head_what_is_no_file_is_an_error_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "out.png").symlink_to("/etc/passwd")
    (folder / "gone.png").symlink_to("nowhere")
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    (folder / "b.png").write_bytes(b"")
    (folder / "link.png").symlink_to("b.png")
    assert {one.name: one.error for one in find([str(folder)], SUFFIXES)} == {
        "b.png": None,
        "caf\\udce9.png": None,
        "gone.png": "a link that leads out of its folder: name it itself"
        if not os.path.realpath(folder / "gone.png").startswith(f"{folder}/")
        else "cannot read it: No such file or directory",
        "link.png": None,
        "out.png": "a link that leads out of its folder: name it itself",
        "pipe.png": "a pipe, a socket or a device, not a file",
    }


def test_a_file_of_the_head_that_vanishes_or_is_replaced_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    with open_input(str(path)) as file:
        assert append(str(tmp_path / "pack"), file) == 1
    path.unlink()
    with pytest.raises(NoInput, match="cannot read it: No such file"):
        open_input(str(path))
    os.mkfifo(path)
    with pytest.raises(NoInput, match="it was replaced"):
        open_input(str(path))
    with open("/proc/self/mem", "rb") as broken, pytest.raises(NoInput, match="cannot read it: Input/output error"):
        append(str(tmp_path / "pack"), broken)
    assert (tmp_path / "pack").read_bytes() == b"x"


def test_what_is_found_on_the_head(tmp_path: Path) -> None:
    for name in ("b.png", "a/z.JPG", "notes.txt", ".hidden.png", ".git/x.png", "c.npy"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"")
    folder = str(tmp_path / "in")
    assert [one.name for one in find([folder], SUFFIXES)] == ["a/z.JPG", "b.png", "c.npy"]
    assert [one.name for one in find([folder + "/notes.txt"], SUFFIXES)] == [folder + "/notes.txt"]
    both = [one.name for one in find([folder + "/a", folder + "/b.png"], SUFFIXES)]
    assert both == [folder + "/a/z.JPG", folder + "/b.png"]
    with pytest.raises(PackError, match="no file or folder"):
        list(find([folder + "/gone"], SUFFIXES))


def test_a_chunk_is_read_in_few_pieces() -> None:
    pieces = [[0, 0, 10, None], [1, 10, 5, None], [2, 15, 5, None], [3, 40, 5, None]]
    assert [[piece[0] for piece in batch] for batch in batches(pieces)] == [[0, 1, 2], [3]]
    large = [[number, number * READ_BYTES, READ_BYTES, None] for number in range(3)]
    assert [len(batch) for batch in batches(large)] == [1, 1, 1]
    assert list(batches([])) == []
