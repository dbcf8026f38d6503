"""Accuracy and the report: figures from what was measured, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clusteradm.errors import InputErrors, UsageError
from clusteradm.jobs import truth
from clusteradm.jobs.report import build
from clusteradm.node.job.plan import place, render_hostfile
from clusteradm.node.spec.wire.decode import decode
from clusteradm.node.spec.wire.job import Slot, Status
from clusteradm.node.spec.wire.result import Result


def results(*answers: str) -> list[Result]:
    return [
        Result(f"x/{number}.png", number, tuple({"class": number, "label": label} for label in answer))
        for number, answer in enumerate(answers)
    ]


def test_accuracy_counts_first_and_among_the_first() -> None:
    known = {"0.png": "a", "x/1.png": "b", "2.png": "2", "3.png": "d", "9.png": "z"}
    found = [*results("ab", "ab", "qq", "d"), Result("4.png", 4, error="no picture")]
    accuracy = truth.score(found, known, 5)
    assert accuracy is not None
    assert (accuracy.labelled, accuracy.right, accuracy.right_in_top) == (4, 3, 4)
    assert accuracy.to_json() == {
        "labelled": 4,
        "right": 3,
        "top_1": 0.75,
        "right_in_top": 4,
        "top_k": 1.0,
        "k": 5,
    }
    unread = truth.score([Result("4.png", 4, error="no picture")], {"4.png": "a"}, 5)
    assert unread is not None
    assert (unread.labelled, unread.right) == (1, 0)
    assert truth.score(found, {"elsewhere.png": "a"}, 5) is None


def test_a_last_part_that_means_two_labels_counts_for_none() -> None:
    assert truth.score(results("a"), {"p/0.png": "a", "q/0.png": "b"}, 1) is None


@pytest.mark.parametrize(
    "text",
    [
        "input,label\na.png,cat\nb.png,great white shark\n",
        "\ufefflabel , input\ncat,a.png\n\ngreat white shark,b.png\n",
        '{"input": "a.png", "label": "cat"}\n{"label": "great white shark", "input": "b.png"}\n',
    ],
)
def test_truth_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "truth"
    path.write_text(text)
    assert truth.read(path) == {"a.png": "cat", "b.png": "great white shark"}


def test_every_defect_of_a_truth_file_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_text("input,label\na.png\nb.png,1\nb.png,2\n")
    with pytest.raises(InputErrors) as refused:
        truth.read(path)
    assert [problem.line for problem in refused.value.problems] == [2, 4]
    path.write_text("a.png,cat\n")
    with pytest.raises(InputErrors, match=r"truth\.csv:1: the first line"):
        truth.read(path)
    path.write_text('{"input": "a"}\n{]\n')
    with pytest.raises(InputErrors) as refused:
        truth.read(path)
    assert [problem.line for problem in refused.value.problems] == [1, 2]
    path.write_text("input,label\n")
    with pytest.raises(InputErrors, match="no line"):
        truth.read(path)
    with pytest.raises(UsageError, match="cannot read"):
        truth.read(tmp_path / "gone.csv")


def rank(number: int, host: str, images: int, **more: Any) -> dict[str, Any]:
    found = {"rank": number, "host": host, "pci_address": "0000:01:00.0", "images": images, "seconds": images * 0.0026}
    return {**found, "busy": 1.0, "decode": 0.5, "wait": 0.1, "version": "v", "tpu": "/dev/apex_0", **more}


def test_the_report_sums_over_attempts_and_keeps_start_up_apart() -> None:
    status: dict[str, Any] = {
        "state": "complete",
        "model": {"name": "m", "version": 3, "sha256": "ab", "path": "/p", "input": {"dtype": "uint8", "shape": [1]}},
        "started": 100.0,
        "images": 1000,
        "errors": 2,
        "attempts": [
            {"first_dispatch": 102.0, "last_result": 104.0, "ranks": [rank(1, "head", 400), rank(2, "w1", 100)]},
            {"first_dispatch": None, "last_result": None, "ranks": [{"rank": 1, "host": "head", "pci_address": "x"}]},
            {"first_dispatch": 109.0, "last_result": 110.0, "ranks": [rank(1, "head", 500, error="fell off")]},
        ],
    }
    for number, attempt in enumerate(status["attempts"], 1):
        attempt.update(attempt=number, started=100.0, hosts=["head", "w1"])
    report = build("id", decode(Status, status), None)
    assert (report.seconds, report.startup_seconds, report.attempts) == (3.0, 7.0, 3)
    assert report.images_per_second == pytest.approx(1000 / 3)
    # It waited in the queue first, and was cancelled and resumed the next day.
    status["started"] = 10.0
    status["attempts"][2].update(started=90000.0, first_dispatch=90002.0, last_result=90003.0)
    assert build("id", decode(Status, status), None).startup_seconds == 2.0 + 60.0 + 2.0
    head, worker, silent = report.ranks
    assert (head.images, head.share, head.error, head.busy_seconds) == (900, 0.9, "fell off", 2.0)
    assert head.images_per_second == pytest.approx(384.62, abs=0.01)
    assert (worker.host, worker.images, silent.images, silent.images_per_second) == ("w1", 100, 0, 0.0)
    assert report.devices == ("v",)
    document = report.to_json()
    assert document["model"] == {"name": "m", "version": 3, "sha256": "ab"}
    assert document["images_per_second"] == 333.33


SLOTS = [Slot("head", ("a", "b")), Slot("w1", ()), Slot("w2", ("a",))]


def test_ranks_are_placed_as_mpirun_maps_them_by_slot() -> None:
    assert [(one.rank, one.host, one.pci_address) for one in place(SLOTS)] == [
        (1, "head", "a"),
        (2, "head", "b"),
        (3, "w2", "a"),
    ]
    # Fewer ranks than TPUs: every host's first before any host's second.
    assert [(one.rank, one.host) for one in place(SLOTS, 2)] == [(1, "head"), (2, "w2")]
    assert render_hostfile("head", place(SLOTS)) == "head slots=3\nw2 slots=1\n"


def test_a_head_without_a_tpu_still_has_the_slot_of_rank_0() -> None:
    assert render_hostfile("head", place(SLOTS[1:])) == "head slots=1\nw2 slots=1\n"
