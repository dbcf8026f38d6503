"""Rank 0 and workers as they are, with the project's own model on the CPU; only MPI is replaced, by queues."""

from __future__ import annotations

import hashlib
import json
import queue
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

from clusteradm.node.edgetpu.engine import Engine, device_path
from clusteradm.node.edgetpu.library import Device, Library, TpuError, device_option
from clusteradm.node.job import attendance, deadlines, files, journal, pack, reports, worker
from clusteradm.node.job import channel as channels
from clusteradm.node.job.channel import Message
from clusteradm.node.job.dispatcher import dispatch
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.job import InputForm, ModelFile, Progress, StoredSpec
from clusteradm.node.spec.wire.timeline import Timeline

MODEL = Path(__file__).resolve().parents[3] / "clusteradm" / "lab" / "digits" / "digits.tflite"
INPUTS = 60


class Channel:
    """What channel.Channel is to a rank, over queues of this process."""

    def __init__(self, rank: int, inboxes: list[queue.Queue[Message]]) -> None:
        self.rank = rank
        self.size = len(inboxes)
        self._inboxes = inboxes

    def send(self, rank: int, tag: int, body: Any = None) -> None:
        self._inboxes[rank].put(channels.read(self.rank, tag, json.dumps(body, default=vars).encode()))

    def patience(self, longest: float) -> float:
        return longest

    def poll(self) -> Message | None:
        try:
            return self._inboxes[self.rank].get_nowait()
        except queue.Empty:
            return None

    def receive(self) -> Message:
        while (message := self.poll()) is None:
            time.sleep(0.001)
        return message


def own_of(job: Path) -> Path:
    """The job's folder on the head's own disk."""
    return job.parent / "own" / job.name


