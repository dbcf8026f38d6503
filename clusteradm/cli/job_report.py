"""`--report`: a page about a job, of what its head and its results say."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from clusteradm import atomic
from clusteradm.cli import infer_output, next_step, show
from clusteradm.cli.infer_output import Wanted
from clusteradm.cli.job_view import counting
from clusteradm.errors import UsageError
from clusteradm.inventory import Cluster
from clusteradm.jobs import JobReport, Jobs, Results, build, sheet
from clusteradm.jobs.sheet import Failure, Picture
from clusteradm.node.spec.wire.job_names import COMPLETE, RESULTS, UNFINISHED
from clusteradm.node.spec.wire.job_requests import JobDetails

_ELSEWHERE = "The pictures were not at hand when this page was written."


@dataclass(frozen=True)
class Sheet:
    """What a page has besides figures."""

    details: JobDetails
    failures: Sequence[Failure] = ()
    pictures: Sequence[Picture] = ()
    no_pictures: str = ""


def gather(args: argparse.Namespace, asked: Wanted, jobs: Jobs, results: Results) -> Sheet | None:
    """What the page of --report needs of the head and of the inputs; None where none is asked for."""
    if args.report is None:
        return None

    def fetch(name: str, into: BinaryIO) -> None:
        jobs.fetch(results.job, name, into)

    details = jobs.show(results.job, timeline=True)
    failures = sheet.failures(results.lines())
    if not asked.pictures:
        return Sheet(details, failures, no_pictures=_ELSEWHERE)
    pictures: list[Picture] = []
    with counting("drawing the report's pictures") as progress:
        for picture in sheet.pictures(results.lines, asked.pictures, fetch):
            pictures.append(picture)
            progress(len(pictures), sheet.MOST_PICTURES)
    reasons = {picture.why for picture in pictures if picture.jpeg is None}
    if len(reasons) == 1 and all(picture.jpeg is None for picture in pictures):  # as where a package is missing
        return Sheet(details, failures, no_pictures=reasons.pop())
    return Sheet(details, failures, pictures)


def write(args: argparse.Namespace, cluster: Cluster, report: JobReport, about: Sheet) -> None:
    """Write the page to the file of --report, and say so."""
    from clusteradm.cli.job_page import JobPage, html  # Jinja, which nothing else of a job needs

    details = about.details
    page = JobPage(
        str(cluster.setting("cluster_name")),
        report,
        details.status,
        details.timeline,
        about.failures,
        about.pictures,
        about.no_pictures,
    )
    save(args.report, html(page), f"the job has ended, and the page can be had again: {_again(report.job)}")


def _again(job: str) -> str:
    return f"clusteradm job show {job} --report FILE"


def save(path: Path, page: str, next_step: str) -> None:
    """Write a page, and say where it is. Raises UsageError with the next step."""
    try:
        atomic.write(path, page.encode("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", next_step=next_step) from error
    show.message(f"the report is in {show.line(str(path))}")


def of_ended(args: argparse.Namespace, job: str, jobs: Jobs, cluster: Cluster) -> dict[str, Any]:
    """Write the page of a job that has ended, complete or not; its figures. Raises UsageError while it runs."""
    infer_output.check_report(args)
    details = jobs.show(job, timeline=True)
    status = details.status
    if status.state in UNFINISHED or status.model is None or status.started is None:
        what = f"job {job} is {status.state}: it has nothing to report yet"
        raise UsageError(what, next_step=next_step.command(f"job attach {job} --report {args.report}", args))
    failures: list[Failure] = []
    # The results of a folder that is watched are with the command that watches it.
    if status.state == COMPLETE and details.spec.watch is None:
        with infer_output.fetched(args, jobs, job, RESULTS, _again(job)) as file:
            failures = sheet.failures(Results(job, jobs.head, file).lines())
    report = build(job, status, None)
    write(args, cluster, report, Sheet(details, failures, no_pictures=_ELSEWHERE))
    return {**report.to_json(), "state": status.state, "report": str(args.report)}
