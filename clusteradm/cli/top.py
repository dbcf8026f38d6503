"""Show all hosts and TPUs on one live screen: load, memory, temperature, state, clock and use, jobs and images per
second, requests to the endpoint. It shows what the exporter exports, and opens no TPU.

USE is the share of the time in which the TPU of a job's rank computed; without a job it is not known.
"""

from __future__ import annotations

import argparse
import dataclasses
import threading
import time

from rich.console import RenderableType

from clusteradm.cli import context, next_step, show, top_traffic, top_view
from clusteradm.cli.context import QUICK_SECONDS
from clusteradm.cli.display import Display
from clusteradm.cli.health import seconds
from clusteradm.cli.health_forms.report import HealthReport
from clusteradm.cli.keys import Keys
from clusteradm.cli.measuring import measure
from clusteradm.errors import ClusteradmError
from clusteradm.inventory import Cluster
from clusteradm.transport import Connections

EXAMPLES = """\
examples:
  clusteradm top
  clusteradm top --sort temperature --limit compute
  clusteradm top --only busy --interval 5
  clusteradm top --once | sort

keys:
  s  sort by the next column        f  show all, what is not ok, or what is busy
  q  leave

Without a terminal it shows everything once, as with --once.
"""
_INTERVAL = 2.0
_LOOK = 0.2
_LATE = 5.0  # seconds for an answer, from which on the screen says that it is of some time ago
_MOVING = ("job_inputs", "serving_requests_total")  # figures whose rates are shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `clusteradm top`."""
    parser.add_argument(
        "--interval",
        type=seconds,
        default=_INTERVAL,
        metavar="S",
        help="measure every S seconds (default: %(default)g)",
    )
    parser.add_argument("--sort", choices=list(top_view.SORTS), default="place", help="(default: %(default)s)")
    parser.add_argument("--only", choices=list(top_view.FILTERS), default="all", help="hosts (default: %(default)s)")
    parser.add_argument(
        "--once", action="store_true", help="show it once and leave; with a job or an endpoint, it measures twice"
    )
    parser.set_defaults(expect=False)
    context.add_connection_arguments(parser, connect=QUICK_SECONDS)


def run(args: argparse.Namespace) -> int:
    """Show, until q or Ctrl-C."""
    cluster = context.open_cluster(args)
    with context.connect(args, cluster) as connections:
        if args.once or args.json or not show.stdout.is_terminal:
            return _once(args, connections, cluster)
        with Measurer(args, connections, cluster) as measurer, Keys() as keys:
            screen = Screen(args, measurer)
            with Display(show.stdout, screen.render, every=None) as display:
                while screen.key(keys.read(_LOOK)):
                    measurer.check()
                    if screen.changed:
                        display.draw()
    return 0


def _once(args: argparse.Namespace, connections: Connections, cluster: Cluster) -> int:
    before = measure(args, connections, cluster)
    now = before
    if any(each.name in _MOVING for each in before.figures):
        time.sleep(args.interval)
        now = measure(args, connections, cluster)
    past = before if before is not now else None
    rows, models = top_view.hosts(now, past), top_traffic.models(now, past)
    if args.json:
        body = {
            "cluster": now.cluster,
            "taken": now.taken,
            "hosts": [{**dataclasses.asdict(row), "images": row.images} for row in rows],
            "jobs": [dataclasses.asdict(job) for job in top_view.jobs(now, rows)],
            "endpoint": [dataclasses.asdict(model) for model in models],
        }
        show.json_document("top", body)
    else:
        show.stdout.print(top_view.render(now, rows, models, sort=args.sort, only=args.only, note=""))
    return 0


class Measurer:
    """Measures again and again, in a thread of its own, so that keys are not waited for. A context manager."""

    def __init__(self, args: argparse.Namespace, connections: Connections, cluster: Cluster) -> None:
        self._args, self._connections, self._cluster = args, connections, cluster
        self._stopped = threading.Event()
        self._defect: Exception | None = None
        self.now: HealthReport | None = None
        self.before: HealthReport | None = None
        self.measured = 0  # how often it was
        self._ended = time.monotonic()  # the last time
        self.error = ""

    def __enter__(self) -> Measurer:
        # The first one here: a question about a host key or an error shows before the screen.
        self.now = measure(self._args, self._connections, self._cluster)
        threading.Thread(target=self._run, name="clusteradm-top", daemon=True).start()
        return self

    def __exit__(self, *about: object) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._args.interval):
            try:
                report = measure(self._args, self._connections, self._cluster)
            except ClusteradmError as error:
                self.error = next_step.complete(str(error), self._args)
            except Exception as error:
                self._defect = error
                return
            else:
                self.before, self.now, self.error = self.now, report, ""
                self.measured += 1
            self._ended = time.monotonic()

    @property
    def late(self) -> int:
        """Seconds since the last measurement, where hosts take long to answer the next; else 0."""
        seconds = time.monotonic() - self._ended
        return int(seconds) if seconds > self._args.interval + _LATE else 0

    def check(self) -> None:
        """Raise a defect of the thread."""
        if self._defect is not None and not self._stopped.is_set():
            raise self._defect


class Screen:
    """What is shown now, and what keys change of it."""

    def __init__(self, args: argparse.Namespace, measurer: Measurer) -> None:
        self.sort, self.only = args.sort, args.only
        self._measurer = measurer
        self._shown: tuple[object, ...] = ()

    def key(self, pressed: str) -> bool:
        """Obey a key; whether to go on."""
        if pressed == "s":
            self.sort = _next(list(top_view.SORTS), self.sort)
        elif pressed == "f":
            self.only = _next(list(top_view.FILTERS), self.only)
        return pressed not in ("q", "Q", "\x04")

    @property
    def changed(self) -> bool:
        """Whether it is to be drawn: after a measurement, an error or a key, in a terminal of another size, or as it
        ages."""
        return self._state() != self._shown

    def _state(self) -> tuple[object, ...]:
        measurer = self._measurer
        return measurer.measured, measurer.error, measurer.late, self.sort, self.only, show.stdout.size

    def render(self) -> RenderableType:
        """The screen."""
        measurer = self._measurer
        self._shown = self._state()
        now, before = measurer.now, measurer.before
        if now is None:
            return ""
        note = "; s: sort, f: filter, q: leave" + (f"; {measurer.error}" if measurer.error else "")
        note += f"; {measurer.late} s old: not all hosts have answered yet" if measurer.late else ""
        rows, models = top_view.hosts(now, before), top_traffic.models(now, before)
        return top_view.render(now, rows, models, sort=self.sort, only=self.only, note=note)


def _next(names: list[str], name: str) -> str:
    return names[(names.index(name) + 1) % len(names)]
