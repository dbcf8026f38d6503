"""From a rank to results.jsonl: what a worker sends for each task is what rank 0 takes, and the user's result."""

from __future__ import annotations

import hashlib
import io
import json
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import heads
import numpy as np
import pytest
from graphs import picture_model
from PIL import Image

from clusteradm.jobs.results import Results
from clusteradm.node.job import channel as channels
from clusteradm.node.job import journal, pack, reports, worker
from clusteradm.node.job.channel import Message
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.decode import WireError
from clusteradm.node.spec.wire.job import Assignment, InputForm, ModelFile, RankPlace

JOB = "20260101-000000-abcdef"


class Scripted:
    """A rank 0 that gives one chunk and takes its results."""

    def __init__(self, mine: Assignment, chunk: dict[str, Any]) -> None:
        self._next: SimpleQueue[Message] = SimpleQueue()
        self._next.put(channels.read(0, channels.BEGIN, json.dumps(mine, default=vars).encode()))
        self._chunk = chunk
        self.results = "[]"
        self.failed = ""

    def send(self, rank: int, tag: int, body: Any = None) -> None:
        body = json.loads(json.dumps(body, default=vars, allow_nan=False))
        if tag == channels.READY:
            self._next.put(Message(0, channels.CHUNK, self._chunk))
        elif tag in (channels.RESULT, channels.FAILED):
            self.results = body.get("results", "[]")
            self.failed = body.get("error", "")
            self._next.put(Message(0, channels.STOP, None))

    def receive(self) -> Message:
        return self._next.get()


def run(folder: Path, model: bytes, pictures: Sequence[bytes], labels: Sequence[str], **options: Any) -> list[Any]:
    """The lines of results.jsonl for these pictures."""
    shared = folder / JOB
    shared.mkdir()
    (folder / "m.tflite").write_bytes(model)
    entries, at = [], 0
    for number, data in enumerate(pictures):
        pack.append(str(shared / job_names.PACK), io.BytesIO(data))
        entries.append(pack.Entry(f"{number}.png", at, len(data)))
        at += len(data)
    form = InputForm("uint8", (1, 32, 32, 3))
    lines = list(pack.index(str(shared / job_names.PACK), entries, pack.wanted(form)))
    pack.write_index(str(folder / "inputs.jsonl"), iter(lines))
    sha256 = hashlib.sha256(model).hexdigest()
    file = ModelFile("m", 1, str(folder / "m.tflite"), sha256, form, options.get("threshold"), options.get("task"))
    file = replace(file, batch=options.get("batch", 1))
    mine = Assignment(RankPlace(1, socket.gethostname(), None), 1, file, options.get("top", 0), str(shared))
    pieces = [[n, line["offset"], line["size"], line["form"]] for n, line in enumerate(lines)]
    link = Scripted(mine, {"chunk": 0, "size": len(pieces), "inputs": channels.text(pieces)})
    worker.work(link)  # type: ignore[arg-type]
    assert link.failed == ""
    kept = reports.results(link.results, range(len(pictures)), job_names.OUTPUTS % JOB)
    book = journal.Journal(str(shared), 1)
    book.append(1, kept)
    book.close()
    assert journal.done(str(shared), len(pictures)) == set(range(len(pictures)))
    journal.finish(str(shared), str(folder / "inputs.jsonl"), labels)
    with (shared / job_names.RESULTS).open("rb") as file:
        Results(JOB, "head", file).documents()  # which decodes them
    return [json.loads(line) for line in (shared / job_names.RESULTS).read_text().splitlines()]


def png(wide: int, high: int, colour: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (wide, high), (colour,) * 3).save(file, "PNG")
    return file.getvalue()


def test_objects_in_the_pixels_of_each_picture(tmp_path: Path) -> None:
    found = run(tmp_path, heads.ssd(), [png(640, 480), png(64, 64), b"none"], ["person", "dog"], task="detector")
    assert found[0] == {
        "input": "0.png",
        "index": 0,
        "size": [640, 480],
        "objects": [
            {"class": 0, "label": "person", "score": 0.9, "box": [240, 120, 400, 360]},
            {"class": 1, "label": "dog", "score": 0.7, "box": [400, 60, 560, 180]},
        ],
    }
    assert found[1]["objects"][1]["box"] == [40, 8, 56, 24]
    assert "not a picture" in found[2]["error"]


