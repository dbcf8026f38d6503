"""Version drift: packages that communicate between hosts, and kernels, in versions that differ between hosts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from clusteradm.health.finding import Finding, warning
from clusteradm.health.reading import Reading

CHECK = "drift"
REMEDY = "apt-get update && apt-get install {} on the host, then clusteradm bootstrap"


def judge(documents: Mapping[str, object]) -> Iterator[Finding]:
    """One finding for each host whose version is not that of most hosts; without a majority, for every host.

    `documents`: host -> document of its probe.
    """
    packages: dict[str, dict[str, str]] = {}
    kernels: dict[str | None, dict[str, str]] = {}
    for name, document in documents.items():
        system = Reading(document).part("system")
        for package, version in Reading(document).part("machine").texts_by_name("packages").items():
            packages.setdefault(package, {})[name] = version
        if kernel := system.text("kernel"):
            # Kernels are compared between machines of one model: a board and a PC never have the same one.
            kernels.setdefault(system.text("model"), {})[name] = kernel
    for package, of_host in sorted(packages.items()):
        for name, difference in _differing(of_host):
            yield warning(name, CHECK, "PACKAGES", f"{package} is {difference}", REMEDY.format(package))
    remedy = "update its kernel and reboot it when no job runs on it"
    for alike in kernels.values():
        for name, difference in _differing(alike):
            yield warning(name, CHECK, "KERNEL", f"the kernel is {difference} like it", remedy)


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