def run_of(job: Path) -> Path:
    return own_of(job) / job_names.RUN


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job of 60 pictures, one of which is none."""
    folder = tmp_path / "20260101-000000-abcdef"
    folder.mkdir()
    run_of(folder).mkdir(parents=True)
    chance = np.random.default_rng(5)
    entries, at = [], 0
    for number in range(INPUTS):
        source = tmp_path / f"{number:03}.png"
        if number == 17:
            source.write_bytes(b"not a picture")
        else:
            Image.fromarray(chance.integers(0, 256, (28, 28), dtype=np.uint8)).save(source)
        with source.open("rb") as file:
            size = pack.append(str(folder / job_names.PACK), file)
        entries.append(pack.Entry(source.name, at, size))
        at += size
    lines = pack.index(str(folder / job_names.PACK), entries, pack.Wanted("uint8", (1, 28, 28, 1)))
    assert pack.write_index(str(run_of(folder) / job_names.INPUTS), lines) == INPUTS
    write_spec(folder, hashlib.sha256(MODEL.read_bytes()).hexdigest())
    return folder


def write_spec(folder: Path, sha256: str) -> None:
    model = ModelFile("digits", 1, str(MODEL), sha256, InputForm("uint8", (1, 28, 28, 1)))
    spec = StoredSpec(model, "head", (), None, 3, "python3", folder.name, INPUTS, str(folder))
    files.write_json(str(own_of(folder) / job_names.SPEC), spec)


def run(job: Path, ranks: int, attempt: int = 1, host: str | None = None, kind: type[Channel] = Channel) -> Progress:
    """One attempt with so many workers; the last progress that rank 0 wrote."""
    plan = [{"rank": n, "host": host or socket.gethostname(), "pci_address": None} for n in range(1, ranks + 1)]
    files.write_json(str(run_of(job) / (job_names.ATTEMPT % attempt)), {"attempt": attempt, "ranks": plan})
    inboxes: list[queue.Queue[Message]] = [queue.Queue() for _ in range(ranks + 1)]
    threads = [threading.Thread(target=worker.work, args=(kind(n, inboxes),), daemon=True) for n in range(1, ranks + 1)]
    for thread in threads:
        thread.start()
    dispatch(str(own_of(job)), attempt, kind(0, inboxes))  # type: ignore[arg-type]
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    progress = files.read(Progress, str(run_of(job) / job_names.PROGRESS))
    assert progress is not None
    return progress


def expected(job: Path) -> list[int | None]:
    """The class of every input by the interpreter alone."""
    interpreter = Interpreter(model_path=str(MODEL))
    interpreter.allocate_tensors()
    found: list[int | None] = []
    for number in range(INPUTS):
        if number == 17:
            found.append(None)
            continue
        pixels = np.asarray(Image.open(job.parent / f"{number:03}.png"))
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels[None, :, :, None])
        interpreter.invoke()
        found.append(int(np.argmax(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))))
    return found


def answers(job: Path) -> list[int | None]:
    journal.finish(str(job), str(run_of(job) / job_names.INPUTS), [])
    results = [json.loads(line) for line in (job / job_names.RESULTS).read_text().splitlines()]
    assert [result["input"] for result in results] == [f"{number:03}.png" for number in range(INPUTS)]
    assert "not a picture" in results[17]["error"]
    return [result["top"][0]["class"] if "top" in result else None for result in results]


@pytest.mark.parametrize("ranks", [1, 4])
def test_every_input_once_and_as_the_interpreter_says(job: Path, ranks: int) -> None:
    progress = run(job, ranks)
    assert answers(job) == expected(job)
    delivered = [result["i"] for line in files.read_lines(str(job / job_names.JOURNAL)) for result in line["results"]]
    assert sorted(delivered) == list(range(INPUTS))
    assert (progress.phase, progress.done, progress.errors) == ("finished", INPUTS, 1)
    assert sum(rank.images for rank in progress.ranks) == INPUTS
    assert progress.last_result is not None and progress.first_dispatch is not None
    assert progress.last_result > progress.first_dispatch
    busy = [rank for rank in progress.ranks if rank.images]
    assert all(rank.busy > 0 and rank.decode > 0 and rank.version == "CPU" for rank in busy)
    assert all(rank.read > 0 and rank.idle >= 0 and rank.queue == 0 for rank in busy)
    timeline = files.read(Timeline, str(run_of(job) / job_names.TIMELINE))
    assert timeline is not None
    assert {host: sum(numbers) for host, numbers in timeline.counts.items()} == {socket.gethostname(): INPUTS}


def test_a_second_attempt_does_what_the_first_did_not(job: Path) -> None:
    earlier = journal.Journal(str(job), 1)
    earlier.append(1, [{"i": index, "top": [[99, 1.0]]} for index in range(0, INPUTS, 2)])
    earlier.close()
    progress = run(job, 2, attempt=2)
    assert progress.done == INPUTS
    assert journal.counts(str(job), 2).keys() <= {1, 2}
    assert sum(journal.counts(str(job), 2).values()) == INPUTS // 2
    right = expected(job)
    assert answers(job) == [99 if index % 2 == 0 else right[index] for index in range(INPUTS)]


def test_a_rank_whose_engine_fails_costs_no_input(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_once: Callable[..., Any] = Engine._run
    broken: list[Engine] = []

    def fails(self: Engine, tensor: Any) -> Any:
        if tensor[0].any() and not broken:  # not at the warm-up
            broken.append(self)
        if self in broken:
            raise RuntimeError("the TPU has fallen off the bus")
        return run_once(self, tensor)

    monkeypatch.setattr(Engine, "_run", fails)
    progress = run(job, 3)
    assert answers(job) == expected(job)
    states = sorted((rank.state, rank.error) for rank in progress.ranks)
    assert states == [("failed", "inference fails: the TPU has fallen off the bus"), ("ready", None), ("ready", None)]


class Wedges(Channel):
    """A rank whose TPU does not come through input 7, nor through being loaded again."""

    def poll(self) -> Message | None:
        message = super().poll()
        if self.rank and message is not None and message.tag == channels.CHUNK:
            numbers = [piece[0] for piece in json.loads(message.body["inputs"])]
            if 7 in numbers:
                self.send(0, channels.FAILED, {"error": "the TPU hangs", "suspects": [7]})
                return Message(0, channels.STOP, None)
        return message


def test_an_input_that_wedges_tpus_costs_two_of_them_and_not_the_job(job: Path) -> None:
    progress = run(job, 4, kind=Wedges)
    wanted = expected(job)
    wanted[7] = None
    assert answers(job) == wanted
    lines = (job / job_names.RESULTS).read_text().splitlines()
    assert json.loads(lines[7])["error"] == "two ranks failed with it, the second as: the TPU hangs"
    assert sorted(rank.state for rank in progress.ranks) == ["failed", "failed", "ready", "ready"]
    assert (progress.done, progress.errors) == (INPUTS, 2)


def test_an_input_that_wedges_the_only_tpu_of_two_attempts_is_an_error(job: Path) -> None:
    first = run(job, 1, kind=Wedges)
    assert first.done < INPUTS and [rank.state for rank in first.ranks] == ["failed"]
    run(job, 1, attempt=2, kind=Wedges)
    assert 7 in journal.done(str(job), INPUTS), "as the second rank was lost by it"
    assert run(job, 1, attempt=3, kind=Wedges).done == INPUTS
    wanted = expected(job)
    wanted[7] = None
    assert answers(job) == wanted


def test_a_result_whose_outputs_a_power_failure_has_emptied_is_none(job: Path) -> None:
    folder = job / f"outputs-{job.name}"
    folder.mkdir()
    written = journal.Journal(str(job), 1)
    for number, content in enumerate((b"whole", b"")):
        name = f"{folder.name}/{number:06}-0.npy"
        (job / name).write_bytes(content)
        output = {"name": "y", "shape": [9], "file": name, "dtype": "uint8"}
        written.append(1, [{"i": number, "outputs": [output]}])
    written.append(1, [{"i": 2, "outputs": [{"name": "y", "shape": [9], "file": f"{folder.name}/000002-0.npy"}]}])
    written.close()
    assert journal.done(str(job), INPUTS) == {0}


def test_a_rank_that_is_not_heard_of_any_more_costs_no_input_and_is_not_waited_for(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attendance, "SILENT_SECONDS", 1.0)
    frozen, aborted = threading.Event(), []

    class Frozen(Channel):
        """Of ranks that say that they live, one of which freezes when it has its first results."""

        said = 0.0

        def poll(self) -> Message | None:
            while self.rank == 2 and frozen.is_set():
                time.sleep(0.1)
            if self.rank and time.monotonic() - self.said > 0.1:
                self.said = time.monotonic()
                super().send(0, channels.ALIVE)
            return super().poll()

        def send(self, rank: int, tag: int, body: Any = None) -> None:
            if self.rank == 2 and tag == channels.RESULT and not aborted:
                frozen.set()
                while frozen.is_set():
                    time.sleep(0.1)
            super().send(rank, tag, body)

        def abort(self) -> None:
            aborted.append(self.rank)
            frozen.clear()

    progress = run(job, 3, kind=Frozen)
    assert answers(job) == expected(job)
    assert [(rank.state, rank.error) for rank in progress.ranks][1] == (
        "failed",
        f"{socket.gethostname()} has not answered for 5 s",
    )
    assert aborted == [0]  # MPI itself would wait


def _results(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A lie about the results of a chunk."""
    return lambda body: {**body, "results": channels.text(change(json.loads(body["results"])))}


