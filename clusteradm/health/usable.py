"""Usable TPUs: the hosts and their TPUs that a job may run on, from a survey and its findings."""

from __future__ import annotations

from collections.abc import Iterable

from clusteradm.health import tpu
from clusteradm.health.checks import share
from clusteradm.health.finding import Finding
from clusteradm.health.survey import Survey
from clusteradm.health.tpu import Tpu


def slots(
    survey: Survey, findings: Iterable[Finding], *, of_jobs: bool = False, of_others: bool = False
) -> dict[str, tuple[Tpu, ...]]:
    """Host -> its healthy TPUs that are not in use, for every host that answered and can use the shared directory.

    `findings`: those of the survey, which has to have the sections FOR_JOBS. A rank on a host that cannot use the share
    would hold up all of MPI. `of_jobs`: also TPUs that jobs of this cluster have; `of_others`: that anybody has.
    """
    blocked = {each.host for each in findings if blocks_jobs(each)}
    return {
        name: tpu.healthy(name, document, of_jobs=of_jobs, of_others=of_others)
        for name, document in survey.documents.items()
        if name not in blocked
    }


def may_pass(finding: Finding) -> bool:
    """Whether it keeps jobs off its host and may be that of a busy moment: another look is worth it."""
    return not finding.ok and finding.check == share.CHECK and finding.state in share.SLOW


def blocks_jobs(finding: Finding) -> bool:
    """Whether the finding keeps every job off its host."""
    return not finding.ok and (
        finding.check == "ssh" or (finding.check == share.CHECK and finding.state in share.UNFIT)
    )
