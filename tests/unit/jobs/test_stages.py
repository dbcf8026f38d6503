"""Pipelines on the admin side: the segments of a version, slots, what the stages took, and what is said of it."""

from __future__ import annotations

import argparse
import io
from dataclasses import replace
from typing import Any

import pytest

from clusteradm.cli import show, stages_view
from clusteradm.cli.job_page import JobPage, html
from clusteradm.cli.main import main
from clusteradm.errors import UsageError
from clusteradm.jobs import Plan, build, pipelines
from clusteradm.jobs.slots import Slots
from clusteradm.models.repository import Stored
from clusteradm.node.spec.wire.job import Attempt, InputForm, ModelFile, RankProgress, Slot, Status
from clusteradm.node.spec.wire.manifest import Manifest, Segment, Tensor
from clusteradm.node.spec.wire.pipeline import Pipeline, SegmentFile

STORED = Stored("m", 3, "/srv/cluster/models/m/3", "unchanged")
ONE, TWO = Tensor("i", (1, 8), "uint8"), Tensor("o", (1, 8), "uint8")


def manifest(count: int = 2, tpu: int = 1, whole: int = 0) -> Manifest:
    segment = Segment("1", 9, (ONE,), (TWO,), tpu, 0, 0)
    about = Manifest(1, "m", "0", 9, None, None, (ONE,), (TWO,), whole, {}, None, None, 0, 0, "")
    return replace(about, segments=(segment,) * count)


def find(about: Manifest, count: int, cpu: bool = False) -> Pipeline:
    return pipelines.find(STORED, about, count, cpu=cpu, head="head")


def test_the_segments_are_files_of_the_version() -> None:
    found = find(manifest(3), 3)
    assert [one.path for one in found.stages] == [f"/srv/cluster/models/m/3/segment_{n}_of_3.tflite" for n in range(3)]
    assert (found.outputs, found.compiled) == ((TWO,), False)
    assert find(manifest(3, whole=1), 3).compiled


@pytest.mark.parametrize(
    ("about", "count", "cpu", "what", "next_step"),
    [
        (manifest(), 1, False, "2 to 64 stages", "leave --pipeline out"),
        (manifest(), 65, False, "2 to 64 stages", "leave --pipeline out"),
        # From what is on the head, where that can be split ...
        (
            manifest(0),
            3,
            False,
            "--pipeline 3: m version 3 holds no segments",
            "to split it into 3:\n  clusteradm pull --limit head /srv/cluster/models/m/3/model.tflite .\n"
            "  clusteradm model split head/model.tflite --segments 3\n",
        ),
        # ... else from what only its owner has.
        (
            manifest(2, whole=1),
            3,
            False,
            "m version 3 is split into 2 segments",
            "--pipeline 2 runs those; to split it into 3:\n  clusteradm model split m.tflite --segments 3\n",
        ),
        (manifest(tpu=0), 2, False, "were not compiled", "--cpu"),
        (manifest(), 2, True, "a CPU cannot run", "before they were compiled"),
    ],
)
def test_what_cannot_be_a_pipeline_is_refused_with_what_helps(
    about: Manifest, count: int, cpu: bool, what: str, next_step: str
) -> None:
    with pytest.raises(UsageError) as refused:
        find(about, count, cpu)
    assert what in refused.value.what
    assert next_step in (refused.value.next_step or "")


def plan(counts: tuple[int, ...], most: int | None = None, stages: int = 2, cpu: bool = False) -> Plan:
    segment = SegmentFile("", "", (ONE,), (TWO,))
    model = ModelFile("m", 3, "/p", "0", InputForm("uint8", (1, 8)), pipeline=Pipeline((segment,) * stages, (TWO,)))
    every = tuple(Slot(f"w{n}", tuple(f"{n}:{t}" for t in range(count))) for n, count in enumerate(counts))
    return Plan(model, Slots(every, (), (), cpu), most)


def test_what_is_left_over_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    five = plan((2, 2, 1))
    five.check()
    assert (five.ranks, five.left_over) == (4, ("w2 2:0",))
    stages_view.say(five)
    stages_view.say(plan((2, 2)))
    stages_view.say(plan((2, 2, 1), most=5))
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "2 pipelines of 2 TPUs",
        "1 TPU is left over, as 5 is no multiple of 2: w2 2:0",
        "2 pipelines of 2 TPUs",
        "2 pipelines of 2 TPUs",
        "4 ranks, as 5 is no multiple of 2",
    ]


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (plan((1,)), "--pipeline 2: only 1 TPU is healthy and free"),
        (plan((1, 1), stages=3), "--pipeline 3: only 2 TPUs are healthy and free"),
        (plan((1, 1), stages=3, cpu=True), "--pipeline 3: only 2 hosts are healthy and free"),
        (plan((2, 2), most=1), "--ranks 1: a pipeline of 2 stages takes 2 TPUs"),
    ],
)
def test_too_few_tpus_are_no_pipeline(given: Plan, what: str) -> None:
    with pytest.raises(UsageError) as refused:
        given.check()
    assert what in refused.value.what


