"""The command bench: its options, what it asks hosts before and after, what is said on Ctrl-C."""

from __future__ import annotations

import json
from pathlib import Path

import bench_jobs
import pytest
from bench_jobs import A, B, FakeJobs

from clusteradm.cli import bench as command
from clusteradm.cli.main import main
from clusteradm.jobs.plan import Plan
from clusteradm.jobs.slots import Slots
from clusteradm.models.repository import Repository
from clusteradm.node.spec.wire.job import Slot
from clusteradm.node.spec.wire.manifest import Manifest
from clusteradm.testing import FakeHosts

from .conftest import Run, document


@pytest.fixture
def head(hosts: FakeHosts, monkeypatch: pytest.MonkeyPatch) -> FakeJobs:
    """A head whose jobs end at once, with a TPU on w1 and w2."""
    fake = FakeJobs(lambda ranks: 1.0 if ranks == 1 else 0.95)
    slots = Slots((Slot("w1", (A,)), Slot("w2", (A,))), (), ("w3 is left out: UNREACHABLE: no answer",))
    plan = Plan(bench_jobs.MODEL, slots, None)
    manifest = Manifest(1, "m", "0", 1, None, None, (), (), 1, {}, None, None, 0, 0, "")
    monkeypatch.setattr(command, "Jobs", lambda *_: fake)
    monkeypatch.setattr(Plan, "make", classmethod(lambda cls, *_, **__: plan))
    monkeypatch.setattr(Repository, "find", lambda *_: (None, manifest))
    return fake


@pytest.fixture
def jobs(head: FakeJobs, hosts: FakeHosts) -> FakeJobs:
    """The same; its hosts are asked for their state."""
    device = {"pci_address": A, "name": "apex_0", "temp": "51250", "status": "ALIVE"}
    for name, load in (("w1", 3.0), ("w2", 0.1)):
        probed = {
            "system": {"load": load, "processors": 4, "model": "Freescale i.MX8MQ Phanbell"},
            "tpu": {"pci": [{"address": A, "vendor": "0x1ac1", "device": "0x089a"}], "apex": [device]},
        }
        hosts[name].answer_always("probe", {"document": probed})
    return head