def _in_first(**changes: Any) -> Callable[[Any], Any]:
    """A lie about the first result of a chunk that is no error: to an error, an answer adds nothing."""

    def lie(results: Any) -> Any:
        place = next((n for n, result in enumerate(results) if "error" not in result), 0)
        changed = {**results[place], **changes}
        if "top" in changes:  # the chunk may hold nothing but the input that is no picture
            changed.pop("error", None)
        return [changed, *results[:place], *results[place + 1 :]]

    return _results(lie)


def _as_output(**changes: Any) -> Callable[[Any], Any]:
    """A lie about an output of the first result, an otherwise good one."""
    output = {"name": "y", "shape": [1], "values": [1.0]}

    def lie(results: Any) -> Any:
        given = {key: value for key, value in {**output, **changes}.items() if value != "none"}
        return [{"i": results[0]["i"], "outputs": [given]}, *results[1:]]

    return _results(lie)


LIES: dict[str, tuple[int, Callable[[Any], Any], str]] = {
    "no version": (channels.READY, lambda body: {"tpu": None}, "version: missing"),
    "a version of a megabyte": (
        channels.READY,
        lambda body: {"version": "x" * (1 << 20)},
        "version: a text of 1048576",
    ),
    "a device that is none": (channels.READY, lambda body: {**body, "tpu": ["/dev/apex_0"]}, "tpu: no name"),
    "a pace below 0": (channels.READY, lambda body: {**body, "pace": -1.0}, "pace: no number of seconds"),
    "a list": (channels.RESULT, lambda body: [], "expected an object, not a list"),
    "null": (channels.RESULT, lambda body: None, "expected an object, not null"),
    "no JSON": (channels.RESULT, lambda body: b'{"chunk":', "not a JSON document"),
    "no UTF-8": (channels.RESULT, lambda body: b'"\xff"', "not a JSON document"),
    "a million lists": (channels.RESULT, lambda body: b"[" * 1000000, "not a JSON document"),
    "NaN": (channels.RESULT, lambda body: {**body, "seconds": float("nan")}, "NaN is no number of JSON"),
    "a number of 5,000 digits": (channels.RESULT, lambda body: b"9" * 5000, "not a JSON document"),
    "a negative time": (channels.RESULT, lambda body: {**body, "seconds": -1.0}, "seconds: no number of seconds"),
    "a time without end": (channels.RESULT, lambda body: {**body, "busy": 1e308}, "busy: no number of seconds"),
    "a chunk by its name": (channels.RESULT, lambda body: {**body, "chunk": "1"}, "chunk: expected a whole number"),
    "a chunk of another rank": (channels.RESULT, lambda body: {**body, "chunk": 1}, "it does not have chunk 1"),
    "a chunk of nobody": (channels.RESULT, lambda body: {**body, "chunk": 9999}, "it does not have chunk 9999"),
    "no result": (channels.RESULT, _results(lambda results: []), "not those of the inputs that it had"),
    "results that are no text": (channels.RESULT, lambda body: {**body, "results": []}, "results: expected text"),
    "results that are no JSON": (
        channels.RESULT,
        lambda body: {**body, "results": "[" * 100000},
        "results: not a JSON document",
    ),
    "a score that is NaN": (
        channels.RESULT,
        lambda body: {**body, "results": '[{"i": 0, "top": [[1, NaN]]}]'},
        "results: not a JSON document: NaN is no number",
    ),
    "results by name": (channels.RESULT, _results(lambda results: {}), "results: expected a list"),
    "a result that is a number": (channels.RESULT, _results(lambda results: [7]), r"results\[0\]: no result"),
    "an input of another": (channels.RESULT, _in_first(i=INPUTS), "not those of the inputs that it had"),
    "an input below 0": (channels.RESULT, _in_first(i=-1), "not those of the inputs that it had"),
    "an input that is true": (channels.RESULT, _in_first(i=True), "no result"),
    "a second result": (
        channels.RESULT,
        _results(lambda results: results + results[:1]),
        "a second result of input",
    ),
    "an error that is a list": (channels.RESULT, _in_first(error=[]), "error: no text"),
    "a class below 0": (channels.RESULT, _in_first(top=[[-1, 1.0]]), "neither an answer"),
    "a class of 100 bits": (channels.RESULT, _in_first(top=[[1 << 100, 1.0]]), "neither an answer"),
    "a value of 100 bits": (channels.RESULT, _as_output(values=[1 << 100]), "more than 64 bits"),
    "a score that is text": (channels.RESULT, _in_first(top=[[1, "high"]]), "neither an answer"),
    "nothing": (channels.RESULT, _in_first(top=None), "neither an answer that fits its form nor an error"),
    "more than all clipped": (channels.RESULT, _in_first(clipped=1.5), "clipped: no share"),
    "a shape that is text": (channels.RESULT, _as_output(shape="1"), "shape: no shape"),
    "a key of its own": (channels.RESULT, _as_output(run="me"), "no output tensor"),
    "values and a file": (channels.RESULT, _as_output(file="a"), "either values or a file"),
    "a file of the head": (
        channels.RESULT,
        _as_output(values="none", file="../../etc/passwd", dtype="i1"),
        "not the file",
    ),
}