@pytest.mark.parametrize("value", ["1", "0", "65", "two", "-2", "2.5"])
def test_a_number_of_stages_that_is_none_is_said_at_once(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["infer", "--model", "m", f"--pipeline={value}", "photos/"])
    assert ended.value.code == 2
    assert f"{value!r} is no number of stages, from 2 to 64" in capsys.readouterr().err


def rank(number: int, pipeline: int, stage: int, images: int, busy: float, **more: Any) -> RankProgress:
    made = RankProgress(number, f"w{number}", "0000:01:00.0", images, 10.0, busy, 0.0, 0.5, state="ready")
    return replace(made, pipeline=pipeline, stage=stage, **more)


def status(*attempts: tuple[RankProgress, ...]) -> Status:
    made = tuple(
        Attempt(number, 0.0, (), 100.0 * number, 100.0 * number + 10.0, ranks, 0)
        for number, ranks in enumerate(attempts, 1)
    )
    images = sum(one.images for ranks in attempts for one in ranks)
    return Status("complete", plan((2,)).model, 5, images, 1.0, made, images)


def test_the_slowest_stage_is_named_with_the_commands_that_split_the_model_anew() -> None:
    first = (rank(1, 0, 0, 0, 3.0), rank(2, 0, 1, 1000, 6.0), rank(3, 1, 0, 0, 3.0), rank(4, 1, 1, 1000, 6.0))
    second = (rank(1, 0, 0, 0, 1.5), rank(2, 0, 1, 500, 3.0))
    report = build("J", status(first, second), None)
    assert [(one.stage, one.ranks, one.images, one.milliseconds, one.utilisation) for one in report.stages] == [
        (0, 1, 2500, 3.0, 0.25),
        (1, 1, 2500, 6.0, 0.5),
    ]
    assert [one.bottleneck for one in report.stages] == [False, True]
    assert report.balance is not None and report.balance.share == 0.75
    # All stages of a pipeline have had its images; they are counted once.
    assert [(one.images, one.share) for one in report.ranks] == [(1500, 0.6), (1500, 0.6), (1000, 0.4), (1000, 0.4)]
    document = report.to_json()
    assert document["pipeline"]["bottleneck"] == 1 and document["pipeline"]["share"] == 0.75
    assert [(one["pipeline"], one["stage"]) for one in document["ranks"]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    text = printed(report)
    assert (
        "stage 1 is the bottleneck: 6.00 ms an input, so a pipeline gives at most 167 images/s, and evenly split 222"
        in text
    )
    assert "clusteradm model split head/p --segments 2 --balance latency --host w2\n" in text


def test_even_stages_need_no_advice_and_a_lost_one_counts_for_no_idleness() -> None:
    ranks = (
        rank(1, 0, 0, 0, 9.0),
        rank(2, 0, 1, 1000, 9.5),
        rank(3, 1, 0, 0, 1.0, state="failed", error="gone", fault="partner"),
        rank(4, 1, 1, 100, 1.0, state="failed", error="gone", fault="silent"),
    )
    report = build("J", status(ranks), None)
    assert [one.utilisation for one in report.stages] == [0.9, 0.95]
    text = printed(report)
    assert "stage 1 is the bottleneck" in text and "the others take about as long" in text
    assert "model split" not in text


def test_a_job_without_pipelines_has_no_stages() -> None:
    made = RankProgress(1, "w1", None, 10, 1.0, 1.0)
    report = build("J", status((made,)), None)
    assert (report.stages, report.balance, report.to_json()["pipeline"]) == ((), None, None)
    assert printed(report) == ""
    assert report.to_json()["ranks"][0]["stage"] is None


def test_pipelines_that_have_done_nothing_are_no_division_by_zero() -> None:
    report = build("J", status((rank(1, 0, 0, 0, 0.0), rank(2, 0, 1, 0, 0.0))), None)
    assert (report.balance, [one.milliseconds for one in report.stages]) == (None, [0.0, 0.0])
    assert not any(one.bottleneck for one in report.stages)
    assert "bottleneck" not in printed(report)


def printed(report: Any) -> str:
    into = io.StringIO()
    console = show.Output(width=200)
    console.file = into
    stages_view.print_stages(report, "head", argparse.Namespace(inventory=None), console)
    return into.getvalue()


def test_the_page_of_a_job_has_a_row_for_each_stage() -> None:
    given = status((rank(1, 0, 0, 0, 3.0), rank(2, 0, 1, 1000, 6.0)))
    page = html(JobPage("lab", build("J", given, None), given, None))
    table = page.partition('id="stages"')[2].partition("</table>")[0]
    assert table.count("<tr><td") == 2
    assert "6.00" in table and table.count("bottleneck") == 1
    assert "stage 1 is the bottleneck: 6.00 ms" in page
    alone = status((RankProgress(1, "w1", None, 10, 1.0, 1.0),))
    assert 'id="stages"' not in html(JobPage("lab", build("J", alone, None), alone, None))
