"""Version drift: packages that communicate between hosts, and kernels, in versions that differ between hosts.

Hosts are compared with those of their own release: another one has other versions, and no update brings them together.
Open MPI counts between all of them: its generations do not start each other's processes. A host of another generation
than the head's gets no rank, nor does one without the Open MPI of all hosts (cluster_mpi) where the head has that.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from clusteradm.health import runtimes
from clusteradm.health.finding import Finding, error, warning
from clusteradm.health.reading import Reading

CHECK = "drift"
GENERATION = "MPI_GENERATION"
MPI = "openmpi-bin"
# What a rebuilt libedgetpu has at the end of its version: the release that it was built for.
_BUILD = re.compile(r"\.(bullseye|bookworm|trixie|ubuntu[0-9.]+)\Z")
# Not in use where all hosts have one Open MPI.
_MPI_PACKAGES = (MPI, "libopenmpi3", "libopenmpi3t64", "libopenmpi40")
REMEDY = "apt-get update && apt-get install {} on the host, then clusteradm bootstrap"
_ONE_FOR_ALL = (
    "set cluster_mpi: wheel in the inventory, which gives all hosts one Open MPI, then clusteradm bootstrap; or "
    "install the same Debian release on it and on {}"
)


def judge(documents: Mapping[str, object], head: str) -> Iterator[Finding]:
    """One finding for each host whose version is not that of most hosts; without a majority, for every host.

    `documents`: host -> document of its probe. `head`: the host whose Open MPI counts.
    """
    distributed: dict[str, str] = {}
    wheels: dict[str, str] = {}
    packages: dict[str, dict[tuple[object, ...], dict[str, str]]] = {}
    kernels: dict[tuple[str | None, ...], dict[str, str]] = {}
    for name, document in documents.items():
        system, machine = Reading(document).part("system"), Reading(document).part("machine")
        release = system.text("id"), system.text("release")
        wheel = machine.text("mpi_wheel")
        if wheel:
            wheels[name] = wheel
        for package, version in machine.texts_by_name("packages").items():
            if package == MPI:
                distributed[name] = version
            if wheel and package in _MPI_PACKAGES:
                continue
            group: tuple[object, ...] = release
            if package.startswith("libedgetpu"):
                # Each release has a build of the same one, that goes with the host's Python; one that does not fit is
                # the check runtime's.
                group, version = (runtimes.registration(version),), _BUILD.sub("", version)
            packages.setdefault(package, {}).setdefault(group, {})[name] = version
        if kernel := system.text("kernel"):
            # Kernels are compared between machines of one model: a board and a PC never have the same one.
            kernels.setdefault((system.text("model"), *release), {})[name] = kernel
    strangers = {finding.host: finding for finding in _strangers(documents, head, wheels, distributed)}
    yield from strangers.values()
    for package, groups in sorted(packages.items()):
        if strangers and package == MPI:
            continue
        for of_host in groups.values():
            for name, difference in _differing(of_host):
                yield warning(name, CHECK, "PACKAGES", f"{package} is {difference}", REMEDY.format(package))
    remedy = "update its kernel and reboot it when no job runs on it"
    for alike in kernels.values():
        for name, difference in _differing(alike):
            yield warning(name, CHECK, "KERNEL", f"the kernel is {difference} like it", remedy)


def _strangers(
    hosts: Mapping[str, object], head: str, wheels: Mapping[str, str], distributed: Mapping[str, str]
) -> Iterator[Finding]:
    """A finding for each host on which the head's mpirun starts no process.

    `wheels`: the versions of the Open MPI of all hosts; `distributed`: those of the hosts' own.
    """
    if head not in wheels and head not in distributed:
        return
    own = wheels.get(head) or distributed[head]
    for name in (name for name in hosts if name in wheels or name in distributed):
        version = wheels.get(name) or distributed[name]
        pair = f"Open MPI {version}{_of_all(name in wheels)} here and {own}{_of_all(head in wheels)} on {head}"
        cause = f"{pair}: the two do not start each other's processes"
        if wheels.get(name) != wheels.get(head):
            yield error(
                name, CHECK, GENERATION, cause, "clusteradm bootstrap, which gives all hosts the one of cluster_mpi"
            )
        elif version.split(".")[0] != own.split(".")[0]:
            yield error(name, CHECK, GENERATION, cause, _ONE_FOR_ALL.format(head))


def _of_all(wheel: bool) -> str:
    return " of cluster_mpi: wheel" if wheel else ""


def _differing(values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Each host whose value is not that of the majority, with the difference in words."""
    ranked = Counter(values.values()).most_common()
    majority = len(ranked) > 1 and ranked[0][1] > ranked[1][1]
    for name, value in values.items():
        if majority and value != ranked[0][0]:
            yield name, f"{value} here and {ranked[0][0]} on most hosts"
        elif len(ranked) > 1 and not majority:
            others = ", ".join(other for other, _ in ranked if other != value)
            yield name, f"{value} here and {others} on other hosts"
