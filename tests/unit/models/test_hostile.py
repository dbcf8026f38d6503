"""Models and labels that were made to harm: their cost is bounded by the file's size, and the error is one sentence."""

from __future__ import annotations

import io
import os
import socket
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from child import measured

from clusteradm.errors import UsageError
from clusteradm.lab.compiler import compile_model
from clusteradm.models.labels import embedded, parse
from clusteradm.models.tflite.flatbuffer import Budget, Malformed, flex_entry
from clusteradm.models.tflite.inspect import NotAModel, inspect
from clusteradm.models.upload import prepare

HOSTILE = Path(__file__).resolve().parents[2] / "fixtures" / "models"


@pytest.mark.parametrize("name", ["bomb_inputs.tflite", "bomb_pack.tflite"])
@pytest.mark.parametrize("reader", [inspect, lambda data, name: compile_model(data, name)], ids=["inspect", "compile"])
def test_offsets_to_one_place_cost_no_more_than_the_file(name: str, reader: Callable[[bytes, str], object]) -> None:
    data = (HOSTILE / name).read_bytes()
    cost = measured(reader, data, name)
    assert cost.error.startswith(f"NotAModel: {name}: begins like a TensorFlow Lite model but is damaged")
    assert cost.seconds < 2
    assert cost.mebibytes < 32


def overlapping(count: int) -> bytes:
    """A sound model but that all its `count` operations have the same custom options, and all tensors one name."""
    builder = flatbuffers.Builder(0)
    name = builder.CreateString("n" * 1000)
    shape = builder.CreateNumpyVector(np.array([1, 4], "<i4"))
    schema.TensorStart(builder)
    schema.TensorAddName(builder, name)
    schema.TensorAddShape(builder, shape)
    tensor = schema.TensorEnd(builder)
    schema.SubGraphStartTensorsVector(builder, count)
    for _ in range(count):
        builder.PrependUOffsetTRelative(tensor)
    tensors = builder.EndVector()
    ends = builder.CreateNumpyVector(np.arange(200, dtype="<i4"))
    options = builder.CreateByteVector(bytes(3000))
    schema.OperatorStart(builder)
    schema.OperatorAddCustomOptions(builder, options)
    operation = schema.OperatorEnd(builder)
    schema.SubGraphStartOperatorsVector(builder, count)
    for _ in range(count):
        builder.PrependUOffsetTRelative(operation)
    operations = builder.EndVector()
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    schema.SubGraphAddInputs(builder, ends)
    schema.SubGraphAddOutputs(builder, ends)
    schema.SubGraphAddOperators(builder, operations)
    graph = schema.SubGraphEnd(builder)
    schema.ModelStartSubgraphsVector(builder, 1)
    builder.PrependUOffsetTRelative(graph)
    graphs = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, graphs)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


def test_a_hundred_thousand_tables_in_one_place_are_refused() -> None:
    data = overlapping(90_000)
    cost = measured(inspect, data, "m.tflite")
    assert "its parts overlap: they would unfold to many times the file" in cost.error
    assert (cost.seconds < 5, cost.mebibytes < 100) == (True, True)


def test_a_key_is_sought_in_place() -> None:
    """A FlexBuffer map of many keys, whose comparison copied the rest of the buffer each time."""
    count = 200_000
    # keys: offsets to themselves; root: a map of one-byte values is too small, so of four-byte ones.
    keys = b"".join(struct.pack("<I", 0) for _ in range(count))
    body = keys + struct.pack("<III", 4 * count, 4, count)
    values = len(body)
    body += bytes(5 * count)
    data = body + struct.pack("<I", len(body) - values) + bytes([(9 << 2) | 2, 4])
    cost = measured(lambda: flex_entry(memoryview(data), "4", Budget(len(data))))
    assert (cost.error, cost.result) == ("", None)
    assert cost.seconds < 5
    with pytest.raises(Malformed, match="overlap"):
        flex_entry(memoryview(data), "4", Budget(1000))


@pytest.mark.parametrize("name", sorted(path.name for path in HOSTILE.glob("zipcrash*")))
def test_a_damaged_zip_inside_a_model_is_no_labels(name: str) -> None:
    data = (HOSTILE / name).read_bytes()
    assert embedded(data) is None
    inspect(data, name)


