"""Live displays in a real terminal, narrow and wide: no line is broken, nothing else on the screen is taken back."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
import terminal
from terminal import Terminal

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
HOSTS = [f"coral-dev-board-{number}" for number in range(8)]
QUESTION = "\n".join(f"  {host}  SHA256:{'fingerprint' * 5}" for host in HOSTS)

BEGIN = f"""
import sys, time
from clusteradm.cli import show
from clusteradm.cli.display import Display, confirm
hosts = {HOSTS!r}
question = {QUESTION!r}
"""
BOOTSTRAP = """
from clusteradm.cli.playbook_view import View
from clusteradm.playbook import HostRecap, PlayStarted, Recap, TaskFinished, TaskOutput, TaskStarted
with View(show.stdout, diff=False, check=False) as view:
    view.event(PlayStarted("Play", tuple(hosts), 2, 3, 4))
    for number in range(4):
        task = f"Task {number} of " + "a long name " * 8
        for host in hosts:
            view.event(TaskStarted(host, "Play", task))
            view.event(TaskOutput(host, "Play", task, "output " * 40))
        time.sleep(0.3)
        if number == 2:
            print("accepted:", confirm(question, "Accept?"))
        for host in hosts:
            view.event(TaskFinished(host, "Play", task, "changed", {}, "command"))
    show.message("a message")
view.recap(Recap({host: HostRecap(ok=4, changed=4) for host in hosts}), "clusteradm bootstrap")
"""
FETCH = """
from clusteradm.cli.fetch_view import showing
from clusteradm.cli.playbook_view import View
from clusteradm.fetch import Progress
from clusteradm.playbook import PlayStarted, TaskFinished, TaskStarted
with View(show.stdout, diff=False, check=False) as view:
    view.event(PlayStarted("Play", tuple(hosts), 1, 1, 1))
    for host in hosts:
        view.event(TaskStarted(host, "Play", "Task 0"))
    time.sleep(0.3)
    with showing() as progress:
        for done in range(4):
            progress(Progress("libx_1.0_all.deb", done * 1000, 4000))
            time.sleep(0.2)
        progress(Progress("liby_1.0_all.deb", 0, None, "timed out; trying again"))
        time.sleep(0.3)
    print("accepted:", confirm(question, "Accept?"))
    for host in hosts:
        view.event(TaskFinished(host, "Play", "Task 0", "changed", {}, "command"))
print("done")
"""
INFER = """
from clusteradm.cli.job_view import transfer, watch
from clusteradm.jobs import Update
from clusteradm.node.spec.wire.job import Progress, RankProgress, Status
with transfer("sending the inputs") as progress:
    for sent in range(4):
        progress(sent * 1000, 4000)
        time.sleep(0.2)
def updates():
    for now in range(1, 5):
        ranks = tuple(RankProgress(n, host, None, now * 100) for n, host in enumerate(hosts))
        yield Update(Status("running"), Progress(1, "running", 99999, now * 800, 0, 0.0, 0.0, float(now), ranks))
        time.sleep(0.3)
        if now == 2:
            print("accepted:", confirm(question, "Accept?"))
            yield Update(None)
watch(updates())
print("done")
"""
HEALTH = """
from clusteradm.cli.main import main
from clusteradm.cli import health
from clusteradm.cli.health_forms.report import HealthReport
from clusteradm.health import Finding, Severity
rounds = 0
def judged(*_):
    global rounds
    rounds += 1
    if rounds == 3:
        print("accepted:", confirm(question, "Accept?"))
    cause = f"round {rounds}: " + " ".join(f"word{n}" for n in range(40)) + " end"
    return HealthReport("c", [Finding(h, "disk", "FULL", Severity.ERROR, "", cause, "remedy " * 20) for h in hosts])
