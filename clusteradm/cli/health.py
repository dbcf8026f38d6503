"""Look at every host and every Edge TPU: one state, one cause, one remedy. Exits 0 only if all is well."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table
from rich.text import Text

from clusteradm import health
from clusteradm.cli import context, show
from clusteradm.health import Finding, Severity
from clusteradm.inventory import Cluster

EXAMPLES = """\
examples:
  clusteradm health                              every host of the inventory
  clusteradm health --limit 'coral-[0:3]'        only these
  clusteradm health --save today.json            keep what was seen
  clusteradm health --from today.json            judge it again, with no connection
  clusteradm health --json | jq '.findings[] | select(.severity != "ok")'

exit status: 0 all is well, 3 something is ill, 4 a host does not answer
"""

_STYLES = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.ERROR: "red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `clusteradm health`."""
    context.add_connection_arguments(parser)
    parser.add_argument(
        "--from", dest="source", metavar="FILE", help="judge a saved survey instead of asking the hosts"
    )
    parser.add_argument("--save", metavar="FILE", help="keep what the hosts said, for --from")


def run(args: argparse.Namespace) -> int:
    """Survey, judge, show."""
    cluster = context.open_cluster(args)
    hosts = cluster.select(args.limit) if args.limit else tuple(cluster.hosts.values())
    if args.source:
        survey = health.Survey.load(Path(args.source)).only(hosts)
    else:
        with context.open_fleet(args, cluster) as fleet, show.stderr.status("asking the hosts") as status:
            survey = health.survey(fleet, hosts, together=True, progress=lambda text: status.update(text))
    if args.save:
        survey.save(Path(args.save))
    findings = health.judge(cluster, survey)
    if args.json:
        show.json_document("health", _document(findings))
    else:
        _show(cluster, findings)
    if any(finding.state == "UNREACHABLE" for finding in findings):
        return 4
    return 3 if any(not finding.ok for finding in findings) else 0


def _document(findings: Sequence[Finding]) -> dict[str, object]:
    rows = [{**asdict(finding), "severity": finding.severity.name.lower()} for finding in findings]
    counts = {severity.name.lower(): sum(finding.severity is severity for finding in findings) for severity in Severity}
    return {"findings": rows, "summary": counts}


def _show(cluster: Cluster, findings: Sequence[Finding]) -> None:
    """One row per host and per TPU; below, what is ill, why, and what to do."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("SUBJECT", "STATE", "SEEN"):
        table.add_column(column, overflow="fold", no_wrap=column != "SEEN")
    for subject in dict.fromkeys(finding.subject for finding in findings):
        mine = [finding for finding in findings if finding.subject == subject]
        # A host's missing TPU has the host as its subject, and a row of its own.
        for rows in ([each for each in mine if each.check != "tpu"], *[[each] for each in mine if each.check == "tpu"]):
            if rows:
                worst = max(rows, key=lambda each: each.severity)
                table.add_row(subject, Text(worst.state, style=_STYLES[worst.severity]), _seen(rows))
    show.stdout.print(table)
    sick = [finding for finding in findings if not finding.ok]
    for alike in _fold(sick):
        first = alike[0]
        show.stdout.print()
        subjects = ", ".join(finding.subject for finding in alike)
        show.stdout.print(Text(f"{subjects}  {first.check}: {first.state}", style=_STYLES[first.severity]))
        for cause in dict.fromkeys(finding.cause for finding in alike):
            whose = [finding.subject for finding in alike if finding.cause == cause]
            show.stdout.print(f"  cause:  {cause}" + (f" ({', '.join(whose)})" if len(whose) < len(alike) else ""))
        show.stdout.print(f"  remedy: {first.remedy}")
    tpus = [finding for finding in findings if finding.check == "tpu"]
    hosts = len({finding.host for finding in findings})
    show.stdout.print()
    show.stdout.print(
        f"{hosts} hosts, {sum(finding.ok for finding in tpus)} of {len(tpus)} Edge TPUs OK, "
        + ("all is well" if not sick else f"{len(sick)} finding{'s' * (len(sick) > 1)} to attend to")
    )


def _fold(findings: Iterable[Finding]) -> Iterable[Sequence[Finding]]:
    """Findings that ask for the same, together: a sick switch is one thing to read, not thirty."""
    folded: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        folded.setdefault((finding.check, finding.state, finding.remedy), []).append(finding)
    return folded.values()


def _seen(findings: Iterable[Finding]) -> str:
    parts = []
    for finding in findings:
        if finding.check == "tpu":
            parts.append(finding.detail or finding.cause)
        else:
            parts.append(f"{finding.check} {finding.detail if finding.ok else finding.state}")
    return "; ".join(parts)