def test_an_embedding(tmp_path: Path) -> None:
    wide = np.linspace(0, 255, 32 * 32 * 3).astype(np.uint8).reshape(32, 32, 3)
    file = io.BytesIO()
    Image.fromarray(wide).save(file, "PNG")
    found = run(tmp_path, picture_model(shape=(1, 32, 32, 3)), [file.getvalue()], [], task="embedding")
    assert found[0]["embedding"] == pytest.approx((wide.reshape(-1) / 255).tolist(), abs=2e-6)
    assert set(found[0]) == {"input", "index", "embedding"}


def test_a_map_is_a_picture_beside_the_results(tmp_path: Path) -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, 16:, 2] = 255  # of red, green and blue, the scores of three classes, blue is the third
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    found = run(tmp_path, heads.colours(), [file.getvalue()], ["red", "green", "blue"], task="segmentation")
    name = found[0]["map"]["file"]
    assert found[0]["size"] == [32, 32] and name == f"{FOLDER}/000000-map.png"
    assert found[0]["segments"] == [
        {"class": 0, "label": "red", "share": 0.5},
        {"class": 2, "label": "blue", "share": 0.5},
    ]
    assert np.asarray(Image.open(tmp_path / JOB / name)).tolist() == [[0] * 16 + [2] * 16] * 32


@pytest.mark.parametrize("batch", [2, 4, 40])
def test_a_model_that_takes_several_inputs_at_once(tmp_path: Path, batch: int) -> None:
    pictures = [png(32, 32, colour) for colour in range(0, 250, 25)]
    pictures[3] = b"none"
    found = run(tmp_path, heads.together(batch), pictures, [], task="embedding", batch=batch)
    for number, line in enumerate(found):
        if number == 3:
            assert "not a picture" in line["error"]
        else:
            assert line["embedding"] == pytest.approx([25 * number / 255] * 3072, abs=2e-6)


def test_a_threshold_for_objects(tmp_path: Path) -> None:
    found = run(tmp_path, heads.ssd(), [png(64, 64)], [], task="detector", threshold=0.8)
    assert [one["score"] for one in found[0]["objects"]] == [0.9]


def test_without_a_task_results_are_what_they_were(tmp_path: Path) -> None:
    found = run(tmp_path, heads.ssd(), [png(64, 64)], [], top=5)
    assert [one["shape"] for one in found[0]["outputs"]] == [[1, 4, 4], [1, 4], [1, 4], [1]]


FOLDER = job_names.OUTPUTS % JOB
MAP = {"name": "m", "shape": [2, 2], "file": f"{FOLDER}/000000-map.png"}
LIES = {
    "a place that is text": {"objects": [[1, 0.5, 0, 0, "1", 1]]},
    "a place of 40 bits": {"objects": [[1, 0.5, 0, 0, 1, 1 << 40]]},
    "an object of 5 numbers": {"objects": [[1, 0.5, 0, 0, 1]]},
    "a class that is true": {"objects": [[True, 0.5, 0, 0, 1, 1]]},
    "a size of one side": {"objects": [], "size": [1]},
    "a size of nothing": {"objects": [], "size": [0, 1]},
    "a share above 1": {"segments": [[1, 1.5]], "map": MAP},
    "a share that is missing": {"segments": [[1, None]], "map": MAP},
    "no map": {"segments": [[1, 1.0]]},
    "a map elsewhere": {"segments": [[1, 1.0]], "map": {**MAP, "file": f"{FOLDER}/../../000000-map.png"}},
    "a map of another input": {"segments": [[1, 1.0]], "map": {**MAP, "file": f"{FOLDER}/000001-map.png"}},
    "a map that is a program": {"segments": [[1, 1.0]], "map": {**MAP, "file": f"{FOLDER}/000000-map.sh"}},
    "a map with more": {"segments": [[1, 1.0]], "map": {**MAP, "run": "me"}},
    "a map without a shape": {"segments": [[1, 1.0]], "map": {**MAP, "shape": [-1]}},
    "a pose of 3 points": {"poses": [[0.5, [[1.0, 1.0, 0.5]] * 3]]},
    "a point that is text": {"poses": [[0.5, [["1", 1.0, 0.5]] * 17]]},
    "an embedding of text": {"embedding": ["a"]},
    "an embedding of lists": {"embedding": [[1.0]]},
    "an embedding without end": {"embedding": [0] * 100_001},
    "two answers": {"embedding": [1.0], "top": []},
}


