"""The keeper of a rank, with real worker processes and models: an input that hangs or kills costs that input alone."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import queue
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import made_models as made
import numpy as np
import pytest

from clusteradm.node import atomic
from clusteradm.node.job import channel as channels
from clusteradm.node.job import keeper as keepers
from clusteradm.node.job import oom, pack
from clusteradm.node.job.channel import Message
from clusteradm.node.job.keeper import Keeper
from clusteradm.node.job.outputs import Outputs
from clusteradm.node.job.process import Process
from clusteradm.node.job.pulse import Pulse
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.job import Assignment, InputForm, ModelFile, RankPlace

ROOT = Path(__file__).resolve().parents[3]
MODELS = ROOT / "tests" / "fixtures" / "tflite"

# The worker process as it is, but that an input whose first number is -7 ends it in the way that the first word says.
WORKER = """
import os, signal, sys, time
from clusteradm.node.job import rank
how = sys.argv[1]
if how in ("crash", "memory"):
    from clusteradm.node.edgetpu.engine import Engine
    whole = Engine._run
    def run(self, tensor):
        if tensor[0].flat[0] == -7:
            os.kill(os.getpid(), signal.SIGSEGV if how == "crash" else signal.SIGKILL)
        return whole(self, tensor)
    Engine._run = run
if how == "warm-up":
    from clusteradm.node.edgetpu.engine import Engine
    Engine.warm_up = lambda self: os.kill(os.getpid(), signal.SIGSEGV)
if how == "load":
    sys.exit(3)
if how == "import":
    sys.modules["numpy"] = None
