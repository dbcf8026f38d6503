"""The rest of a host: clock, disk, failed units, private network, shared file system, inference runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from clusteradm.health import clock, links, machine, network, nfs, runtimes
from clusteradm.health.finding import Finding, doubtful, ill, well
from clusteradm.health.reading import Reading
from clusteradm.inventory import Cluster, Host

MIN_FREE_BYTES = 200 * 1024**2
MIN_FREE_SHARE = 0.05


def judge(cluster: Cluster, host: Host, documents: Mapping[str, object]) -> Iterator[Finding]:
    """One finding per check of the host. `documents`: those of all hosts, which the host is compared with."""
    document = Reading(documents[host.name])
    system = document.part("system")
    for section, check in (
        ("clock", lambda about: clock.judge(cluster, host, documents)),
        ("system", lambda about: [*_disk(host, about), *_units(host, about)]),
        ("machine", lambda about: machine.judge(host, about, system)),
        ("network", lambda about: network.judge(cluster, host, about)),
        ("links", lambda about: links.judge(host, about, links.speeds(documents))),
        ("share", lambda about: nfs.share(cluster, host, about)),
        ("export", lambda about: nfs.export(host, about)),
        ("runtime", lambda about: _runtime(host, about)),
    ):
        about = document.part(section)
        if about.only("error"):
            cause = f"the probe failed: {about.text('error')}"
            yield ill(host.name, section, "UNKNOWN", cause, "see whether the host is in order")
        elif about:
            yield from check(about)


def _disk(host: Host, system: Reading) -> Iterator[Finding]:
    free = {}
    for path, disk in system.named("disks").items():
        size, left, inodes, inodes_left = (disk.real(key) for key in ("size", "free", "inodes", "inodes_free"))
        if not size or left is None:
            continue
        if left < MIN_FREE_BYTES or left / size < MIN_FREE_SHARE:
            cause = f"{path} has {left / 1e6:.0f} of {size / 1e6:,.0f} MB free"
            yield ill(host.name, "disk", "FULL", cause, "make room: apt-get clean, journalctl --vacuum-size=50M")
            return
        if inodes and inodes_left is not None and inodes_left / inodes < MIN_FREE_SHARE:
            yield ill(host.name, "disk", "FULL", f"{path} has no free inodes", "remove what makes so many small files")
            return
        free[path] = left / size
    yield well(host.name, "disk", f"{min(free.values()):.0%} free" if free else "n/a")


def _units(host: Host, system: Reading) -> Iterator[Finding]:
    failed = system.texts("failed_units")
    if failed:
        cause = f"failed units: {', '.join(failed)}"
        yield doubtful(host.name, "units", "FAILED", cause, f"systemctl status {failed[0]} on the host says why")
    else:
        yield well(host.name, "units", "n/a" if failed is None else "ok")


def _runtime(host: Host, runtime: Reading) -> Iterator[Finding]:
    if problem := runtimes.problem(runtime):
        yield ill(host.name, "runtime", problem.state, problem.cause, problem.remedy, source=problem.source)
    elif not runtime.text("mpi4py"):
        cause = "mpi4py is not installed for the ranks' Python"
        yield ill(host.name, "runtime", "NO_MPI4PY", cause, runtimes.BOOTSTRAP)
    else:
        yield well(host.name, "runtime", runtimes.installed(runtime))
