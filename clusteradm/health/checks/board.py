"""All of a host but its Edge TPUs: section by section, each judged by the module that knows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from clusteradm.health.checks import clock, disk, links, machine, network, nfs, runtimes
from clusteradm.health.finding import BOOTSTRAP, Finding, error, ok, warning
from clusteradm.health.reading import Reading
from clusteradm.inventory import Cluster, Host

# What a section's own check is called, where it is not called the same.
_CHECKS = {"system": disk.CHECK, "links": links.CHECK, "share": nfs.CHECK}


def judge(cluster: Cluster, host: Host, documents: Mapping[str, object]) -> Iterator[Finding]:
    """One finding per check of the host. `documents`: those of all hosts, which the host is compared with."""
    document = Reading(documents[host.name])
    system = document.part("system")
    serves = Reading(documents.get(cluster.head.name)).part("export").truth("answers") is True
    for section, check in (
        ("clock", lambda about: clock.judge(cluster, host, documents)),
        ("system", lambda about: [*disk.judge(host, about), *_units(host, about)]),
        ("machine", lambda about: machine.judge(host, about, system)),
        ("network", lambda about: network.judge(cluster, host, about)),
        ("links", lambda about: links.judge(host, about, links.speeds(host, documents))),
        ("share", lambda about: nfs.share(cluster, host, about, serves=serves)),
        ("export", lambda about: nfs.export(host, about)),
        ("runtime", lambda about: _runtime(host, about)),
    ):
        about = document.part(section)
        if about.only("error"):
            cause = f"the probe failed: {about.text('error')}"
            yield error(host.name, _CHECKS.get(section, section), "UNKNOWN", cause, "see whether the host is in order")
        elif about:
            yield from check(about)


def _units(host: Host, system: Reading) -> Iterator[Finding]:
    failed = system.texts("failed_units")
    if failed:
        cause = f"failed units: {', '.join(failed)}"
        yield warning(host.name, "units", "FAILED", cause, f"systemctl status {failed[0]} on the host says why")
    else:
        yield ok(host.name, "units", "n/a" if failed is None else "ok")


def _runtime(host: Host, runtime: Reading) -> Iterator[Finding]:
    if problem := runtimes.problem(runtime):
        yield error(host.name, "runtime", problem.state, problem.cause, problem.remedy, source=problem.source)
    elif not runtime.text("mpi4py"):
        cause = "mpi4py is not installed for the ranks' Python"
        yield error(host.name, "runtime", "NO_MPI4PY", cause, BOOTSTRAP)
    else:
        yield ok(host.name, "runtime", runtimes.installed(runtime))