def test_everything_is_measured(jobs: FakeJobs, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "bench.html"
    found = document(run("bench", "--model", "mobilenet_v2", "--runs", "2", "--json", "--report", str(report)))
    assert [(step["tpus"], step["speed_up"]) for step in found["steps"]] == [(1, 1.0), (2, 1.9)]
    assert [(tpu["host"], tpu["published"], tpu["celsius"]) for tpu in found["tpus"]] == [
        ("w1", 2.6, [51.25, 51.25]),
        ("w2", 2.6, [51.25, 51.25]),
    ]
    assert found["inputs"]["made"] is True and found["report"] == str(report) and "1.90" in report.read_text()
    assert any(note.startswith("w1 was loaded before the first run (0.8") for note in found["notes"])
    # A short run first; then each kind of run in turn. 10 s of one TPU: 3,846 inputs of 2.6 ms.
    assert jobs.inputs[0] == 128 and set(jobs.inputs[1:]) == {3846} and len(jobs.inputs) == 1 + 2 * 3
    assert [plan.most for plan in jobs.submitted] == [None, None, 1, 2, None, 1, 2]
    assert len([call for call in jobs.calls if call.startswith("remove")]) == 7


def test_pipelines(
    jobs: FakeJobs, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slots = Slots((Slot("w1", (A, B)), Slot("w2", (A, B))), (), ())
    asked = []

    def make(_: object, *words: object, pipeline: int | None, **more: object) -> Plan:
        asked.append(pipeline)
        return Plan(bench_jobs.CUT, slots, None)

    monkeypatch.setattr(Plan, "make", classmethod(make))
    report = tmp_path / "bench.html"
    words = ("bench", "--model", "m", "--pipeline", "2", "--runs", "2", "--report", str(report))
    found = document(run(*words, "--json"))
    assert [(step["tpus"], step["pipelines"], step["speed_up"], step["by_whole"]) for step in found["steps"]] == [
        (2, 1, 1.0, 0.5),
        (4, 2, pytest.approx(1.9, abs=0.01), pytest.approx(0.95, abs=0.01)),
    ]
    assert found["whole_images_per_second"] == pytest.approx(1 / 0.0026, rel=1e-3) and found["tpus"] == []
    assert (found["pipeline"]["bottleneck"], asked) == (1, [2])
    # A short run first, of one pipeline; 10 s of one are 1,923 inputs.
    assert jobs.inputs[0] == 64 and set(jobs.inputs[1:]) == {1923}
    assert [plan.most for plan in jobs.submitted] == [2, 1, 2, 4, 1, 2, 4]
    capsys.readouterr()
    assert main([*words]) == 0
    shown = capsys.readouterr()
    rows = [row.split() for row in shown.out.splitlines()]
    assert ["2", "4", "1.90", "95", "%", "0.95"] in [[*row[:2], *row[3:7]] for row in rows]
    assert "by whole: against one TPU with the whole model: 384.6 images/s" in shown.out
    assert "stage 1 is the bottleneck: 5.20 ms an input" in shown.out
    said = " ".join(shown.err.split())
    assert "run 1 of 6: 1 TPU with the whole model" in said and "run 6 of 6: 2 pipelines of 2 TPUs" in said
    page = report.read_text()
    assert "times the speed of one pipeline" in page and "Each TPU, alone" not in page
    assert "Stages, in one pipeline" in page and "bottleneck" in page


def test_inputs_that_are_given(jobs: FakeJobs, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    out = run("bench", "--model", "m", "--tpus", "2", "--runs", "1", str(tmp_path / "a.png"))
    assert "1 input, 0.0 MiB" in out and "made for" not in out and jobs.inputs == [1, 1, 1]
    assert [plan.most for plan in jobs.submitted] == [None, 1, 2], "one TPU is always measured"


def test_what_is_said_meanwhile(jobs: FakeJobs, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--model", "m", "--images", "40", "--runs", "1"]) == 0
    shown = capsys.readouterr()
    said = " ".join(shown.err.split())
    assert "warning: w3 is left out: UNREACHABLE: no answer" in said
    assert "run 1 of 3: each TPU alone on its host, 2 TPUs" in said and "run 3 of 3: 2 TPUs" in said
    assert "after 2.00 s of start-up" in said and "short run first" not in said and set(jobs.inputs) == {40}
    assert "speed-up" in shown.out and "1.90" in shown.out


def test_a_page_that_cannot_be_written_costs_no_figures(
    jobs: FakeJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("clusteradm.atomic.write", full)
    words = ["bench", "--model", "m", "--images", "40", "--runs", "1", "--report", str(tmp_path / "b.html")]
    assert main(words) == 2
    shown = capsys.readouterr()
    assert "1.90" in shown.out and "No space left on device" in shown.err


def test_ctrl_c(jobs: FakeJobs, capsys: pytest.CaptureFixture[str]) -> None:
    jobs.interrupt = 6
    assert main(["bench", "--model", "m", "--images", "40", "--runs", "2"]) == 130
    shown = capsys.readouterr()
    assert jobs.calls[-2:] == ["cancel J6", "remove J6"] and shown.out == ""
    assert "measured so far:" in shown.err and "1.90" in shown.err
    jobs.interrupt = 7
    assert main(["bench", "--model", "m", "--images", "40", "--json"]) == 130
    assert "measured so far" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "m", "--tpus", "0"], "'0' is not a list of whole numbers"),
        (["--model", "m", "--tpus", "1,x"], "'1,x' is not a list of whole numbers"),
        (["--model", "m", "--runs", "0"], "'0' is not a whole number from 1 on"),
        (["--model", "m", "--tpus", "3"], "--tpus 3: only 2 are healthy and free"),
        (["--model", "m", "--images", "5", "here"], "--images makes inputs, and INPUTS are given"),
        (["--model", "m", "nowhere.png"], "no file or folder nowhere.png here"),
        (["--model", "a b"], "cannot be a model's name"),
        (["--model", "m", "--report", "/nowhere/r.html"], "name a file, for the report"),
        ([], "--model"),
    ],
)
def test_what_cannot_be(words: list[str], said: str, head: FakeJobs, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(["bench", *words])
    except SystemExit as end:
        status = int(str(end.code))
    assert status == 2 and said in " ".join(capsys.readouterr().err.split())
    assert head.submitted == []


def test_json_is_one_document(jobs: FakeJobs, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--model", "m", "--images", "40", "--runs", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["command"] == "bench"
