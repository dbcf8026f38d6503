"""Activations between stages: through shared memory, over bridges, and what no stage sends."""

from __future__ import annotations

import os
import secrets
import socket
import struct
import threading
from array import array
from typing import Any

import numpy as np
import pytest

from clusteradm.node.job import bridge, handing
from clusteradm.node.job.activations import PLACES, Gone, Head, Layout, Reader, Writer, address, pack_head, read_head
from clusteradm.node.spec.wire.decode import WireError
from clusteradm.node.spec.wire.manifest import Tensor
from clusteradm.node.spec.wire.pipeline import Pipeline, SegmentFile

LAYOUT = Layout([Tensor("a", (1, 3), "int8"), Tensor("b", (2, 5), "float32"), Tensor("c", (1,), "bool")])


def values(number: int) -> list[Any]:
    return [
        np.full((1, 3), number % 100, np.int8),
        np.arange(10, dtype=np.float32).reshape(2, 5) * number,
        np.array([number % 2 == 0]),
    ]


@pytest.fixture
def name() -> str:
    return address(f"test-{os.getpid()}-{secrets.token_hex(4)}/1", 2)


def test_every_input_comes_once_in_order_and_as_it_was_also_with_more_than_there_are_places(name: str) -> None:
    reader, writer = Reader(name, LAYOUT), Writer(name, LAYOUT)
    count = 5 * PLACES

    def write() -> None:
        for number in range(count):
            if number == 7:
                writer.write(Head(1, count, number, error="no picture"), ())
            else:
                writer.write(Head(1, count, number, None, 0.25, (640, 480)), values(number))

    thread = threading.Thread(target=write)
    thread.start()
    for number in range(count):
        found = reader.read()
        assert found is not None
        place, data, memory = found
        head = read_head(data)
        if number == 7:
            assert head == Head(1, count, 7, "no picture")
        else:
            assert head == Head(1, count, number, None, 0.25, (640, 480))
            for one, other in zip(LAYOUT.views(memory), values(number), strict=True):
                assert one.tobytes() == other.tobytes() and one.shape == other.shape
        reader.free(place)
    thread.join(10)
    assert not thread.is_alive() and not reader.is_ready()
    writer.close()
    with pytest.raises(Gone, match="the stage before has ended"):
        reader.read()
    reader.close()


def test_a_reader_that_is_ended_waits_no_more(name: str) -> None:
    reader = Reader(name, LAYOUT)
    found: list[Any] = [1]
    thread = threading.Thread(target=lambda: found.append(reader.read()))
    thread.start()
    reader.end()
    thread.join(10)
    assert found == [1, None]
    # The name is free again.
    Reader(name, LAYOUT).close()


def test_a_writer_learns_that_nobody_reads(name: str) -> None:
    with pytest.raises(Gone, match="does not listen"):
        Writer(name, LAYOUT).write(Head(1, 1, 0), values(0))
    reader, writer = Reader(name, LAYOUT), Writer(name, LAYOUT)
    assert writer.is_free() and not reader.is_ready()  # connected
    writer.write(Head(1, 1, 0), values(0))
    reader.read()
    reader.close()
    with pytest.raises(Gone, match="the next stage has ended"):
        for number in range(2 * PLACES):
            writer.write(Head(1, 1, number), values(number))


def test_tensors_of_another_shape_are_no_activation(name: str) -> None:
    reader, writer = Reader(name, LAYOUT), Writer(name, LAYOUT)
    with pytest.raises(ValueError, match="a tensor of int8"):
        writer.write(Head(1, 1, 0), [np.zeros((1, 4), np.int8), *values(0)[1:]])
    reader.close()


@pytest.mark.parametrize(
    ("size", "places"), [(LAYOUT.bytes * PLACES - 1, PLACES), (0, 1), (1 << 20, 0), (1 << 20, 999)]
)
def test_memory_that_is_smaller_than_it_says_is_not_read(name: str, size: int, places: int) -> None:
    reader = Reader(name, LAYOUT)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as liar:
        liar.connect(name)
        memory = os.memfd_create("memory")
        os.truncate(memory, size)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [memory]))
        liar.sendmsg([struct.pack("<I", places)], [rights])
        with pytest.raises(WireError, match="of another size"):
            reader.read()
        os.close(memory)
    reader.close()


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"[",
        b"\xff",
        b"{}",
        b"[1,2,3]",
        b'["1",2,3,null,0,null]',
        b"[1,0,3,null,0,null]",
        b"[1,2,-3,null,0,null]",
        b"[1,2,true,null,0,null]",
        b"[1,2,3,7,0,null]",
        b"[1,2,3,null,2,null]",
        b"[1,2,3,null,NaN,null]",
        b"[1,2,3,null,0,[640]]",
        b"[1,2,3,null,0,[640,0]]",
        b"[1,2,3,null,0,[640,99999999999]]",
        b"[" * 5000,
    ],
)
def test_what_is_no_head_is_refused(head: bytes) -> None:
    with pytest.raises(WireError):
        read_head(head)


def test_an_error_is_cut_and_what_was_packed_is_read() -> None:
    head = Head(3, 5, 9, "x" * 5000, 0.5, (3, 4))
    assert read_head(pack_head(head)) == head._replace(error="x" * 2000)


def sent(head: bytes, tensors: bytes) -> bytes:
    return struct.pack("<II", 3, len(head)) + head + tensors


def test_what_comes_from_another_host_is_checked() -> None:
    head, failed = pack_head(Head(1, 1, 0)), pack_head(Head(1, 1, 0, "no picture"))
    whole = bytes(LAYOUT.bytes)
    assert bridge.parted(sent(head, whole), LAYOUT.bytes) == (head, whole)
    assert bridge.parted(sent(failed, b""), LAYOUT.bytes) == (failed, b"")
    assert bridge.turn_of(sent(head, whole)) == 3
    with pytest.raises(WireError):
        bridge.turn_of(b"\0" * 7)
    for data in (b"", b"\1\0\0", sent(head, whole[:-1]), sent(head, whole + b"\0"), sent(failed, whole)):
        with pytest.raises(WireError):
            bridge.parted(data, LAYOUT.bytes)
    with pytest.raises(WireError):
        bridge.parted(struct.pack("<II", 3, 1 << 31) + head + whole, LAYOUT.bytes)


def test_a_tensor_is_handed_on_until_nobody_needs_it() -> None:
    def tensor(name: str) -> Tensor:
        return Tensor(name, (1,), "int8")

    def stage(inputs: str, outputs: str) -> SegmentFile:
        return SegmentFile("", "", tuple(map(tensor, inputs)), tuple(map(tensor, outputs)))

    pipeline = Pipeline(
        (stage("i", "abx"), stage("a", "c"), stage("bc", "d"), stage("d", "y")), (tensor("y"), tensor("x"))
    )
    crossing = ["".join(one.name for one in handing.crossing(pipeline, number)) for number in range(3)]
    # x, an output of the model, goes with all of them; a and c only to the stage that takes them.
    assert crossing == ["abx", "bxc", "xd"]
