"""The page about a job: what is in it, hostile names, and how a browser shows it at 1200 and 400 pixels."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import browser
import numpy as np
import pytest
from PIL import Image

from clusteradm.cli import job_page as page
from clusteradm.cli.job_page import JobPage, html, throughput
from clusteradm.cli.pages.plot import axis
from clusteradm.jobs.report import build
from clusteradm.jobs.sheet import Failure, Picture
from clusteradm.jobs.truth import Accuracy
from clusteradm.node.spec.wire.job import Attempt, InputForm, ModelFile, RankProgress, Status
from clusteradm.node.spec.wire.timeline import Event, Timeline

JOB = "20260101-000000-abcdef"
EVIL = "<script>document.title='evil'</script>\u202e\x1b[31m\"'&"
MODEL = ModelFile("mobilenet_v2", 3, "/m", "ab" * 32, InputForm("uint8", (1, 224, 224, 3)))


def rank(number: int, host: str, images: int, **more: object) -> RankProgress:
    times = {"seconds": images / 380, "busy": images / 400, "wait": 0.2, "decode": 1.0, "read": 1.0, "idle": 0.1}
    about = {"images": images, "state": "ready", "version": "v16 SIMULATED", "tpu": "/dev/apex_0", **times, **more}
    return replace(RankProgress(number, host, "0000:01:00.0"), **about)


def jpeg(side: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), (200, 40, 40)).save(file, "JPEG")
    return file.getvalue()


def made(text: str = "w3", state: str = "complete") -> JobPage:
    """A page about a job on which everything has happened."""
    ranks = (rank(1, "head", 2500), rank(2, "w1", 2500), rank(3, text, 400, state="failed", error=f"{text} is away"))
    attempt = Attempt(1, 1000.0, ("head", "w1", text), 1002.0, 1009.0, ranks, 0)
    status = Status(
        state, replace(MODEL, name=text if text != "w3" else MODEL.name), 5, 5400, 1000.0, (attempt,), 5400, 3
    )
    counts = dict.fromkeys(("head", "w1", text), (0,) * 8 + (95,) * 28)
    timeline = Timeline(0.25, 9.0, 0.0, counts, (Event(5.5, f"{text} is left out"),))
    return JobPage(
        "corals" if text == "w3" else text,
        build(JOB, status, Accuracy(100, 90, 95, 5)),
        status,
        timeline,
        [Failure(f"not a picture: {text}", 3, [f"{text}.jpg"])],
        [Picture(f"{text}.jpg", text, jpeg(28), side=28), Picture("b.jpg", "cat 0.5", None, f"unread: {text}")],
    )


def test_what_is_on_it() -> None:
    text = html(made())
    for said in (
        "mobilenet_v2",
        "5,400",
        "771.4",
        "90.0 %",
        "simulated: no figure here",
        "of 3 ranks",
        "w3 is left out",
    ):
        assert said in text, said
    assert re.findall(r"<td class=\"name\">(\w+)</td><td class=\"name\">0000", text) == ["head", "w1", "w3"]
    assert text.count("<polygon") == 3 and "speed-up" in text and "data:image/jpeg;base64," in text
    assert "http" not in re.sub(r'http-equiv="Content-Security-Policy"', "", text) and "<script" not in text


def test_no_name_becomes_markup() -> None:
    text = html(made(EVIL))
    assert "<script" not in text and "&lt;script&gt;" in text and "\u202e" not in text and "\x1b" not in text


@pytest.mark.parametrize("state", ["failed", "cancelled", "interrupted"])
def test_a_job_that_is_not_complete(state: str) -> None:
    about = made(state=state)
    status = replace(about.status, total=6000, images=0, errors=0, error="no host is left")
    text = html(replace(about, status=status, report=build(JOB, status, None), timeline=None, failures=(), pictures=()))
    assert state in text and "no host is left" in text and "Nothing was recorded" in text and "Errors" not in text
    assert "of 6,000" in text
    nothing = replace(status, attempts=())
    text = html(JobPage("c", build(JOB, nothing, None), nothing, None, no_pictures="they were not here"))
    assert "No rank has worked" in text and "they were not here" in text


def test_the_plot_has_every_result_in_it() -> None:
    counts = {f"w{number:02}": tuple([number] * 600) for number in range(12)}
    plot = throughput(Timeline(2.0, 1200.0, 0.0, counts))
    assert plot is not None
    assert [area.name for area in plot.areas] == [f"w{number:02}" for number in range(5, 12)] + ["5 other hosts"]
    # The top of the stack: 66 results in 2 seconds, on an axis that ends at 40.
    heights = [100 - float(pair.split(",")[1]) for pair in plot.areas[-1].points.split()[:150]]
    assert set(heights) == {82.5} and plot.y[-1].text == "40" and plot.x[-1].text == "20:00"
    assert throughput(Timeline(0.25, 0.0, 0.0, {})) is None
    short = throughput(Timeline(0.1, 0.1, 0.0, {"w1": (3,)}))
    assert short is not None and short.areas[0].points == "0.00,0.00 100.00,0.00 100.00,100.00 0.00,100.00"


def test_many_events_are_not_drawn_over_each_other() -> None:
    events = tuple(Event(float(second), f"event {second}") for second in range(100))
    timeline = Timeline(1.0, 100.0, 0.0, {"w1": (1,) * 100}, events)
    plot = throughput(timeline)
    assert plot is not None and len(plot.marks) == 100
    assert [mark.text for mark in plot.marks if mark.text][:3] == ["1", "7", "13"]
    text = html(replace(made(), timeline=timeline))
    assert "and 92 more" in text and "event 99" in text


def test_a_job_of_pipelines_counts_them_once() -> None:
    stages = tuple(
        replace(rank(2 * pipeline + stage + 1, f"w{stage}", 500 * stage), pipeline=pipeline, stage=stage)
        for pipeline in (0, 1)
        for stage in (0, 1)
    )
    stages = tuple(replace(each, pci_address=f"0000:0{each.rank}:00.0") for each in stages)
    attempt = Attempt(1, 1000.0, ("w0", "w1"), 1002.0, 1005.0, stages, 0)
    status = Status("failed", MODEL, 5, 5000, 1000.0, (attempt,))
    text = html(JobPage("c", build(JOB, status, None), status, None))
    assert "of 2 pipelines" in text and "<b>1,000</b>" in text and "0000:04:00.0, stage 2.2" in text


def test_times_and_axes() -> None:
    for length, last in ((0.3, "0.3 s"), (7.0, "6 s"), (119, "90 s"), (3700, "1:00:00"), (2e6, "480:00:00")):
        ticks = page._times(length)
        assert 2 <= len(ticks) <= 6 and all(0 <= tick.at <= 100.001 for tick in ticks), (length, ticks)
        assert ticks[-1].text in (last, "99:59:59"), (length, ticks)
    assert [axis(most)[0] for most in (0, 0.7, 1, 3.9, 1490)] == [1.0, 0.8, 1.0, 4.0, 1500.0]
    assert page.moment(1e300) == "" and page.moment(None) == "" and page.moment(0.5).startswith("1970")


@pytest.mark.parametrize("width", [1200, 400])
def test_in_a_browser(tab: browser.Tab, tmp_path: Path, width: int) -> None:
    """As wide as its window, every part is seen, its pictures load, and no script of a name has run."""
    file = tmp_path / "report.html"
    file.write_text(html(made(EVIL)), encoding="utf-8")
    tab.open(file.as_uri(), width)
    assert tab.run("document.documentElement.scrollWidth <= innerWidth") and "evil" not in tab.run("document.title")[:4]
    assert tab.run("[...document.images].every(one => one.complete && one.naturalWidth === 28)")
    boxes = tab.run(
        """[".tiles", ".plot svg", "#ranks .shares", ".sheet"].map(name => {
            const box = document.querySelector(name).getBoundingClientRect();
            return [box.left, box.right, box.height]; })"""
    )
    assert all(left >= 0 and right <= width and height > 5 for left, right, height in boxes), boxes
    tab.picture(tmp_path / "page.png")
    pixels = np.asarray(Image.open(tmp_path / "page.png").convert("RGB"), dtype=int)
    blue = (pixels[..., 2] > pixels[..., 0] + 60) & (pixels[..., 2] > 150)
    assert blue.sum() > 1000, "the plot has its colours"
