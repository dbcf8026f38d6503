"""top: rows and rates of two measurements, their order, the keys; the screen in a real terminal."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import Any

import pytest
import terminal
from rich.console import Console

from clusteradm.cli import top, top_traffic, top_view
from clusteradm.cli.health_forms.figures import Figure, of_jobs
from clusteradm.cli.health_forms.report import HealthReport
from clusteradm.cli.health_forms.serving import of_serving
from clusteradm.health import Finding, Severity
from clusteradm.node.spec.wire.decode import decode
from clusteradm.node.spec.wire.job_requests import JobDetails
from clusteradm.node.spec.wire.serving import REQUEST_SECONDS, BoardState, ModelTraffic
from clusteradm.node.spec.wire.serving_requests import BoardSaid, ServingStatus
from clusteradm.testing import FakeHosts

from .conftest import Run, document

JOB = "20260101-000000-abcdef"
MODEL = {
    "name": "m",
    "version": 3,
    "path": "/m",
    "sha256": "0" * 64,
    "input": {"dtype": "uint8", "shape": [1, 2, 2, 3]},
}
A, B = "0000:01:00.0", "0000:02:00.0"


def job(images: int, busy: float, worked: float) -> dict[str, object]:
    """A job with a rank on a TPU of w1 and one on w2's CPU."""
    ranks = [
        {
            "rank": 1,
            "host": "w1",
            "pci_address": A,
            "images": images,
            "seconds": worked,
            "busy": busy,
            "state": "ready",
        },
        {"rank": 2, "host": "w2", "pci_address": None, "images": images // 2, "seconds": worked, "busy": worked},
    ]
    progress = {"attempt": 1, "phase": "running", "total": 5000, "done": images, "errors": 0}
    spec = {"model": MODEL, "head": "head", "slots": [], "ranks": None, "top": 1, "python": "p"}
    return {
        "spec": {**spec, "job": JOB, "inputs": 5000, "folder": "/f"},
        "status": {"state": "running", "total": 5000},
        "progress": {**progress, "first_dispatch": None, "last_result": None, "now": 1.0, "ranks": ranks},
        "bytes": 0,
    }


def report(taken: float, images: int, busy: float, worked: float, *more: Figure) -> HealthReport:
    findings = [Finding(host, "ssh", "OK") for host in ("head", "w1", "w2", "w3")]
    findings += [Finding(f"w1 {A}", "tpu", "OK"), Finding(f"w1 {B}", "tpu", "THROTTLED", Severity.WARNING)]
    findings += [Finding("w3", "disk", "FULL", Severity.ERROR)]
    figures = [
        *(Figure(name, {"host": "w1"}, value) for name, value in (("host_load", 3.0), ("host_processors", 4))),
        *(
            Figure(f"host_memory_{name}_bytes", {"host": "w1"}, value)
            for name, value in (("total", 8e9), ("available", 2e9))
        ),
        *(
            Figure("host_temperature_celsius", {"host": "w1", "zone": zone}, value)
            for zone, value in (("a", 40), ("b", 55))
        ),
        Figure("host_load", {"host": "w2"}, 9.0),  # of an unknown number of processors
        Figure("tpu_temperature_celsius", {"host": "w1", "tpu": B}, 91.0),
        Figure("tpu_clock_hertz", {"host": "w1", "tpu": B}, 125e6),
        Figure("host_place", {"host": "w2", "rack": "A", "slot": "2"}, 1),
        Figure("host_place", {"host": "w1", "rack": "A", "slot": "1"}, 1),
        *of_jobs([decode(JobDetails, job(images, busy, worked))]),
        *more,
    ]
    return HealthReport("c", findings, figures, taken)


def test_rates_are_of_the_time_between_two_measurements() -> None:
    rows = {row.name: row for row in top_view.hosts(report(12.0, 300, 9.0, 10.0), report(10.0, 100, 8.0, 8.0))}
    assert list(rows) == ["head", "w1", "w2", "w3"]
    w1, w2 = rows["w1"], rows["w2"]
    assert (w1.load, w1.memory, w1.celsius, w1.rack, w1.slot) == (0.75, 0.75, 55, "A", "1")
    first, second = w1.tpus
    assert (first.use, first.images, first.job, first.state) == (0.5, 100.0, JOB, "OK")
    assert (second.celsius, second.megahertz, second.use, second.job) == (91.0, 125.0, None, "")
    assert w2.load is None and [(tpu.address, tpu.images, tpu.use) for tpu in w2.tpus] == [("cpu", 50.0, 1.0)]
    assert (rows["w3"].state, rows["w3"].severity, rows["w3"].busy, w2.busy) == ("FULL", Severity.ERROR, False, True)
    (one,) = top_view.jobs(report(12.0, 300, 9.0, 10.0), list(rows.values()))
    assert (one.job, one.model, one.done, one.of, one.images) == (JOB, "m:3", 300, 5000, 150.0)


def test_a_new_attempt_has_no_rate_and_nor_has_the_first_measurement() -> None:
    for before in (None, report(10.0, 900, 80.0, 80.0), report(12.0, 300, 9.0, 10.0)):
        rows = top_view.hosts(report(12.0, 300, 9.0, 10.0), before)
        assert rows[1].tpus[0].images is None and rows[1].images == 0


def served(taken: float, **boards: tuple[ModelTraffic, ...]) -> HealthReport:
    said = {host: BoardSaid(BoardState(host, 1, True, traffic=traffic)) for host, traffic in boards.items()}
    return report(taken, 0, 0.0, 0.0, *of_serving(ServingStatus(said)))


def times(**counts: int) -> tuple[int, ...]:
    """Counts by the bound's number."""
    found = [0] * (len(REQUEST_SECONDS) + 1)
    for bound, count in counts.items():
        found[int(bound[1:])] = count
    return tuple(found)


def test_traffic_of_a_model_is_that_of_all_boards_since_the_measurement_before() -> None:
    before = served(
        10.0,
        w1=(ModelTraffic("m", {"ok": 1000}, times(_13=1000), 9999.0),),
        w2=(ModelTraffic("a", {"overloaded": 1}), ModelTraffic("m", {"ok": 50}, times(_0=50))),
        w3=(ModelTraffic("m", {"ok": 10**6}, times(_0=10**6)),),
    )
    # 100 more requests: half of them up to 2.5 ms, the others up to 5 ms; w3 was started anew.
    now = served(
        14.0,
        w1=(ModelTraffic("m", {"ok": 1060}, times(_1=50, _2=10, _13=1000)), ModelTraffic("n", {"ok": 1}, times(_0=1))),
        w2=(ModelTraffic("a", {"overloaded": 9}), ModelTraffic("m", {"ok": 90}, times(_0=50, _2=40))),
        w3=(ModelTraffic("m", {"ok": 3}, times(_0=3)),),
    )
    refused, m, new = top_traffic.models(now, before)
    assert (refused.model, refused.requests, refused.errors, refused.p50) == ("a", 2.0, 2.0, None)
    assert (m.model, m.boards, m.requests, m.errors) == ("m", 3, 25.0, 0.0)
    assert m.p50 == pytest.approx(0.0025) and m.p99 == pytest.approx(0.00495)
    assert str(m).startswith("endpoint  m  on 3  25.0 requests/s  0.0 errors/s  p50 2.5 ms  p99 ")
    assert (new.model, new.requests, new.p99) == ("n", None, None) and "after the next measurement" in str(new)
    assert top_traffic.models(before, None)[1].requests is None
    slow = served(14.0, w1=(ModelTraffic("m", {"ok": 1001}, times(_13=1001)),))
    assert "p99 > 10 s" in str(top_traffic.models(slow, before)[0])


def test_order_and_filter() -> None:
    rows = top_view.hosts(report(12.0, 300, 9.0, 10.0), report(10.0, 100, 8.0, 8.0))

    def order(name: str) -> list[str]:
        return [row.name for row in sorted(rows, key=top_view.SORTS[name])]

    assert order("place") == ["w1", "w2", "head", "w3"]
    assert order("state")[:2] == ["w3", "w1"] and order("load")[0] == "w1" and order("temperature")[0] == "w1"
    assert order("images")[:2] == ["w1", "w2"]
    shown = {name: [row.name for row in rows if fits(row)] for name, fits in top_view.FILTERS.items()}
    assert shown == {"all": ["head", "w1", "w2", "w3"], "not ok": ["w1", "w3"], "busy": ["w1", "w2"]}


def test_the_screen_says_all_and_obeys_nobody() -> None:
    now, before = report(12.0, 300, 9.0, 10.0), report(10.0, 100, 8.0, 8.0)
    evil = HealthReport("c\x1b[2J", now.findings, now.figures, now.taken)
    console = Console(file=io.StringIO(), width=200, markup=False, highlight=False)
    model = top_traffic.ModelRow("e\x1b[2Jvil", 2, 3.0, 1.0, 0.01, 0.02)
    rows = top_view.hosts(evil, before)
    console.print(top_view.render(evil, rows, [model], sort="images", only="busy", note="; x"))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "\x1b" not in text and "150.0 images/s" in text and f"job {JOB}  m:3  300 of 5,000 inputs" in text
    assert "by images, busy (2 hidden); x" in text
    assert "vil  on 2  3.0 requests/s  1.0 errors/s  p50 10.0 ms  p99 20.0 ms" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["A", "1", "w1", "THROTTLED", "0.75", "75%", "55", A, "OK", "50%", "100.0", JOB] in lines
    assert [B, "THROTTLED", "91.0", "125"] in lines


def test_a_screen_that_waits_for_a_host_says_how_old_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(top.time, "monotonic", lambda: clock[0])
    args: Any = argparse.Namespace(interval=2.0, sort="place", only="all")
    nobody: Any = None
    measurer = top.Measurer(args, nobody, nobody)
    measurer.now = report(12.0, 300, 9.0, 10.0)
    screen = top.Screen(args, measurer)

    def text() -> str:
        console = Console(file=io.StringIO(), width=200, markup=False, highlight=False)
        console.print(screen.render())
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    clock[0] += 6
    assert "old" not in text() and not screen.changed
    clock[0] += 3
    assert screen.changed and "9 s old: not all hosts have answered yet" in text()


def traffic(number: int) -> dict[str, object]:
    """Of w1, which answers ten more requests each time it is asked, in 1 to 2.5 ms."""
    traffic = {"model": "digits", "outcomes": {"ok": 10 * number}, "times": list(times(_1=10 * number))}
    return {"boards": {"w1": {"state": {"host": "w1", "revision": 1, "balance": True, "traffic": [traffic]}}}}


def measured(hosts: FakeHosts) -> None:
    system = {"load": 1.5, "processors": 2, "memory_total": 100, "memory_available": 25}
    for name in ("head", "w1", "w2"):
        hosts[name].answer_always("probe", {"document": {"system": system}})
    hosts["head"].answer_always("job-list", {"jobs": [{"job": JOB, "state": "running"}]})
    hosts["head"].answer_always("serving-show", {"state": {"revision": 1}, "ready": True})
    asked = iter(range(10**6))
    hosts["head"].answer_always("serving-status", lambda fields: traffic(next(asked)))
    counts = iter(range(100, 10**6, 100))
    hosts["head"].answer_always("job-show", lambda fields: job(next(counts), 1.0, 2.0))


def test_once(hosts: FakeHosts, run: Run) -> None:
    measured(hosts)
    found = document(run("top", "--json", "--interval", "0.1"))
    rows = {row["name"]: row for row in found["hosts"]}
    assert (rows["w2"]["load"], rows["w2"]["memory"]) == (0.75, 0.75)
    assert rows["w2"]["tpus"][0]["address"] == "cpu" and rows["w2"]["images"] > 0 and found["jobs"][0]["job"] == JOB
    (model,) = found["endpoint"]
    assert model["model"] == "digits" and model["requests"] > 0 and model["p50"] == pytest.approx(0.00175)
    assert f"job {JOB}" in run("top", "--interval", "0.1", "--sort", "load", "--only", "busy")


SCREEN = """
import sys
from pathlib import Path
sys.path[:0] = [{unit!r}]
import importlib
module = importlib.import_module("cli.test_top")
from clusteradm.cli.main import main
from clusteradm.testing import FakeHosts
hosts = FakeHosts()
module.measured(hosts)
with hosts.installed():
    status = main(["top", "--interval", "0.1", "-i", {inventory!r}])
print("left with", status)
"""


def test_keys(inventory: Path) -> None:
    unit = str(Path(__file__).resolve().parents[1])
    text = SCREEN.format(unit=unit, inventory=str(inventory))
    with terminal.command([sys.executable, "-c", text], width=160) as shown:
        shown.wait_for("by place, all; s: sort, f: filter, q: leave")
        shown.wait_for("images/s")
        shown.wait_for("endpoint  digits  on 1")
        shown.wait_for("p50 1.8 ms")
        shown.type("s")
        shown.wait_for("by state, all")
        shown.type("f")
        shown.wait_for("by state, not ok")
        assert not shown.echoes
        shown.type("q")
        shown.wait_for("left with 0")
        assert shown.finish() == 0
        assert "by state" not in shown.screen.text and shown.screen.cursor  # the screen is taken away
