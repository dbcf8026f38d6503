"""Version drift: packages that communicate between hosts, and kernels, in versions that differ between hosts.

Open MPI's generations do not start each other's processes: a host of another generation than the head's gets no rank.
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
REMEDY = "apt-get update && apt-get install {} on the host, then clusteradm bootstrap"


def judge(documents: Mapping[str, object], head: str) -> Iterator[Finding]:
    """One finding for each host whose version is not that of most hosts; without a majority, for every host.

    `documents`: host -> document of its probe. `head`: the host whose generation of Open MPI counts.
    """
    packages: dict[tuple[str, int | None], dict[str, str]] = {}
    kernels: dict[str | None, dict[str, str]] = {}
    for name, document in documents.items():
        system = Reading(document).part("system")
        for package, version in Reading(document).part("machine").texts_by_name("packages").items():
            generation = None
            if package.startswith("libedgetpu"):
                # Each host's goes with its Python and its release; one that does not fit is the check runtime's.
                generation, version = runtimes.registration(version), _BUILD.sub("", version)
            packages.setdefault((package, generation), {})[name] = version
        if kernel := system.text("kernel"):
            # Kernels are compared between machines of one model: a board and a PC never have the same one.
            kernels.setdefault(system.text("model"), {})[name] = kernel
    strangers = dict(_other_generations(packages.get((MPI, None), {}), head))
    for name, cause in strangers.items():
        remedy = (
            f"install the Debian release of {head} on it, or that of the other hosts on {head}: one Open MPI on all"
        )
        yield error(name, CHECK, GENERATION, cause, remedy)
    for (package, _), of_host in sorted(packages.items(), key=lambda item: item[0][0]):
        if strangers and package == MPI:
            continue
        for name, difference in _differing(of_host):
            yield warning(name, CHECK, "PACKAGES", f"{package} is {difference}", REMEDY.format(package))
    remedy = "update its kernel and reboot it when no job runs on it"
    for alike in kernels.values():
        for name, difference in _differing(alike):
            yield warning(name, CHECK, "KERNEL", f"the kernel is {difference} like it", remedy)


def _other_generations(versions: Mapping[str, str], head: str) -> Iterator[tuple[str, str]]:
    """Each host with another first number of its version than the head, with the cause in words."""
    own = versions.get(head)
    for name, version in versions.items():
        if own and version.split(".")[0] != own.split(".")[0]:
            yield name, f"Open MPI {version} here and {own} on {head}: the two do not start each other's processes"


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
