"""The inference thread of a rank and the threads about it: who does what, how far ahead, and what is known of it."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

from clusteradm.node.edgetpu.engine import InferenceError
from clusteradm.node.edgetpu.library import TpuError
from clusteradm.node.edgetpu.tensors import Fed
from clusteradm.node.job import inference, packs, worker
from clusteradm.node.job.feeder import AHEAD, Decoded, Feeder, Memory, Source
from clusteradm.node.job.inference import Inference
from clusteradm.node.job.pulse import Pulse
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.job import Assignment, InputForm, ModelFile, RankPlace

LONG = 60.0  # seconds; a limit, not a time that is waited for


class Inputs(Source):
    """A feeder of ready tensors."""

    def __init__(self, *items: Decoded | None) -> None:
        self._items: SimpleQueue[Decoded | None] = SimpleQueue()
        for item in items:
            self._items.put(item)

    def get(self) -> Decoded | None:
        return self._items.get()

    def empty(self) -> bool:
        return self._items.empty()

    def idle(self) -> bool:
        return True

    def end(self) -> None:
        self._items.put(None)


class Model:
    """An engine that doubles its input; 3 is too much for it, and 5 takes the TPU with it. It notes the threads."""

    def __init__(self) -> None:
        self.threads: set[str] = set()
        self.begun = 0

    def invoke(self, tensor: int) -> list[int]:
        self.begun += 1
        self.threads.add(threading.current_thread().name)
        if tensor == 3:
            raise InferenceError("no 3")
        if tensor == 5:
            raise TpuError("inference fails: it is gone")
        return [2 * tensor]


def _chunk(number: int, *pieces: list[Any]) -> dict[str, Any]:
    return {"chunk": number, "size": len(pieces), "inputs": worker.channels.text(pieces)}


def item(number: int, error: str | None = None) -> Decoded:
    return Decoded(1, number, number, error, 0.0)


def started(model: Model, *items: Decoded | None) -> tuple[Inference, SimpleQueue[Any], Pulse]:
    into: SimpleQueue[Any] = SimpleQueue()
    pulse = Pulse()
    return Inference(model, Inputs(*items), pulse, into), into, pulse  # type: ignore[arg-type]


def _taken(into: SimpleQueue[Any], count: int) -> list[Any]:
    """So many answers, in whatever lists they come."""
    answers: list[Any] = []
    while len(answers) < count:
        answers += into.get(timeout=LONG)
    return answers


def test_each_input_has_its_answer_and_what_ends_the_thread_comes_last() -> None:
    model = Model()
    thread, into, pulse = started(model, item(1), item(2, "no picture"), item(3), item(4), item(5), item(6))
    answers = _taken(into, 4)
    assert [(each.item.input, each.outputs, each.error) for each in answers] == [
        (1, [2], None),
        (2, None, "no picture"),
        (3, None, "the model fails on it: no 3"),
        (4, [8], None),
    ]
    assert [each.ended for each in answers] == sorted(each.ended for each in answers)
    assert isinstance(into.get(timeout=LONG), TpuError)
    assert (pulse.step, pulse.inferred, model.threads) == (4, None, {"inference"})
    assert thread.busy > 0 and pulse.slowest > 0


def test_a_chunks_answers_are_handed_on_at_its_end_while_more_inputs_lie_ready() -> None:
    """Rank 0 gives no other chunk before: near the end of a job, ranks would wait for one."""
    items = [Decoded(chunk, number, number, None, 0.0) for number, chunk in enumerate((1, 1, 2, 2))]
    model = Model()
    model.invoke = lambda tensor: [tensor] if tensor != 3 else [threading.Event().wait(LONG)]  # type: ignore[method-assign]
    _, into, _ = started(model, *items)
    assert [each.item.input for each in into.get(timeout=LONG)] == [0, 1]


def test_outputs_that_nobody_takes_do_not_fill_the_memory() -> None:
    model = Model()
    thread, into, _ = started(model, *[item(8)] * 50, None)
    assert len(_taken(into, inference.AHEAD)) == inference.AHEAD
    thread._thread.join(0.05)
    assert model.begun == inference.AHEAD and thread._thread.is_alive()
    thread.taken(50)
    thread._thread.join(LONG)
    assert model.begun == 50 and not thread._thread.is_alive()


def test_the_thread_ends_with_its_rank_also_where_its_answers_lie_untaken() -> None:
    thread, _, _ = started(Model(), *[item(8)] * inference.AHEAD)
    thread.end(LONG)
    assert not thread._thread.is_alive()
    thread, _, _ = started(Model())
    thread.end(LONG)
    assert not thread._thread.is_alive()


class PlayedEngine:
    """An engine whose output is its input."""

    load_seconds, version, path = 0.5, "CPU", None

    def __init__(self, model: bytes, address: str | None, threads: int) -> None:
        self.threads = threads
        self.input = {"shape": [1, 2], "dtype": np.uint8, "quantization": (0.0, 0)}
        self.inputs = [self.input]
        self.outputs: list[Any] = []

    def warm_up(self) -> float:
        return 0.25

    def invoke(self, tensor: Any) -> list[Any]:
        return [tensor]


class PlayedReader:
    """A Reader that looks what is said to be at work while it works."""

    fit = None

    def __init__(self, *_: Any, **__: Any) -> None:
        self.pulse = Pulse()
        self.seen: list[set[int]] = []

    def short(self, outputs: list[Any], *_: Any) -> dict[str, Any]:
        self.seen.append(self.pulse.inputs())
        return {"top": [[int(outputs[0][0, 0]), 1.0]]}


@pytest.mark.parametrize(("cores", "ranks", "threads"), [(4, 1, 4), (4, 2, 2), (4, 3, 1), (2, 4, 1)])
def test_the_ranks_of_a_host_share_its_cores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cores: int, ranks: int, threads: int
) -> None:
    made, _ = _worker(monkeypatch, tmp_path, cores, ranks)
    assert (made.engine.threads, made.pace) == (threads, 0.25)  # type: ignore[attr-defined]


def test_while_a_result_is_made_its_input_is_known_to_be_at_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where memory runs out meanwhile, the process is killed."""
    made, link = _worker(monkeypatch, tmp_path, 2, 1)
    reader: Any = made._reader
    reader.pulse = made._pulse
    pieces = [[n, 2 * n, 2, ["uint8", [1, 2]]] for n in (0, 1, 2)]
    made._events.put(worker.Message(0, worker.channels.CHUNK, _chunk(7, *pieces)))
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    tag, body = link.get(timeout=LONG)
    assert (tag, body["chunk"]) == (worker.channels.RESULT, 7)
    assert [result["top"][0][0] for result in json.loads(body["results"])] == [0, 2, 4]
    assert len(reader.seen) == 3 and all(number in seen for number, seen in enumerate(reader.seen))
    made._events.put(worker.Message(0, worker.channels.STOP, None))
    thread.join(LONG)
    assert made._pulse.inputs() == set()


