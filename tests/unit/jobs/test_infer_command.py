"""clusteradm infer: what becomes of the results, and the exit status, by a head of this machine."""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from clusteradm.cli import context, infer_output, job_report
from clusteradm.cli import infer as command
from clusteradm.cli.main import main
from clusteradm.errors import UsageError
from clusteradm.jobs import Jobs, LocalInputs, Results, resolve
from clusteradm.node.spec.wire.job import InputForm, ModelFile, Status

MODEL = ModelFile("m", 1, __file__, "0", InputForm("uint8", (1, 2, 2, 1)))
GOOD = {"input": "0.png", "index": 0, "top": [{"class": 3, "score": 0.5}]}


def bad(number: int) -> dict[str, Any]:
    return {"input": f"{number}.png", "index": number, "error": f"not a picture that can be read: {number}"}


@pytest.fixture
def attach(place: Any, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that follows a complete job with these results: `clusteradm infer --attach JOB WORDS`."""
    monkeypatch.setattr(context, "open_cluster", lambda args: place.cluster)
    monkeypatch.setattr(context, "connect", lambda args, cluster: place)

    def run(results: Any, *words: str) -> int:
        job, _ = place.submit(resolve([str(pictures)]))
        results = [results(job)] if callable(results) else results
        text = "".join(json.dumps(result) + "\n" for result in results)
        (place.folder(job) / "results.jsonl").write_text(text)
        errors = sum("error" in result for result in results)
        status = replace(Status("complete", MODEL, 5, 5, 1.0), images=len(results), errors=errors)
        (place.own(job) / "run" / "status.json").write_text(json.dumps(vars(status), default=vars))
        return main(["infer", "--attach", job, *words])

    return run


def test_a_result_for_every_input_is_success(attach: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert attach([GOOD]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == GOOD
    assert "failed" not in shown.err


def test_failed_inputs_are_said_in_one_line_and_by_the_exit_status(
    attach: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert attach([GOOD, bad(1)]) == 3
    shown = capsys.readouterr()
    assert "1 of 2 inputs failed: 1.png: not a picture that can be read: 1" in " ".join(shown.err.split())
    assert [json.loads(line)["index"] for line in shown.out.splitlines()] == [0, 1]
    assert attach([bad(number) for number in range(5)]) == 3
    assert "5 of 5 inputs failed: 0.png: " in " ".join((said := capsys.readouterr().err).split())
    assert "; and 2 more" in " ".join(said.split())


def test_json_has_the_results_that_go_nowhere_else(
    attach: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert attach([GOOD, bad(1)], "--json") == 3
    document = json.loads(capsys.readouterr().out)
    assert (document["images"], document["errors"], document["output"]) == (2, 1, None)
    assert document["results"] == [GOOD, bad(1)]
    assert attach([GOOD], "--json", "--output", str(tmp_path / "r.jsonl")) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["results"], document["output"]) == (None, str(tmp_path / "r.jsonl"))
    assert json.loads((tmp_path / "r.jsonl").read_text()) == GOOD


def test_a_name_that_is_not_utf_8_is_in_the_results_as_ascii(attach: Any, capsys: pytest.CaptureFixture[str]) -> None:
    named = {**GOOD, "input": "caf\\udce9.png"}
    assert attach([named], "--json") == 0
    assert json.loads(capsys.readouterr().out)["results"] == [named]


def test_results_in_another_format(attach: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert attach([GOOD, bad(1)], "--format", "csv") == 3
    assert capsys.readouterr().out.splitlines() == [
        "input,index,error,class,label,score",
        "0.png,0,,3,,0.5",
        "1.png,1,not a picture that can be read: 1,,,",
    ]
    assert attach([GOOD], "--format", "npy", "--output", str(tmp_path / "r.npy")) == 0
    assert np.load(tmp_path / "r.npy")["class"].tolist() == [3]
    assert attach([GOOD], "--format", "csv", "--output", str(tmp_path / "r.csv"), "--json") == 0
    assert (tmp_path / "r.csv").read_text().count("\n") == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "npy"], "--format npy is written to a file"),
        (["--format", "csv", "--json"], "--format csv is written to a file"),
        (["--annotate", "a"], "--annotate takes a new job's inputs"),
        (["--similar", "a"], "--similar takes a new job's inputs"),
    ],
)
def test_what_cannot_be_made_of_results_ends_before_the_work(
    attach: Any, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert attach([GOOD], *words) == 2
    shown = capsys.readouterr()
    assert said in " ".join(shown.err.split()) and shown.out == ""


def test_results_that_cannot_be_written_here_are_still_on_the_head(
    attach: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert attach([GOOD], "--output", "/dev/full") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "/dev/full: cannot write it: No space left on device they are on the head: clusteradm job results" in said
    assert attach([GOOD], "--output", str(tmp_path / ("x" * 300))) == 2
    assert "File name too long name a file, for the results" in " ".join(capsys.readouterr().err.split())
    assert attach([GOOD], "--output", str(tmp_path / ("x" * 250))) == 0
    assert json.loads((tmp_path / ("x" * 250)).read_text()) == GOOD


def test_results_for_which_there_is_no_room_here_are_fetched_again(
    attach: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Jobs, job: str, name: str, into: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Jobs, "fetch", full)
    assert attach([GOOD], "--format", "csv", "--output", str(tmp_path / "r.csv")) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "cannot store results.jsonl of job" in said and "which is on the head: No space left on device" in said
    assert re.search(r"set TMPDIR to a folder of a larger disk; then: clusteradm job results \S+ .*--format csv", said)
    monkeypatch.setattr(Jobs, "fetch", lambda self, job, name, into: raise_interrupt())
    assert attach([GOOD]) == 130
    assert "results.jsonl of job" in capsys.readouterr().err


def raise_interrupt() -> None:
    raise KeyboardInterrupt


def test_a_device_is_written_to_and_nothing_is_put_beside_it(
    attach: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    tensor = {"name": "x", "file": "outputs-20260101-000000-abcdef/000000-0.npy"}
    raw = {"input": "0.png", "index": 0, "outputs": [tensor]}

    def of(job: str) -> dict[str, Any]:
        return {**raw, "outputs": [{**tensor, "file": f"outputs-{job}/000000-0.npy"}]}

    assert attach(of, "--output", str(pipe)) == 0
    assert json.loads(os.read(reading, 65536))["input"] == "0.png"
    os.close(reading)
    assert "1 output tensors are on the head" in " ".join(capsys.readouterr().err.split())
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("outputs-")]


def test_a_line_that_is_damaged_is_said_after_those_before_it(attach: Any, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {"input": "1.png", "index": 1, "top": [{"class": "x", "score": 0.5}]}
    assert attach([GOOD, wrong], "--format", "csv") == 3
    shown = capsys.readouterr()
    assert shown.out.splitlines()[1:] == ["0.png,0,,3,,0.5"] and "line 2 of the results" in shown.err


def test_a_report_of_the_job(attach: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.html"
    assert attach([GOOD, bad(1)], "--report", str(report)) == 3
    assert f"the report is in {report}" in " ".join(capsys.readouterr().err.split())
    text = report.read_text()
    assert "not a picture that can be read: 1" in text and "not at hand" in text and "Nothing was recorded" in text
    assert attach([GOOD], "--report", str(tmp_path / "nowhere" / "report.html")) == 2
    assert "name a file, for the report" in " ".join(capsys.readouterr().err.split())
    assert attach([GOOD], "--report", "-") == 2
    assert "--report is a page, and written to a file" in capsys.readouterr().err
    assert attach([GOOD], "--report", "/dev/full") == 2
    assert re.search(r"can be had again: clusteradm job show \S+ .*--report FILE", capsys.readouterr().err)
    assert attach([GOOD], "--report", str(report), "--output", str(tmp_path / "." / "report.html")) == 2
    assert "--output and --report are the same file" in " ".join(capsys.readouterr().err.split())


def test_the_pictures_of_a_report(place: Any, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, _ = place.submit(resolve([str(pictures)]))
    place.complete(job)
    Image.new("RGB", (40, 20)).save(tmp_path / "0.png")
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    args = parser.parse_args(["--report", str(tmp_path / "r.html"), str(tmp_path / "0.png")])
    asked, _ = infer_output.wanted(args, resolve([str(tmp_path / "0.png")]))
    line = {**GOOD, "input": str(tmp_path / "0.png"), "size": [40, 20]}
    results = Results(job, "head", io.BytesIO(json.dumps(line).encode() + b"\n"))
    found = job_report.gather(args, asked, place.jobs, results)
    assert found is not None and [picture.caption for picture in found.pictures] == ["class 3 0.50"]

    def missing(*_: object) -> None:
        raise UsageError("a report with pictures needs Python packages that are not here: PIL")

    monkeypatch.setattr("clusteradm.extras.require", missing)
    found = job_report.gather(args, asked, place.jobs, results)
    assert found is not None and not found.pictures and "not here: PIL" in found.no_pictures


def test_pictures_are_drawn_and_inputs_ranked(place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (40, 20)).save(tmp_path / "photos" / f"{name}.png")
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    args = parser.parse_args(["--annotate", "out/drawn", "--similar", "photos/b.png", "photos"])
    asked, inputs = infer_output.wanted(args, resolve(args.inputs))
    assert isinstance(inputs, LocalInputs) and asked.query == "b.png"
    text = "".join(
        json.dumps({"input": name, "index": n, "size": [40, 20], "objects": [], "embedding": [n, 1]}) + "\n"
        for n, name in enumerate(("a.png", "b.png"))
    )
    results = Results("20260101-000000-abcdef", "head", io.BytesIO(text.encode()))
    infer_output.draw(args, asked, place.jobs, results)
    assert sorted(path.name for path in (tmp_path / "out" / "drawn").iterdir()) == ["000000-a.jpg", "000001-b.jpg"]
    shown = io.StringIO()
    infer_output.print_ranking(infer_output.ranking(asked, results), Console(file=shown))
    assert ["0.7071", "a.png"] in [line.split() for line in shown.getvalue().splitlines()]
    for task, said in (("detector", "--similar compares embeddings"), ("embedding", "--annotate draws")):
        with pytest.raises(UsageError, match=said):
            asked.check(task)