@pytest.mark.parametrize("lie", LIES)
def test_what_no_rank_sends_is_refused(lie: str) -> None:
    with pytest.raises(WireError):
        reports.results(channels.text([{"i": 0, **LIES[lie]}]), [0], FOLDER)


TRUTHS: dict[str, dict[str, Any]] = {
    "objects": {"objects": [[1, None, -5, 0, 1, 1], [0, 0.5, 0, 0, 1, 1]], "size": [3, 4]},
    "a map": {"segments": [[1, 0.5], [0, 0.5]], "map": MAP, "size": [2, 2]},
    "poses": {"poses": [[0.5, [[1.0, None, 0.5]] * 17]], "size": [2, 2], "clipped": 0.1},
    "an embedding": {"embedding": [0.5, None, 3]},
}


@pytest.mark.parametrize("truth", TRUTHS)
def test_what_ranks_send_is_kept_as_it_is(truth: str) -> None:
    sent = {"i": 0, **TRUTHS[truth]}
    assert reports.results(channels.text([{**sent, "more": 1}]), [0], FOLDER) == [sent]


def test_a_map_whose_file_is_gone_is_made_again(tmp_path: Path) -> None:
    book = journal.Journal(str(tmp_path), 1)
    book.append(1, [{"i": 0, "segments": [[1, 1.0]], "map": MAP}])
    book.close()
    assert journal.done(str(tmp_path), 1) == set()
    (tmp_path / FOLDER).mkdir()
    (tmp_path / MAP["file"]).write_bytes(b"png")
    assert journal.done(str(tmp_path), 1) == {0}


def test_whatever_rank_0_takes_is_read_by_the_one_who_asked_for_it(tmp_path: Path) -> None:
    """A line that is too much for its reader would cost all the others."""
    point = [0.5, 0.5, 0.5]
    whole = {"name": "y", "shape": [1]}
    given = [
        {"top": [[0, 0.5]] * 100_000},
        {"embedding": [0.5] * 100_000},
        {"segments": [[0, 0.5]] * 65_536, "map": {"name": "m", "shape": [1, 1], "file": f"{FOLDER}/000002-map.png"}},
        {"objects": [[0, 0.5, 1, 2, 3, 4]] * 20_000},
        {"poses": [[0.5, [point] * 17]] * 2_000},
        {"outputs": [{**whole, "values": [[0.5]] * 100_000}]},
        {"outputs": [{**whole, "values": [[0.5]] * 1_000_000}]},
        {"outputs": [{**whole, "values": [{"a": {"b": 0.5}}] * 100_000}]},
        {"outputs": [{**whole, "name": "n" * 60_000, "values": 1}]},
    ]
    given = [{"i": number, **each} for number, each in enumerate(given)]
    kept = reports.results(channels.text(given), range(len(given)), FOLDER)
    assert [number for number, each in enumerate(kept) if "error" in each] == [6, 7]
    index = tmp_path / "inputs.jsonl"
    index.write_text("".join(json.dumps({"input": str(n)}) + "\n" for n in range(len(given))))
    (tmp_path / FOLDER).mkdir()
    book = journal.Journal(str(tmp_path), 1)
    book.append(1, kept)
    book.close()
    journal.finish(str(tmp_path), str(index), ["label"])
    with (tmp_path / job_names.RESULTS).open("rb") as file:
        assert [one.index for one in Results(JOB, "head", file).lines()] == list(range(len(given)))
    for more in (
        {"objects": [[0, 0.5, 1, 2, 3, 4]] * 20_001},
        {"poses": [[0.5, [point] * 17]] * 2_001},
        {"embedding": [0.5] * 100_001},
        {"outputs": [{**whole, "name": "n" * 70_000, "values": 1}]},
        {"outputs": [{**whole, "dtype": 7, "values": 1}]},
    ):
        with pytest.raises(WireError):
            reports.results(channels.text([{"i": 0, **more}]), [0], FOLDER)
