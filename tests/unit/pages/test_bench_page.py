"""What a benchmark shows: notes, table, plot, JSON and the page, as a browser has it at 1200 and 400 pixels."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import bench_jobs
import browser
import pytest
from bench_jobs import A, B, FakeJobs

from clusteradm.cli import bench_view, show
from clusteradm.cli.bench_page import html, speed_up
from clusteradm.cli.bench_view import Outcome
from clusteradm.cli.conditions import Conditions
from clusteradm.health.finding import warning
from clusteradm.jobs import bench
from clusteradm.jobs.bench import Bench
from clusteradm.node.spec.wire.job import Slot

from ..jobs.test_bench import follow, inputs, sent

EVIL = "<script>document.title='evil'</script>\u202e\x1b[31m\"'&"


def outcome(host: str = "w1", efficiency: float = 0.95) -> Outcome:
    """Three hosts, four TPUs, of which one is hot and slow, and one host loaded."""
    slots = (Slot("head", (A,)), Slot(host, (A, B)), Slot("w2", (A,)))
    jobs = FakeJobs(lambda ranks: 1.0 if ranks == 1 else efficiency)
    jobs.busy = {(host, B): 0.0051}
    work = Bench(jobs, bench_jobs.plan(slots), follow, sent)  # type: ignore[arg-type]
    for _ in range(3):
        for each in work.rounds:
            work.round(inputs(1000), each)
        for tpus in (1, 2, 4):
            work.step(inputs(1000), tpus)
    hot = warning(f"{host} {B}", "tpu", "THROTTLED", "its clock is 250 MHz", "more air over the module")
    places = [(slot.host, address) for slot in slots for address in slot.tpus if address]
    return Outcome(
        cluster="corals" if host == "w1" else host,
        model=replace(bench_jobs.MODEL, name="mobilenet_v2" if host == "w1" else host),
        images=1000,
        made=True,
        bytes=3 << 20,
        runs=3,
        steps=work.measured.scaling(),
        tpus=work.measured.tpus(dict.fromkeys(("head", host, "w2"), 2.6)),
        latency=bench.published(bench_jobs.MODEL),
        devices=tuple(work.measured.devices),
        before=Conditions({"w2": 1.75, "head": 0.1}, dict.fromkeys(places, 50.0)),
        after=Conditions({}, dict.fromkeys(places, 61.0), {(host, B): hot}),
        cpu_operations=3,
        streamed_bytes=2 << 20,
    )


def printed(capsys: pytest.CaptureFixture[str], about: Outcome) -> tuple[str, str]:
    bench_view.print_outcome(about)
    shown = capsys.readouterr()
    return shown.out, " ".join(shown.err.split())


def test_the_tables_and_the_plot(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = printed(capsys, outcome())
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == re.split(" +", "mobilenet_v2 version 3, 1,000 inputs, 3.0 MiB, made for the model")
    assert [line[:4] for line in lines[3:6]] == [
        ["1", "384.6", "1.00", "100"],
        ["2", "730.8", "1.90", "95"],
        # Three at full speed, and one at half of it.
        ["4", "1,282.4", "3.33", "83"],
    ]
    bars = out.splitlines()[8:11]
    assert [bar.count("█") for bar in bars] == [10, 19, 33] and [bar.rsplit(" ", 1)[1] for bar in bars] == [
        "1.00",
        "1.90",
        "3.33",
    ]
    assert [bar.index("┊") for bar in bars] == [13, 23, 43], "the marks are where the speed would be as many times"
    rows = {tuple(line[:2]): line[2:] for line in lines if len(line) == 7}
    assert rows["w1", B] == ["5.10", "2.6", "1.96", "50", "61"] and rows["w2", A] == ["2.60", "2.6", "1.00", "50", "61"]
    assert bench_view.NOT_HARDWARE in out and "published: MobileNet v2, coral.ai/docs/edgetpu/benchmarks" in out
    for said in (
        "w2 was loaded before the first run (1.8 processes for each processor): see clusteradm top",
        f"w1 {B} is THROTTLED after the runs: its clock is 250 MHz; more air over the module",
        f"w1 {B} takes 5.10 ms, 1.96 times the published 2.6 ms: it is THROTTLED: its clock is 250 MHz; "
        "3 operations of the model run on the processor; 2.0 MiB of the model are sent for every inference; "
        "its heat, its clock and its link: clusteradm health --limit w1 -v",
        "a run with 4 TPUs took 0.78 s, in which the begin and the end of a job count",
    ):  # fmt: skip
        assert said in err, said


def test_hosts_that_were_loaded_are_one_note_and_tpus_that_were_not_measured_none() -> None:
    about = outcome()
    before = Conditions({f"w{number}": 0.2 + number for number in range(4)})
    hot = warning(f"w9 {B}", "tpu", "WEDGED", "it reads -89.7 °C", "reset it")
    found = list(bench_view.notes(replace(about, before=before, after=Conditions({}, {}, {("w9", B): hot}))))
    assert found[0].startswith("w[1-3] were loaded before the first run (up to 3.2 processes for each processor)")
    assert not any("WEDGED" in note for note in found)


def test_what_limits_the_speed_up_is_said() -> None:
    said = " ".join(bench_view.notes(outcome(efficiency=0.5)))
    assert "with 4 TPUs they waited for the network" in said and "a faster switch" in said
    assert "waited for" not in " ".join(bench_view.notes(outcome()))


def test_as_json() -> None:
    found = json.loads(json.dumps(bench_view.document(outcome())))
    assert [(step["tpus"], step["speed_up"]) for step in found["steps"]] == [
        (1, 1.0),
        (2, 1.9),
        (4, pytest.approx(3.334, abs=0.01)),
    ]
    assert all(len(step["runs"]) == 3 and step["startup_seconds"] == 2.0 for step in found["steps"])
    slow = [tpu for tpu in found["tpus"] if tpu["slow"]]
    assert [(tpu["host"], tpu["pci_address"], tpu["ratio"]) for tpu in slow] == [
        ("w1", B, pytest.approx(1.96, abs=0.01))
    ]
    assert found["simulated"] is True and found["published"]["usb"] == 2.6 and len(found["notes"]) >= 3


def test_without_a_published_time(capsys: pytest.CaptureFixture[str]) -> None:
    about = outcome()
    about = replace(about, latency=None, tpus=[replace(alone, published=None) for alone in about.tpus])
    out, err = printed(capsys, about)
    assert "published" not in out and "1.96 times the median of all, 2.60 ms" in err
    assert "No time is published of this model" in html(about)


def test_one_tpu_alone(capsys: pytest.CaptureFixture[str]) -> None:
    about = outcome()
    about = replace(about, steps=about.steps[:1], tpus=about.tpus[:1])
    out, _ = printed(capsys, about)
    assert "1.00" in out and "<polyline" in html(about)


def test_the_page() -> None:
    text = html(outcome())
    for said in (
        "3.33",
        "1,282",
        "Published for MobileNet v2",
        "1.96 times the published",
        "simulated: no figure here",
    ):
        assert said in text, said
    plot = speed_up(outcome())
    assert [tick.text for tick in plot.y] == ["0", "1", "2", "3", "4"] and [tick.text for tick in plot.x] == [
        "1",
        "2",
        "4",
    ]
    assert plot.lines[0].points == "0.00,100.00 100.00,0.00" and len(plot.dots) == 12
    evil = html(outcome(EVIL))
    assert "<script" not in evil and "&lt;script&gt;" in evil and "\u202e" not in evil and "\x1b" not in evil


def test_what_is_printed_of_a_hostile_host(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = printed(capsys, outcome(EVIL))
    assert "\x1b" not in out + err and "\u202e" not in out + err
    assert show.line(EVIL) in out


@pytest.mark.parametrize("width", [1200, 400])
def test_in_a_browser(tab: browser.Tab, tmp_path: Path, width: int) -> None:
    """As wide as its window, the dots are within the plot, the slow TPU's bar is longer than the others'."""
    file = tmp_path / "bench.html"
    file.write_text(html(outcome(EVIL)), encoding="utf-8")
    tab.open(file.as_uri(), width)
    assert tab.run("document.documentElement.scrollWidth <= innerWidth") and tab.run("document.title") != "evil"
    inside = """(() => { const field = document.querySelector(".plot .field").getBoundingClientRect();
        return [...document.querySelectorAll(".plot .dot")].map(one => one.getBoundingClientRect()).every(dot =>
            dot.left > field.left - 9 && dot.right < field.right + 9 &&
            dot.top > field.top - 9 && dot.bottom < field.bottom + 9); })()"""
    assert tab.run(inside)
    lengths = tab.run("[...document.querySelectorAll('.gauge b')].map(one => one.getBoundingClientRect().width)")
    slow = tab.run("document.querySelector('.gauge.slow b').getBoundingClientRect().width")
    assert len(lengths) == 4 and slow == max(lengths) and sorted(lengths)[2] * 1.8 < slow