def archive(method: int = zipfile.ZIP_DEFLATED, **files: str) -> bytearray:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as members:
        for name, text in files.items():
            members.writestr(name.replace("_", "."), text)
    return bytearray(file.getvalue())


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_damage_of_a_zip_is_no_labels_or_labels(method: int) -> None:
    whole = archive(method, labels_txt="zero\none\n" * 20)
    for place in range(len(whole)):
        for byte in (0, 0xFF, whole[place] ^ 1):
            bad = bytearray(whole)
            bad[place] = byte
            embedded(bytes(bad))


def test_labels_of_four_gigabytes_are_not_unpacked() -> None:
    bomb = archive(labels_txt="0" * (64 << 20))
    assert len(bomb) < 100_000
    # The same with a size in the list of files that is a lie.
    lie = bytearray(bomb)
    at = lie.rindex(b"PK\1\2")
    struct.pack_into("<I", lie, at + 24, 1000)
    for data in (bomb, lie):
        cost = measured(embedded, bytes(data))
        assert (cost.error, cost.result) == ("", None)
        assert (cost.seconds < 1, cost.mebibytes < 16) == (True, True)


def test_a_list_of_a_hundred_thousand_files_is_not_read() -> None:
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    body = entry * 200_000
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, len(body), 0, 0)
    cost = measured(embedded, body + end)
    assert (cost.error, cost.result) == ("", None)
    assert (cost.seconds < 1, cost.mebibytes < 32) == (True, True)


@pytest.mark.parametrize(
    "text",
    [
        ("1" + " " * 4000 + "\n") * 200,
        "1" + " " * 1_000_000 + "\n2" + " :" * 500_000,
        "9" * 5000 + " cat\n" + "9" * 5001 + " dog\n",
        "0 a\n999999999 b\n",
        "\u0661 cat\n\u0662 dog\n",
        "\n" * 4_000_000 + "x",
        "item" + " " * 4_000_000,
        "item { " + "a" * 4_000_000 + " }",
        "item {" * 600_000,
        "names:" + "\n" * 4_000_000,
        "names:\n" + "- a\n" * 90_000,
        "{" * 4_000_000,
        '["a"' + ',"b"' * 900_000 + "]",
        "id,name\n" + "7,x\n" * 900_000,
        "0 a\n" * 900_000,
    ],
    ids=[
        *["blanks", "long", "digits", "hole", "arabic", "lines", "pbtxt-blanks", "pbtxt-word", "pbtxt-open"],
        *["names", "yaml", "braces", "json", "csv", "twice"],
    ],
)
def test_no_label_file_takes_long(text: str) -> None:
    cost = measured(parse, text)
    if cost.error:
        assert cost.error.startswith("UsageError: ")
    else:
        assert len(cost.result) <= text.count("\n") + text.count(",") + 1
    assert (cost.seconds < 6, cost.mebibytes < 400) == (True, True)


def test_a_label_that_would_fill_every_result_is_refused(tmp_path: Path, compiled: Callable[..., bytes]) -> None:
    model, labels = tmp_path / "m.tflite", tmp_path / "labels.txt"
    model.write_bytes(compiled())
    labels.write_text("cat\n" + "x" * 5000)
    with pytest.raises(UsageError, match="the longest, of class 1, of 5,000 characters"):
        prepare(model, "m", labels)
    labels.write_bytes(b"x" * (5 << 20))
    with pytest.raises(UsageError, match="bytes, more than 4,194,304"):
        prepare(model, "m", labels)


def test_a_manifest_that_the_head_would_not_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(many_names(256))
    with pytest.raises(NotAModel, match="bytes to describe, more than"):
        prepare(path, "m")


def many_names(count: int) -> bytes:
    model, graph, code = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT()
    graph.tensors = []
    for _ in range(count):
        tensor = schema.TensorT()
        tensor.name, tensor.shape = "n" * 500, [1]
        graph.tensors.append(tensor)
    graph.inputs = graph.outputs = list(range(count))
    graph.operators = []
    model.subgraphs, model.operatorCodes, model.buffers = [graph], [code], [schema.BufferT()]
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
def test_what_is_no_file_is_refused_at_once(kind: str, tmp_path: Path, compiled: Callable[..., bytes]) -> None:
    sound, path = tmp_path / "m.tflite", tmp_path / "x"
    sound.write_bytes(compiled())
    words = {"pipe": "a FIFO", "socket": "a socket", "device": "a device", "folder": "a folder"}[kind]
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(path))
    for model, labels in ((path, None), (sound, path)):
        with pytest.raises(UsageError, match=f"it is {words}, not a file"):
            prepare(model, "m", labels)