health.ask, health.judged = (lambda *a, **o: None), judged
health.context.open_cluster = lambda args: None
sys.exit(main(["health", "--watch", "0.3"]))
"""


def watched(shown: Terminal, until: str) -> None:
    """Draw until the text is there. A line of a display never goes on in the next one: it could not be taken back."""
    while until not in shown.screen.text:
        assert shown.read()
        broken = [shown.screen.lines[number] for number in shown.screen.wrapped]
        assert not any(line[:1] in SPINNER or "images/s" in line or "MB" in line for line in broken if line), broken


def asked(shown: Terminal, answer: str) -> None:
    watched(shown, "Accept? [y/N]")
    text = shown.screen.text
    assert text.count(QUESTION) == 1 and text.rstrip().endswith("Accept? [y/N]")
    assert not any(spinner in text for spinner in SPINNER) and shown.screen.cursor
    shown.type(f"{answer}\n")
    watched(shown, f"accepted: {answer == 'y'}")


def program(text: str) -> list[str | Path]:
    return [sys.executable, "-c", BEGIN + text]


@pytest.mark.parametrize("answer", ["y", "n"])
@pytest.mark.parametrize("width", [60, 200])
def test_bootstrap(width: int, answer: str) -> None:
    with terminal.command(program(BOOTSTRAP), width=width) as shown:
        watched(shown, "Task 0")
        asked(shown, answer)
        watched(shown, "a message")
        assert shown.finish() == 0
        text = shown.screen.text
        assert text.count(QUESTION) == 1 and not any(spinner in text for spinner in SPINNER)
        for host in HOSTS:
            assert text.count(f"  {host}: changed: Task") == 4 and text.count(f"{host} : ok=4") == 1
        lines = [f"  {host}: changed: Task {number} of {'a long name ' * 8}" for number in range(4) for host in HOSTS]
        assert [line for line in text.splitlines() if "changed: " in line] == [line.rstrip() for line in lines]


@pytest.mark.parametrize("width", [60, 200])
def test_a_file_that_a_play_needs(width: int) -> None:
    with terminal.command(program(FETCH), width=width) as shown:
        watched(shown, "Task 0")
        watched(shown, "2.0/4.0 kB")
        text = shown.screen.text
        assert "libx_1.0_all.deb" in text and not any(spinner in text for spinner in SPINNER)
        watched(shown, "liby_1.0_all.deb: timed out; trying again")
        asked(shown, "y")
        watched(shown, "done")
        assert shown.finish() == 0
        text = shown.screen.text
        assert "libx" not in text and "liby" not in text and text.count(QUESTION) == 1
        assert all(text.count(f"  {host}: changed: Task 0") == 1 for host in HOSTS)


@pytest.mark.parametrize("width", [60, 200])
def test_infer(width: int) -> None:
    with terminal.command(program(INFER), width=width) as shown:
        watched(shown, "running")
        asked(shown, "y")
        watched(shown, "done")
        assert shown.finish() == 0
        lines = shown.screen.text.split("accepted: True\n")[1].split()
        assert " ".join(lines) == (
            "the connection to the head is lost; the job continues there. Connecting again ... done"
        )


@pytest.mark.parametrize("width", [60, 200])
def test_health_watch(width: int) -> None:
    with terminal.command(program(HEALTH), width=width) as shown:
        asked(shown, "n")
        watched(shown, "round 5")
        shown.type("\x03")
        assert shown.finish() == 130
        text = shown.screen.text
        before, after = text.split(QUESTION)
        assert shown.screen.wrapped <= {n for n, line in enumerate(shown.screen.lines) if "SHA256" in line}
        for part in (before, after):
            # Each table took the place of the one before; no word of its long lines is cut off.
            assert part.count("HOSTS") == 1 and part.count("cause:") == 1 == part.count("remedy:")
            assert " ".join(f"word{number}" for number in range(40)) + " end" in " ".join(part.split())
        assert text.rstrip().endswith("clusteradm: interrupted") and shown.screen.cursor


FOLLOW = """
from clusteradm.cli import infer
from clusteradm.cli.commands import parser
from clusteradm.jobs import Update
from clusteradm.node.spec.wire.job import Status
class Jobs:
    def follow(self, job):
        while True:
            yield Update(Status("running"))
            time.sleep(0.1)
    def cancel(self, job):
        print("cancelled", flush=True)
    def directory(self, job):
        return "/jobs/J"
args = parser(["infer"]).parse_args(["infer", "--model", "m", "x.png"])
print("followed", flush=True)
try:
    infer._follow(args, Jobs(), "J")
except KeyboardInterrupt:
    print("left", flush=True)
"""


@pytest.mark.parametrize(("answer", "cancelled"), [("l\n", False), ("\n", True), ("c\n", True), ("\x03", True)])
def test_ctrl_c_asks_what_becomes_of_the_job(answer: str, cancelled: bool) -> None:
    with terminal.command(program(FOLLOW)) as shown:
        watched(shown, "starting")
        shown.type("\x03")
        watched(shown, "or leave it running?")
        shown.type(answer)
        watched(shown, "left")
        assert shown.finish() == 0
        text = shown.screen.text
        assert ("cancelled" in text) is cancelled
        assert ("infer --attach J --output FILE" in text) is not cancelled
        assert ("job remove J" in text) is cancelled


def test_a_terminal_of_another_session() -> None:
    """As under setsid, or a program that gives its child a terminal and no control of it."""
    ours, theirs = pty.openpty()
    text = BEGIN + "with Display(show.stdout, lambda: 'drawn'):\n    time.sleep(0.3)\nprint('done')"
    with subprocess.Popen([sys.executable, "-c", text], stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        assert process.wait(20) == 0
        assert b"done" in os.read(ours, 1 << 16)
    os.close(ours)


LASTING = """
import pathlib
from rich.console import Group
print("above")
try:
    with Display(show.stdout, lambda: Group(*(f"row {n} ".ljust(70, ".") for n in range(9))), lasting=True) as view:
        for _ in range(20):  # more than the terminal keeps for its reader
            view.draw()
        pathlib.Path(sys.argv[1]).touch()
        time.sleep(60)
except KeyboardInterrupt:
    print("below")
"""


def test_ctrl_c_before_a_drawing_is_shown(tmp_path: Path) -> None:
    """A terminal drops at Ctrl-C what it has not shown yet; a last drawing would then take back lines above it."""
    with terminal.command([*program(LASTING), tmp_path / "drawn"]) as shown:
        while not (tmp_path / "drawn").exists():
            time.sleep(0.01)
        shown.type("\x03")
        shown.wait_for("below")
        assert shown.finish() == 0
        assert shown.screen.text.rstrip().splitlines() == [
            "above",
            *(f"row {n} ".ljust(70, ".") for n in range(9)),
            "below",
        ]
        assert shown.flushes
