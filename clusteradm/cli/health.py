"""Check every host and every Edge TPU: one state, one cause, one remedy. Exits 0 only if every finding is ok."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Group, RenderableType
from rich.spinner import Spinner

from clusteradm import atomic, health
from clusteradm.cli import context, next_step, show
from clusteradm.cli.display import Display
from clusteradm.cli.health_forms.nagios import nagios, unknown
from clusteradm.cli.health_forms.prometheus import prometheus
from clusteradm.cli.health_forms.report import HealthReport
from clusteradm.cli.health_forms.table import table
from clusteradm.errors import ClusteradmError, UsageError
from clusteradm.fleet.drains import Drains
from clusteradm.health import Survey, saved
from clusteradm.health.anonymous import anonymous
from clusteradm.inventory import Cluster
from clusteradm.transport import Connections, Password

EXAMPLES = """\
examples:
  clusteradm health                              similar hosts in one row
  clusteradm health -v --limit 'coral-[0:3]'     every check, every TPU
  clusteradm health --watch 10                   every 10 s, until Ctrl-C
  clusteradm health --expect                     compare TPUs with the inventory
  clusteradm health --fix                        repair what is safe to repair
  clusteradm health --html report.html           a report to mail or print
  clusteradm health --save bug.json --anonymous  data for a bug report
  clusteradm health --from bug.json              judge saved data again
  clusteradm health --json | jq '.findings[] | select(.severity != "ok")'
  clusteradm health --format nagios              for a monitoring server

exit status:
  0    no errors and no warnings
  2    wrong usage or a bad inventory
  3    there are errors or warnings
  4    some hosts are unreachable
  130  interrupted
With --format nagios: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
"""

_PAUSE_SECONDS = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `clusteradm health`."""
    parser.add_argument("-v", "--verbose", action="store_true", help="show a row for every host and every TPU")
    parser.add_argument(
        "--format",
        choices=("table", "json", "prometheus", "nagios"),
        default="table",
        help="output format (default: %(default)s); --json is short for --format json",
    )
    parser.add_argument("--html", metavar="FILE", help="also write an HTML report")
    parser.add_argument(
        "--watch",
        nargs="?",
        type=seconds,
        const=_PAUSE_SECONDS,
        metavar="S",
        help=f"check again every S seconds (default: {_PAUSE_SECONDS:.0f}), until Ctrl-C",
    )
    parser.add_argument("--expect", action="store_true", help="report TPUs that the inventory does not declare")
    parser.add_argument(
        "--fix", action="store_true", help="repair what is safe (clock, mount, driver, permissions), then check again"
    )
    parser.add_argument("--save", metavar="FILE", help="save the hosts' answers, for --from or a bug report")
    parser.add_argument(
        "--anonymous", action="store_true", help="with --save: leave out secrets, names, addresses and serials"
    )
    parser.add_argument(
        "--from", dest="source", metavar="FILE", help="judge a file written by --save; connects to no host"
    )
    context.add_connection_arguments(parser, playbook=True, connect=context.QUICK_SECONDS)


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
        status, line = unknown(next_step.complete(str(error), args))
        show.data(line + "\n")
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
        show.data(prometheus(report))
    elif form == "nagios":
        status, line = nagios(report)
        show.data(line + "\n")
    else:
        show.stdout.print(table(report, verbose=verbose))
    return status


def _report(args: argparse.Namespace) -> HealthReport:
    if args.source:
        survey, cluster = saved.read(Path(args.source))
        # A saved survey has its inventory with it; -i overrides it, and the first versions had none.
        if args.inventory or cluster is None:
            cluster = context.open_cluster(args)
        else:
            context.say_cluster(args, cluster, args.source)
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
    spinner = Spinner("dots", text=show.text("checking the hosts"))
    with Display(show.stderr, lambda: spinner):
        return ask(args, cluster, password, progress=lambda text: spinner.update(text=show.text(text)))


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
        survey = health.collect(
            connections, hosts, sections=health.LIGHT if again else (), together=not again, progress=progress
        )
        if not again and cluster.head.name in survey.documents:
            _return_well(connections, survey)
    return survey


def _return_well(connections: Connections, survey: Survey) -> None:
    """Return the TPUs to service that failed in a job, and were found well now."""
    with contextlib.suppress(ClusteradmError):  # what is wrong with the head, the survey says
        for drain in Drains(connections).return_well(survey, health.judge(connections.cluster, survey)):
            show.message(f"{show.line(drain.subject)} works again: it is no longer drained ({show.line(drain.by)})")


def judged(args: argparse.Namespace, cluster: Cluster, survey: Survey) -> HealthReport:
    """Report of a survey."""
    findings = [
        dataclasses.replace(finding, remedy=next_step.complete(finding.remedy, args))
        for finding in health.judge(cluster, survey, undeclared=args.expect)
    ]
    return HealthReport.of(cluster, survey, findings)


def _watch(args: argparse.Namespace) -> None:
    """Repeat until Ctrl-C. Every round opens new connections: the connect timeout finds a host that hangs."""
    cluster = context.open_cluster(args)
    password = context.ask_password("sudo password: ") if args.ask_become_pass else None
    report = judged(args, cluster, ask(args, cluster, password, again=True))

    def shown() -> RenderableType:
        about = show.text((f"{report.date}, again in {args.watch:g} s (Ctrl-C ends)", "dim"))
        return Group(about, table(report, verbose=args.verbose))

    with Display(show.stdout, shown, lasting=True) as view:
        while True:
            if show.stdout.is_terminal:
                view.draw()
            else:
                show.stdout.print(shown())
            time.sleep(args.watch)
            report = judged(args, cluster, ask(args, cluster, password, again=True))


def _write(path: Path, text: str) -> None:
    try:
        atomic.write(path, text)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