rank.work(int(sys.argv[2]))
"""


class Channel:
    """MPI of this rank, played."""

    rank, size = 1, 2

    def __init__(self) -> None:
        self.inbox: queue.Queue[Message] = queue.Queue()
        self.outbox: queue.Queue[Message] = queue.Queue()

    def send(self, rank: int, tag: int, body: Any = None) -> None:
        self.outbox.put(Message(rank, tag, json.loads(json.dumps(body))))

    def patience(self, longest: float) -> float:
        return longest

    def poll(self) -> Message | None:
        try:
            return self.inbox.get_nowait()
        except queue.Empty:
            return None


class Rank:
    """One rank at work on arrays of numbers."""

    def __init__(self, folder: Path, model: bytes, values: Any, how: str) -> None:
        path = folder / "model.tflite"
        path.write_bytes(model)
        job = folder / "20260101-000000-abcdef"
        job.mkdir()
        file = io.BytesIO()
        np.save(file, values)
        size = pack.append(str(job / job_names.PACK), io.BytesIO(file.getvalue()))
        shape = (1, *values.shape[1:])
        wanted = pack.Wanted(str(values.dtype), shape)
        lines = list(pack.index(str(job / job_names.PACK), [pack.Entry("a.npy", 0, size)], wanted))
        self.pieces = [[n, line["offset"], line["size"], line["form"]] for n, line in enumerate(lines)]
        form = InputForm(str(values.dtype), shape)
        file_ = ModelFile("m", 1, str(path), hashlib.sha256(model).hexdigest(), form)
        place = RankPlace(1, socket.gethostname(), None)
        self.channel = Channel()
        assignment = json.loads(json.dumps(vars(Assignment(place, 1, file_, 3, str(job))), default=vars))
        self.channel.inbox.put(Message(0, channels.BEGIN, assignment))
        words = [sys.executable, "-c", WORKER, how]
        self.keeper = Keeper(self.channel, words, Process(words))  # type: ignore[arg-type]
        self.keeper._loading = 60.0  # seconds that it took the first time, so that a busy machine may take longer
        self.thread = threading.Thread(target=self.keeper.run, daemon=True)
        self.thread.start()
        self.alive = 0

    def next(self, seconds: float = 180.0) -> Message:
        while True:
            message = self.channel.outbox.get(timeout=seconds)
            if message.tag != channels.ALIVE:
                return message
            self.alive += 1

    def give(self, *sizes: int) -> None:
        at = 0
        for number, size in enumerate(sizes, 1):
            chunk = {"chunk": number, "size": size, "inputs": channels.text(self.pieces[at : at + size])}
            self.channel.inbox.put(Message(0, channels.CHUNK, chunk))
            at += size

    def results(self, *sizes: int) -> dict[int, Any]:
        """The results of chunks of these sizes, by input; each chunk comes once and whole."""
        assert self.next().tag == channels.READY
        self.give(*sizes)
        found: dict[int, Any] = {}
        for _ in sizes:
            message = self.next()
            assert message.tag == channels.RESULT, message
            results = json.loads(message.body["results"])
            assert len(results) == sizes[message.body["chunk"] - 1]
            for result in results:
                assert found.setdefault(result["i"], result) is result
        return found

    def stop(self) -> None:
        self.channel.inbox.put(Message(0, channels.STOP, None))
        self.thread.join(180)
        assert not self.thread.is_alive()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Rank]]:
    ranks: list[Rank] = []

    def started(model: bytes, values: Any, how: str = "plain") -> Rank:
        ranks.append(Rank(tmp_path, model, values, how))
        return ranks[-1]

    yield started
    for rank in ranks:
        rank.stop()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(keepers, "LIMIT_SECONDS", 1.0)


def numbers(count: int) -> Any:
    return np.repeat(np.arange(count, dtype=np.float32)[:, None] / 1000, 4, axis=1)


def test_chunks_come_back_whole_and_a_sign_of_life_every_second(start: Callable[..., Rank]) -> None:
    rank = start(made.recurrent(), numbers(40))
    found = rank.results(10, 20, 10)
    assert {n: result["top"][0][1] for n, result in found.items()} == {n: n / 1000 for n in range(40)}
    assert rank.channel.outbox.get(timeout=180).tag == channels.ALIVE


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("crash", "its process was killed by SIGSEGV"),
        (
            "memory",
            "killed by SIGKILL (since its start the kernel of its host has ended 1 process for lack of memory)",
        ),
    ],
)
def test_an_input_that_kills_the_process_is_an_error_and_the_others_are_delivered(
    start: Callable[..., Rank], monkeypatch: pytest.MonkeyPatch, how: str, said: str
) -> None:
    monkeypatch.setattr(
        keepers, "LIMIT_SECONDS", 30.0
    )  # nothing is waited for: so that a busy machine may take its time
    counts = itertools.count()
    monkeypatch.setattr(oom, "of_group", lambda: next(counts))
    values = numbers(30)
    values[[3, 17, 29]] = -7
    found = start(made.recurrent(), values, how).results(10, 10, 10)
    errors = {n: result["error"] for n, result in found.items() if "error" in result}
    assert sorted(errors) == [3, 17, 29]
    assert all(text.startswith("the model fails on it, twice: ") and said in text for text in errors.values())
    assert all(result["top"][0][1] == round(n / 1000, 6) for n, result in found.items() if n not in errors)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((4, 4), "was killed by SIGKILL"),  # somebody's doing
        ((None, None), "was killed by SIGKILL (this kernel does not say whether for lack of memory)"),
    ],
)
def test_what_the_kernel_does_not_say_is_not_said(
    monkeypatch: pytest.MonkeyPatch, counts: tuple[int | None, int | None], said: str
) -> None:
    left = iter(counts)
    monkeypatch.setattr(oom, "of_group", lambda: next(left))
    process = Process([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    deadline = time.monotonic() + 60
    while (death := process.death()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert death == said
    process.kill()


def test_an_inference_that_does_not_end_is_an_error_and_the_others_are_delivered(start: Callable[..., Rank]) -> None:
    values = numbers(20)
    values[5] = 1.0  # of this one the loop has no end
    rank = start((MODELS / "while_forever.tflite").read_bytes(), values)
    found = rank.results(10, 10)
    errors = {n: result["error"] for n, result in found.items() if "error" in result}
    assert set(errors) == {5}
    assert re.fullmatch(r"the model fails on it, twice: the inference did not end in \d+ s", errors[5])
    assert rank.alive >= 1  # all the while


def test_a_process_that_hangs_when_it_is_loaded_again_is_given_up(
    start: Callable[..., Rank], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = numbers(20)
    values[5] = 1.0
    rank = start((MODELS / "while_forever.tflite").read_bytes(), values)
    assert rank.next().tag == channels.READY
    # A wedged TPU: it hangs in the middle, and then whatever opens it.
    rank.keeper._words = [sys.executable, "-c", "import time; time.sleep(600)"]
    rank.keeper._loading = 0.01
    rank.give(10, 10)
    message = rank.next()
    assert message.tag == channels.FAILED
    said = r"loading the model and a first inference did not end in 2 s, after the inference did not end in \d+ s"
    assert re.fullmatch(said, message.body["error"])
    assert message.body["suspects"] == [5]


def test_a_process_that_ends_while_it_loads_is_the_ranks_failure(start: Callable[..., Rank]) -> None:
    message = start(made.recurrent(), numbers(1), "load").next()
    assert (message.tag, message.body["error"]) == (
        channels.FAILED,
        "its process ended with status 3 while it loaded the model",
    )


def test_a_library_that_is_missing_is_named(start: Callable[..., Rank]) -> None:
    message = start(made.recurrent(), numbers(1), "import").next()
    assert message.tag == channels.FAILED
    assert "numpy" in message.body["error"] and message.body["error"].endswith(": run clusteradm bootstrap")


def test_a_stopped_process_is_replaced(start: Callable[..., Rank]) -> None:
    values = numbers(2000)
    rank = start(made.variable(), values)
    assert rank.next().tag == channels.READY
    rank.give(1000, 1000)
    time.sleep(0.1)
    pid = rank.keeper._process._process.pid
    while rank.keeper._process.pulse.inferred is None:
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.001)
        os.kill(pid, signal.SIGSTOP)
    found = [result for _ in range(2) for result in json.loads(rank.next().body["results"])]
    assert [result["i"] for result in sorted(found, key=lambda one: one["i"])] == list(range(2000))
    assert not [result for result in found if "error" in result]


def test_the_worker_process_ends_with_its_rank(start: Callable[..., Rank]) -> None:
    rank = start(made.recurrent(), numbers(4))
    rank.results(4)
    process = rank.keeper._process
    rank.stop()
    assert process.death() is not None


class Stuck:
    """A worker process, played, that has loaded the model and then answers nothing."""

    def __init__(self, channel: Channel, killable: bool = True) -> None:
        self.pulse, self.pipe = Pulse(), self
        self._channel, self._killable = channel, killable
        self.killed: list[int] = []  # messages that rank 0 had got by then

    def death(self) -> str | None:
        return None

    def send(self, rank: int, tag: int, body: Any = None) -> None:
        pass

    def poll(self, seconds: float = 0.0) -> Message | None:
        return None

    def stop(self, seconds: float) -> None:
        pass

    def kill(self) -> bool:
        self.killed.append(self._channel.outbox.qsize())
        return self._killable


def stuck(killable: bool = True) -> tuple[Keeper, Stuck, Channel]:
    """A keeper whose process has inputs 0 to 3 of a chunk, and begun none of them."""
    channel = Channel()
    process = Stuck(channel, killable)
    keeper = Keeper(channel, [], process)  # type: ignore[arg-type]
    keeper._ready = keeper._announced = True
    keeper._accept({"chunk": 1, "size": 4, "inputs": channels.text([[n, n, 1, None] for n in range(4)])})
    return keeper, process, channel


def test_rank_0_is_told_before_a_process_is_killed_that_may_not_die() -> None:
    keeper, process, channel = stuck(killable=False)
    keeper._fail("the TPU hangs")
    assert process.killed == [1]
    assert channel.outbox.get().tag == channels.FAILED


def test_what_did_not_die_is_not_killed_again() -> None:
    keeper, process, channel = stuck(killable=False)
    process.pulse.begin(3)
    keeper._ended("the inference did not end in 5 s")
    assert len(process.killed) == 1
    assert channel.outbox.get().body == {
        "error": "the inference did not end in 5 s, and its process hangs in the kernel",
        "suspects": [3],
        "tpu": False,
    }


def test_a_model_that_does_not_bear_made_up_input_gets_none(start: Callable[..., Rank]) -> None:
    found = start(made.recurrent(), numbers(4), "warm-up").results(4)
    assert [n for n, result in sorted(found.items()) if "error" not in result] == [0, 1, 2, 3]


def test_a_warm_up_that_does_not_end_is_left_out_on_the_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for address, again in ((None, 1), ("0000:01:00.0", 0)):
        keeper, process, channel = stuck()
        new: list[Any] = []
        monkeypatch.setattr(keepers, "Process", lambda words, to=new: to.append(Stuck(Channel())) or to[-1])
        keeper._begin, keeper._ready = {"place": {"pci_address": address}}, False
        process.pulse.warm_up()
        keeper._watch(keepers.START_SECONDS + 1)
        assert (len(new), channel.outbox.qsize()) == (again, 1 - again)
        assert keeper._begin.get("warm_up", True) is not bool(again)


def test_a_decoding_that_does_not_end_is_an_error_of_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    keeper, process, channel = stuck()
    monkeypatch.setattr(keepers, "Process", lambda words: Stuck(Channel()))
    process.pulse.decode(0, 2)
    keeper._watch(keepers.STALL_SECONDS - 1)
    assert not process.killed
    keeper._watch(keepers.STALL_SECONDS + 1)
    assert keeper._suspects == {2: "its decoding did not end in 60 s"}
    assert [sorted(parcel.inputs) for parcel in keeper._waiting] == [[2], [0, 1, 3]]
    assert channel.outbox.empty()


def test_a_share_that_cannot_be_read_is_the_ranks_failure() -> None:
    keeper, _, channel = stuck()
    keeper._watch(keepers.STALL_SECONDS + 1)
    assert channel.outbox.get().body["error"] == ("no input could be read in 60 s: is the shared file system there?")


def test_a_result_that_cannot_be_stored_is_the_ranks_failure_and_no_inputs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The NFS server is away for longer than an input may take: the rank is left out, and others do its inputs."""
    keeper, process, channel = stuck()
    process.pulse.decode(0, 2)  # the result of this one is being made

    def hang(*_: Any, **__: Any) -> None:
        keeper._watch(keepers.STALL_SECONDS + 1)
        raise OSError("the server is back")

    monkeypatch.setattr(atomic, "replacing", hang)
    with pytest.raises(OSError, match="back"):
        Outputs(str(tmp_path / "outputs-x"), process.pulse).keep(2)("0.npy", b"large")
    assert channel.outbox.get().body == {
        "error": "no result could be stored in 60 s: is the shared file system there?",
        "suspects": [],
        "tpu": False,
    }
    assert not process.pulse.storing and not keeper._suspects


def test_an_inference_may_load_the_model_too(monkeypatch: pytest.MonkeyPatch) -> None:
    keeper, process, _ = stuck()
    monkeypatch.setattr(keepers, "Process", lambda words: Stuck(Channel()))
    process.pulse.load(7.0)
    process.pulse.begin(1)
    keeper._watch(0.0)  # begun
    keeper._watch(13.9)
    assert not keeper._suspects
    keeper._watch(14.1)
    assert keeper._suspects == {1: "the inference did not end in 14 s"}