def _worker(
    monkeypatch: pytest.MonkeyPatch, folder: Path, cores: int, ranks: int
) -> tuple[worker.Worker, SimpleQueue[Any]]:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    monkeypatch.setattr(worker, "Engine", PlayedEngine)
    monkeypatch.setattr(worker, "Reader", PlayedReader)
    monkeypatch.setattr(worker, "read_model", lambda *_: b"")
    (folder / "inputs.pack").write_bytes(bytes(range(6)))
    sent: SimpleQueue[Any] = SimpleQueue()

    class Link:
        def send(self, rank: int, tag: int, body: Any) -> None:
            sent.put((tag, body))

    model = ModelFile("m", 1, "/m", "0", InputForm("uint8", (1, 2)))
    mine = Assignment(RankPlace(1, "here", None), ranks, model, 1, str(folder))
    return worker.Worker(Link(), mine, Pulse(), SimpleQueue()), sent  # type: ignore[arg-type]


def test_an_array_is_not_copied_on_its_way_unless_its_numbers_lie_askew(tmp_path: Path) -> None:
    (tmp_path / "pack").write_bytes(bytes(range(200)))
    given: list[Any] = []

    def note(data: Any, form: Any) -> Fed:
        given.append(data)
        return Fed(data)

    feeder = Feeder(str(tmp_path / "pack"), note, 1, Pulse())
    feeder.put(_chunk(1, [0, 8, 5, None], [1, 13, 16, ["<f4", [4]]], [2, 64, 16, ["<f4", [4]]]))
    for _ in range(3):
        assert feeder.get() is not None
    assert [bytes(data) for data in given] == [bytes(range(a, b)) for a, b in ((8, 13), (13, 29), (64, 80))]
    assert [type(data) for data in given] == [bytes, bytes, memoryview]
    assert np.frombuffer(given[2], "<f4").flags.aligned