def test_a_rank_that_does_not_come_on_is_not_waited_for(
    job: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(deadlines, "SECONDS", 0.5)
    monkeypatch.setattr(deadlines, "FIRST_SECONDS", 0.5)
    released = threading.Event()

    class Slow(Channel):
        """Of ranks of which one keeps its first results until the other has done everything."""

        def send(self, rank: int, tag: int, body: Any = None) -> None:
            if self.rank == 2 and tag == channels.RESULT:
                released.wait(60)
            super().send(rank, tag, body)

        def poll(self) -> Message | None:
            message = super().poll()
            if self.rank == 1 and message is not None and message.tag == channels.STOP:
                released.set()
            return message

    progress = run(job, 2, kind=Slow)
    assert answers(job) == expected(job)
    said = capsys.readouterr().err
    assert f"rank 2 ({socket.gethostname()} CPU) is left out: {socket.gethostname()} has not come on with its" in said
    assert [(rank.state, rank.images) for rank in progress.ranks] == [("ready", INPUTS), ("ready", 0)]


@pytest.mark.parametrize("lie", LIES)
def test_a_rank_that_lies_fails_alone(job: Path, lie: str) -> None:
    kind, told, why = LIES[lie]

    class Liar(Channel):
        """Of ranks the second of which lies."""

        def send(self, rank: int, tag: int, body: Any = None) -> None:
            if self.rank == 2 and tag == kind:
                body = told(json.loads(json.dumps(body, default=vars)))
                if isinstance(body, bytes):
                    self._inboxes[rank].put(channels.read(self.rank, tag, body))
                    return
            super().send(rank, tag, body)

    progress = run(job, 2, kind=Liar)
    assert answers(job) == expected(job)
    delivered = [result["i"] for line in files.read_lines(str(job / job_names.JOURNAL)) for result in line["results"]]
    assert sorted(delivered) == list(range(INPUTS))
    honest, liar = progress.ranks
    assert (honest.state, honest.error, honest.images) == ("ready", None, INPUTS)
    assert (liar.state, liar.images) == ("failed", 0)
    assert re.search(why, str(liar.error)) and str(liar.error).startswith(f"{socket.gethostname()} sends what no rank")
    assert len(str(liar.error)) < 3000


def test_a_message_that_is_not_its_turn_costs_the_rank_that_sends_it(job: Path) -> None:
    class Again(Channel):
        """Of ranks the second of which is ready twice, and goes on after it has failed."""

        def send(self, rank: int, tag: int, body: Any = None) -> None:
            super().send(rank, tag, body)
            if self.rank == 2 and tag == channels.READY:
                super().send(rank, tag, body)

    progress = run(job, 2, kind=Again)
    assert answers(job) == expected(job)
    assert [rank.state for rank in progress.ranks] == ["ready", "failed"]
    assert "a message with the tag 1, which was not its turn" in str(progress.ranks[1].error)


def test_long_texts_of_a_rank_are_cut_or_its_result_is_an_error() -> None:
    given = [
        {"i": 0, "error": "x" * 9999},
        {"i": 1, "outputs": [{"name": "y", "shape": [1], "values": ["x" * (reports.MOST_RESULT_TEXT + 1)]}]},
    ]
    first, second = reports.results(channels.text(given), [0, 1], "outputs-1")
    assert first == {"i": 0, "error": "x" * reports.MOST_REASON}
    assert "more than 1048576 characters of text" in second["error"]
    assert reports.failure({"error": "x" * 9999}).error == "x" * reports.MOST_REASON


def test_what_honest_ranks_send_is_kept_as_it_is() -> None:
    outputs = [
        {"name": "y", "shape": [2], "values": [0.5, None]},
        {
            "name": "z",
            "shape": [1, 2000],
            "file": "outputs-1/000007-1.npy",
            "dtype": "int8",
            "scale": 0.1,
            "zero_point": 3,
        },
    ]
    given = [{"i": 7, "outputs": outputs, "clipped": 0.25}, {"i": 8, "top": [[3, None], [0, 0.5]]}]
    assert reports.results(channels.text(given), [8, 7], "outputs-1") == given


def test_when_no_rank_can_work_the_attempt_ends_and_says_why(job: Path) -> None:
    progress = run(job, 2, host="elsewhere")
    assert journal.done(str(job), INPUTS) == set()
    assert {rank.state for rank in progress.ranks} == {"failed"}
    assert "was to run on elsewhere but runs on" in str(progress.ranks[0].error)


def test_another_model_than_the_deployed_one_is_refused(job: Path) -> None:
    write_spec(job, "0" * 64)
    progress = run(job, 1)
    assert "has sha256 46c54de6" in str(progress.ranks[0].error)


def test_the_tpu_is_found_by_its_slot_whatever_its_number(tmp_path: Path) -> None:
    for name, address in (("apex_0", "0000:05:00.0"), ("apex_1", "0000:01:00.0")):
        folder = tmp_path / "sys/class/apex" / name
        folder.mkdir(parents=True)
        (folder / "pci_address").write_text(address + "\n")
    assert device_path("0000:01:00.0", str(tmp_path)) == "/dev/apex_1"
    with pytest.raises(TpuError, match=r"no Edge TPU with the PCI address 0000:09:00.0 \(of 2 here\)"):
        device_path("0000:09:00.0", str(tmp_path))


def test_libedgetpu_counts_in_an_order_of_its_own() -> None:
    listed = [Device("usb", "/sys/bus/usb/devices/1-1"), Device("pci", "/dev/apex_1"), Device("pci", "/dev/apex_0")]
    assert device_option("/dev/apex_0", listed) == "pci:1"
    assert device_option("/dev/apex_1", listed) == "pci:0"
    with pytest.raises(TpuError, match="does not list /dev/apex_2"):
        device_option("/dev/apex_2", listed)
    with pytest.raises(TpuError, match="sees no Edge TPU"):
        device_option("/dev/apex_0", listed[:1])


def test_a_missing_library_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusteradm.node.edgetpu.library.NAME", "libedgetpu-that-is-not-there.so.1")
    with pytest.raises(TpuError, match="the Edge TPU library is not installed here"):
        Library()
