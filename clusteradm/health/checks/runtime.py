"""Libraries that a job's ranks load on a host: TensorFlow Lite runtime, libedgetpu and mpi4py, in versions that fit."""

from __future__ import annotations

from collections.abc import Iterator

from clusteradm.health import runtimes
from clusteradm.health.finding import BOOTSTRAP, Finding, error, ok
from clusteradm.health.reading import Reading
from clusteradm.inventory import Host

CHECK = "runtime"


def judge(host: Host, runtime: Reading, *, tpus: bool = True) -> Iterator[Finding]:
    """One finding. `tpus`: whether the host has Edge TPUs, or is to have some: else bootstrap installs no library."""
    if issue := runtimes.issue(runtime, tpus=tpus):
        yield error(host.name, CHECK, issue.state, issue.cause, issue.remedy, source=issue.source)
    elif not runtime.text("mpi4py"):
        cause = "mpi4py is not installed for the ranks' Python"
        yield error(host.name, CHECK, "NO_MPI4PY", cause, BOOTSTRAP)
    else:
        yield ok(host.name, CHECK, runtimes.installed(runtime))
