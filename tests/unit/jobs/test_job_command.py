"""clusteradm job: its verbs against a head of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clusteradm.cli import context
from clusteradm.cli.main import main
from clusteradm.jobs import resolve

from .conftest import MODEL


@pytest.fixture
def run(place: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(context, "open_cluster", lambda args: place.cluster)
    monkeypatch.setattr(context, "connect", lambda args, cluster: place)
    return lambda *words: main(["job", *words])


def test_the_life_of_a_job(
    run: Any, place: Any, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("list") == 0
    assert "there are no jobs" in capsys.readouterr().err
    job, _ = place.submit(resolve([str(pictures)]))
    place.complete(job)
    (place.folder(job) / "log").write_text("attempt 1: mpirun\n")
    assert run("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [job, "complete", "m", "1", "5", "5", "0"]
    assert run("list", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "job list"
    assert [(one["job"], one["state"], one["model"]) for one in document["jobs"]] == [(job, "complete", "m")]
    assert run("show", job) == 0
    out = capsys.readouterr().out
    assert "state      complete" in out and "slots      w1 (1)" in out and str(place.folder(job)) in out
    assert run("show", job, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["spec"]["inputs"], document["status"]["state"], document["bytes"]) == (5, "complete", 35)
    assert run("logs", job) == 0
    assert capsys.readouterr().out == "attempt 1: mpirun\n"
    line = {"input": "0.png", "index": 0, "top": [{"class": 3, "score": 0.5}]}
    (place.folder(job) / "results.jsonl").write_text(json.dumps(line) + "\n")
    output = tmp_path / "again.jsonl"
    assert run("results", job) == run("results", job, "--output", str(output)) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == json.loads(output.read_text()) == line
    assert str(output) in "".join(shown.err.split())
    assert run("results", job, "--json") == 0
    assert json.loads(capsys.readouterr().out)["results"] == [line]
    assert run("attach", job, "--output", str(output)) == 0
    assert "5 results in" in capsys.readouterr().out
    assert run("remove", job) == 2
    assert f"end it first: clusteradm job cancel {job}" in capsys.readouterr().err
    assert run("cancel", job) == 0
    assert (tmp_path / "systemctl").read_text().splitlines().count(f"stop clusteradm-job-{job}.service") == 1
    (tmp_path / "active").write_text("inactive\n")
    capsys.readouterr()
    # One that is not there is said, and those after it are removed all the same.
    assert run("remove", "20260101-000000-abcdef", "../x", job, job, "--json") == 2
    shown = capsys.readouterr()
    assert json.loads(shown.out)["removed"] == [job]
    assert "there is no job 20260101-000000-abcdef here" in shown.err and "'../x' is no job's id" in shown.err
    assert not place.folder(job).exists()
    assert run("show", job) == 3
    assert f"there is no job {job} here" in capsys.readouterr().err


def test_a_report_of_a_job_that_has_ended(
    run: Any, place: Any, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job, _ = place.submit(resolve([str(pictures)]))
    report = tmp_path / "report.html"
    assert run("show", job, "--report", str(report)) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "it has nothing to report yet" in said and f"job attach {job} --report {report}" in said
    status = {"state": "failed", "model": vars(MODEL), "total": 5, "started": 1.0, "error": "no host is <left>"}
    path = place.own(job) / "run" / "status.json"
    path.write_text(json.dumps(status, default=vars))
    timeline = {"step": 1.0, "seconds": 3.0, "written": 3.5, "counts": {"w1": [2, 3]}}
    (path.parent / "timeline.json").write_text(json.dumps(timeline))
    assert run("show", job, "--report", str(report), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["state"], document["report"], document["images"]) == ("failed", str(report), 0)
    text = report.read_text()
    assert "no host is &lt;left&gt;" in text and text.count("<polygon") == 1
    place.complete(job)
    line = {"input": "0.png", "index": 0, "error": "a reason"}
    (place.folder(job) / "results.jsonl").write_text(json.dumps(line) + "\n")
    assert run("show", job, "--report", str(report)) == 0
    assert "a reason" in report.read_text()


def test_a_queued_job_says_behind_which(
    run: Any, place: Any, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job, _ = place.submit(resolve([str(pictures)]))
    status = {"state": "queued", "total": 5, "ahead": ["20260101-000000-abcdef", "20260101-000001-abcdef"]}
    (place.own(job) / "run" / "status.json").write_text(json.dumps(status))
    assert run("list") == 0
    assert "queued, number 3" in capsys.readouterr().out
    assert run("show", job) == 0
    assert "queued behind 2 jobs: 20260101-000000-abcdef, 20260101-000001-abcdef" in capsys.readouterr().out
    assert run("results", job) == 2
    assert f"job {job} is queued: it has no results yet" in capsys.readouterr().err


def test_what_is_no_job(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "../x") == 2
    assert "clusteradm job list shows them all" in capsys.readouterr().err


def test_the_ranks_of_an_attempt_are_shown(
    run: Any, place: Any, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job, _ = place.submit(resolve([str(pictures)]))
    rank = {"rank": 1, "host": "w1", "pci_address": "0000:01:00.0", "images": 3, "state": "failed", "error": "hot"}
    attempts = [
        {"attempt": 1, "started": 1.0, "hosts": ["w1"], "ranks": [rank], "status": 1},
        {"attempt": 2, "started": 2.0, "hosts": ["w1"]},
    ]
    status = {"state": "running", "total": 5, "attempts": attempts}
    progress = {"attempt": 1, "phase": "running", "total": 5, "done": 3, "errors": 1, "now": 2.0, "ranks": [rank]}
    progress.update(first_dispatch=1.0, last_result=2.0)
    (place.own(job) / "run" / "progress.json").write_text(json.dumps(progress))
    (place.own(job) / "run" / "status.json").write_text(json.dumps(status))
    assert run("show", job) == 0
    out = capsys.readouterr().out
    assert "attempt 1: mpirun ended with status 1" in out and "attempt 2: running" in out
    assert "3 of 5 done, 1 of them with an error" in out
    assert ["1", "w1", "0000:01:00.0", "failed", "3", "hot"] in [line.split() for line in out.splitlines()]
    (place.own(job) / "run" / "status.json").write_text(json.dumps({**status, "state": "cancelled"}))
    assert run("show", job) == 0
    assert "attempt 2: cancelled meanwhile" in capsys.readouterr().out
    # What is printed as the next step is one.
    assert run("results", job) == 2
    assert f"job {job} is cancelled: it has no results yet\n  clusteradm job resume {job}" in capsys.readouterr().err
    assert run("logs", job) == 3
    assert f"job {job} has no file log, or not yet" in capsys.readouterr().err
    assert run("logs", "20260101-000000-abcdef") == 3
    assert "there is no job 20260101-000000-abcdef here" in capsys.readouterr().err
