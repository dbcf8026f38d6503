"""Tables in a pipe, and on terminals of any width: nothing is cut off, and no line ends in blanks."""

from __future__ import annotations

import io

import pytest

from clusteradm.cli import job_view, show
from clusteradm.cli.playbook_view import View, clock
from clusteradm.cli.show import Output, Table
from clusteradm.jobs.report import JobReport, Rank
from clusteradm.node.spec.wire.job import InputForm, ModelFile
from clusteradm.playbook import PlayStarted, TaskFinished, TaskOutput, TaskStarted

CELLS = ("coral-dev-board-1", "0001:01:00.0", "1,250", "a cause of many words that may be broken")


def table() -> Table:
    made = Table()
    for name in ("host", "TPU", "images"):
        made.add_column(name, no_wrap=True)
    made.add_column("cause", overflow="fold")
    made.add_row(*CELLS)
    made.add_row("w2", "", "7", "x" * 3000)
    return made


def printed(width: int, what: Table) -> list[str]:
    output = Output(width=width)
    output.file = io.StringIO()
    output.print(what)
    return output.file.getvalue().splitlines()


def test_a_row_is_one_line_of_a_pipe() -> None:
    lines = printed(show.PIPED_WIDTH, table())
    assert [line.split()[0] for line in lines] == ["host", "coral-dev-board-1", "w2"]
    assert len(lines[1]) < 100 and all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 200])
def test_nothing_is_cut_off(width: int) -> None:
    lines = printed(width, table())
    joined = " ".join(line.strip() for line in lines)
    assert all(len(line) <= width for line in lines) and "…" not in joined
    assert joined.count("x") >= 3000
    for cell in CELLS[:3] if width > 20 else CELLS[2:3]:
        assert cell in joined
    for word in CELLS[3].split():
        assert word in joined


def test_a_narrow_table_is_a_paragraph_for_each_row() -> None:
    assert printed(44, table())[:3] == [
        "host coral-dev-board-1  TPU 0001:01:00.0",
        "  images 1,250",
        "  cause a cause of many words that may be",
    ]


def test_the_table_of_a_job_at_60_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ModelFile("digits", 1, "/x", "0" * 64, InputForm("uint8", (1,)))
    ranks = tuple(
        Rank(number, f"coral-dev-board-{number}", None, "0001:01:00.0", 1250, 0.25, 399.1, 3.13, 0.22, 0.1, None, None)
        for number in range(2)
    )
    report = JobReport("j", model, 2500, 0, 6.26, 1.0, 1, ranks)
    output = Output(width=60)
    output.file = io.StringIO()
    job_view.print_report(report, output)
    text = output.file.getvalue()
    assert "…" not in text and all(len(line) <= 60 for line in text.splitlines()[:-1])
    for number in range(2):
        assert f"rank {number}  host coral-dev-board-{number}" in text
    assert text.count("images/s 399.1") == text.count("wait s 0.10") == text.count("TPU 0001:01:00.0") == 2


@pytest.mark.parametrize("width", [60, 200])
def test_the_progress_of_a_run(width: int) -> None:
    """The play, its place, the time; of each host which task of how many. A long text leaves these whole."""
    output = Output(width=width)
    output.file = io.StringIO()
    view = View(output, diff=False, check=False)
    view.event(PlayStarted("Storage", ("head", "coral-1"), 5, 9, 12))
    for host in ("head", "coral-1"):
        view.event(TaskStarted(host, "Storage", "Export"))
        view.event(TaskOutput(host, "Storage", "Export", "output " * 40))
    view.event(TaskFinished("head", "Storage", "Export", "ok", {}, "command"))
    view.event(TaskStarted("head", "Storage", "Mount"))
    view.event(TaskFinished("coral-1", "Storage", "Gathering Facts", "ok", {}))
    view.event(TaskStarted("coral-1", "Storage", "Export"))
    output.file = io.StringIO()
    output.print(view._progress())
    lines = output.file.getvalue().splitlines()
    assert lines[0].startswith("Storage: play 5 of 9, 0:0")
    assert [line.split()[1:] for line in lines[1:]] == [["head", "2/12", "Mount"], ["coral-1", "1/12", "Export"]]
    assert all(len(line) <= width for line in lines)


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (59.9, "0:59"), (187, "3:07"), (3600, "1:00:00")])
def test_time_spans(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown
