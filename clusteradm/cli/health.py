"""Check every host and every Edge TPU: one state, one cause, one remedy. Exits 0 only if every finding is ok."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Group
from rich.live import Live
from rich.text import Text

from clusteradm import atomic, health
from clusteradm.cli import context, show
from clusteradm.cli.health_forms.nagios import nagios, unknown
from clusteradm.cli.health_forms.prometheus import prometheus
from clusteradm.cli.health_forms.report import HealthReport
from clusteradm.cli.health_forms.table import table
from clusteradm.errors import ClusteradmError, UsageError
from clusteradm.health import Survey, saved
from clusteradm.health.anonymous import anonymous
from clusteradm.inventory import Cluster
from clusteradm.transport import Password

EXAMPLES = """\
examples:
  clusteradm health                              every host of the inventory; hosts in the same state share a row
  clusteradm health -v --limit 'coral-[0:3]'     every check and every TPU of these hosts
  clusteradm health --watch 10                   repeat every 10 seconds until Ctrl-C
  clusteradm health --expect                     report TPUs that the inventory does not declare (cluster_tpus), too
  clusteradm health --fix                        repair what is safe to repair, then check again
  clusteradm health --html report.html           write an HTML report
  clusteradm health --save bug.json --anonymous  save the hosts' answers, for a bug report
  clusteradm health --from bug.json              judge saved answers, without connections or inventory
  clusteradm health --json | jq '.findings[] | select(.severity != "ok")'
  clusteradm health --format nagios              one line with performance data, exit status 0, 1, 2 or 3

exit status: 0 ok, 3 errors or warnings, 4 a host does not answer
"""

_PAUSE_SECONDS = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `clusteradm health`."""
    context.add_connection_arguments(parser, connect=context.QUICK_SECONDS)
    parser.add_argument("-v", "--verbose", action="store_true", help="one row for every host and every TPU")
    parser.add_argument(
        "--format",
        choices=("table", "json", "prometheus", "nagios"),
        default="table",
        help="format of standard output (%(default)s); --json is short for --format json",
    )
    parser.add_argument("--html", metavar="FILE", help="also write an HTML report")
    parser.add_argument(
        "--watch",
        nargs="?",
        type=seconds,
        const=_PAUSE_SECONDS,
        metavar="SECONDS",
        help=f"repeat with this pause until Ctrl-C ({_PAUSE_SECONDS:.0f} s)",
    )
    parser.add_argument("--expect", action="store_true", help="report TPUs that the inventory does not declare")
    parser.add_argument(
        "--fix", action="store_true", help="repair what is safe (clock, mount, driver, permissions), then check again"
    )
    parser.add_argument("--save", metavar="FILE", help="save the hosts' answers, for --from or a bug report")
    parser.add_argument(
        "--anonymous", action="store_true", help="with --save: without secrets, names, addresses and serial numbers"
    )
    parser.add_argument("--from", dest="source", metavar="FILE", help="judge answers saved by --save, offline")


def seconds(text: str) -> float:
    """Seconds of an option, 0.1 to 86400. Raises ArgumentTypeError."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.1 <= number <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 86400")
    return number


def run(args: argparse.Namespace) -> int:
    """Survey, judge, print; the exit status."""
    form = "json" if args.json else args.format
    if args.anonymous and not args.save:
        raise UsageError("--anonymous needs --save FILE")
    if args.fix and (args.source or args.watch is not None):
        raise UsageError("--fix cannot be used with --from or --watch: it repairs hosts that it has just checked, once")
    if args.watch is not None:
        if form != "table" or args.source or args.save or args.html:
            raise UsageError("--watch shows only the table: it cannot be used with --from, --save, --html or --format")
        _watch(args)
    try:
        report = _report(args)
    except ClusteradmError as error:
        if form != "nagios":
            raise
        # A monitoring server reads only the standard output of a plugin.
        status, line = unknown(str(error))
        sys.stdout.write(line + "\n")
        return status
    if args.html:
        from clusteradm.cli.health_forms.html import html  # Jinja, which no other form needs

        _write(Path(args.html), html(report))
    return _show(report, form, verbose=args.verbose)


def _show(report: HealthReport, form: str, *, verbose: bool) -> int:
    status = report.exit_code
    if form == "json":
        show.json_document("health", report.document())
    elif form == "prometheus":
        sys.stdout.write(prometheus(report))
    elif form == "nagios":
        status, line = nagios(report)
        sys.stdout.write(line + "\n")
    else:
        show.stdout.print(table(report, verbose=verbose))
    return status


def _report(args: argparse.Namespace) -> HealthReport:
    if args.source:
        survey, cluster = saved.read(Path(args.source))
        # A saved survey has its inventory with it; -i overrides it, and the first versions had none.
        if args.inventory or cluster is None:
            cluster = context.open_cluster(args)
        survey = survey.only(cluster.select(args.limit) if args.limit else cluster.hosts.values())
    else:
        cluster = context.open_cluster(args)
        password = context.ask_password("sudo password: ") if args.ask_become_pass else None
        survey = _ask(args, cluster, password)
        if args.fix and _repair(args, cluster, survey, password):
            survey = _ask(args, cluster, password)
    if args.save:
        body = saved.document(cluster, survey)
        saved.write(Path(args.save), anonymous(cluster, body) if args.anonymous else body)
    return judged(args, cluster, survey)


def _repair(args: argparse.Namespace, cluster: Cluster, survey: Survey, password: Password | None) -> bool:
    from clusteradm.cli.health_fix import repair  # loads the playbook engine, which a check does not need

    return repair(args, cluster, health.judge(cluster, survey), password)


def _ask(args: argparse.Namespace, cluster: Cluster, password: Password | None) -> Survey:
    with show.stderr.status("checking the hosts") as status:
        return ask(args, cluster, password, progress=lambda text: status.update(text))


def ask(
    args: argparse.Namespace,
    cluster: Cluster,
    sudo_password: Password | None = None,
    *,
    again: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> Survey:
    """Survey of the hosts that the command line selects. `again`: only the sections that do not disturb jobs."""
    hosts = cluster.select(args.limit) if args.limit else tuple(cluster.hosts.values())
    with context.connect(args, cluster, sudo_password) as connections:
        return health.collect(
            connections, hosts, sections=health.LIGHT if again else (), together=not again, progress=progress
        )


def judged(args: argparse.Namespace, cluster: Cluster, survey: Survey) -> HealthReport:
    """Report of a survey."""
    findings = health.judge(cluster, survey, undeclared=args.expect)
    return HealthReport.of(cluster, survey, findings)


def _watch(args: argparse.Namespace) -> None:
    """Repeat until Ctrl-C. Every round opens new connections: the connect timeout finds a host that hangs."""
    cluster = context.open_cluster(args)
    password = context.ask_password("sudo password: ") if args.ask_become_pass else None
    report = judged(args, cluster, ask(args, cluster, password, again=True))
    with Live(console=show.stdout, auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            about = Text(f"{report.date}, again in {args.watch:g} s (Ctrl-C ends)", style="dim")
            shown = Group(about, table(report, verbose=args.verbose))
            if show.stdout.is_terminal:
                live.update(shown, refresh=True)
            else:
                show.stdout.print(shown)
            time.sleep(args.watch)
            report = judged(args, cluster, ask(args, cluster, password, again=True))


def _write(path: Path, text: str) -> None:
    try:
        atomic.write(path, text)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