def test_memory_is_read_into_again_once_nobody_has_a_part_of_it() -> None:
    memory = Memory()
    first = memory.take(64)
    first[:] = bytes(range(64))
    part = np.frombuffer(memoryview(first)[16:32], np.uint8).reshape(4, 4)[1:]
    del first
    second = memory.take(64)
    second[:] = bytes(64)
    assert part.tolist() == [list(range(20 + row, 24 + row)) for row in (0, 4, 8)], "it is somebody's"
    del part
    first = memory.take(32)
    assert bytes(first[:32]) == bytes(range(32)) and first is not second, "nobody's any more, and large enough"
    larger = memory.take(65)
    assert len(larger) == 65 and larger is not first
    kept = [memory.take(64) for _ in range(20)]
    assert len({id(one) for one in (first, second, larger, *kept)}) == 23


def test_memory_is_known_for_as_many_large_inputs_as_lie_ready() -> None:
    memory = Memory()
    lying = [memory.take(64) for _ in range(AHEAD + 2)]  # one is inferred, and one is read
    for one in lying:
        one[:1] = b"x"
    del one
    lying.clear()
    lying = [memory.take(64) for _ in range(AHEAD + 2)]
    assert all(one[:1] == b"x" for one in lying)


class Counted(Inputs):
    """A feeder that knows how many it has."""

    def __init__(self, *items: Decoded) -> None:
        super().__init__(*items)
        self._left = len(items)

    def get(self) -> Decoded | None:
        self._left -= 1
        return super().get()

    def idle(self) -> bool:
        return self._left <= 0


class Sums:
    """An engine that takes four rows at once, and fails where one of them is 3. It notes how many were zeros."""

    def __init__(self) -> None:
        self.empty: list[int] = []

    def invoke(self, tensor: Any) -> list[Any]:
        assert tensor.shape == (4, 2)
        if (tensor == 3).any():
            raise InferenceError("no 3")
        self.empty.append(int((tensor.sum(1) == 0).sum()))
        return [tensor.sum(1, keepdims=True)]


def test_several_inputs_at_once_are_as_many_as_there_are() -> None:
    def row(number: int) -> Decoded:
        return Decoded(1, number, np.full((1, 2), number, np.float32), None, 0.0)

    model, into = Sums(), SimpleQueue[Any]()
    feeder = Counted(*(row(number) for number in (1, 2, 4, 5, 6)), item(9, "no picture"), row(7))
    going = Inference(model, feeder, Pulse(), into, 4)  # type: ignore[arg-type]
    found = {answer.item.input: answer for answer in _taken(into, 7)}
    assert {n: answer.outputs[0].tolist() for n, answer in found.items() if answer.outputs} == {
        n: [[2.0 * n]] for n in (1, 2, 4, 5, 6, 7)
    }
    assert found[9].error == "no picture"
    assert model.empty == [0, 2]
    going.end(LONG)


def test_the_input_on_which_the_model_fails_costs_no_other_of_the_same_inference() -> None:
    rows = [Decoded(1, number, np.full((1, 2), number, np.float32), None, 0.0) for number in (2, 3, 4)]
    model, into = Sums(), SimpleQueue[Any]()
    going = Inference(model, Counted(*rows), Pulse(), into, 4)  # type: ignore[arg-type]
    found = {answer.item.input: answer for answer in _taken(into, 3)}
    assert [found[n].outputs[0].tolist() for n in (2, 4)] == [[[4.0]], [[8.0]]]
    assert found[3].error == "the model fails on it: no 3"
    assert model.empty == [3, 3]
    going.end(LONG)


def test_inputs_of_several_batches_and_of_one_that_is_done_with(tmp_path: Path) -> None:
    for batch in (1, 2):
        (tmp_path / (job_names.FEED_PACK % batch)).write_bytes(bytes(range(10 * batch, 10 * batch + 8)))
    feeder = Feeder(str(tmp_path / job_names.PACK), lambda data, form: Fed(bytes(data)), 1, Pulse())
    # Neighbours by their places, and in three files.
    feeder.put(_chunk(1, *([n, 2 * n, 2, None, batch] for n, batch in enumerate((1, 1, 2, 3)))))
    found = [feeder.get() for _ in range(4)]
    assert [item and item.tensor for item in found] == [b"\x0a\x0b", b"\x0c\x0d", b"\x18\x19", None]
    assert [item and item.error for item in found] == [None, None, None, "its bytes are not there any more"]
    for batch in range(4, 30):
        (tmp_path / (job_names.FEED_PACK % batch)).write_bytes(b"ab")
        feeder.put(_chunk(batch, [batch, 0, 2, None, batch]))
        item = feeder.get()
        assert item is not None and item.tensor == b"ab"
    assert len(feeder._packs._open) <= packs._OPEN
