"""All checks of one host but those of its Edge TPUs, section by section of its document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from clusteradm.health.checks import clock, disk, export, links, machine, network, runtime, share, units
from clusteradm.health.finding import Finding, error
from clusteradm.health.reading import Reading
from clusteradm.inventory import Cluster, Host

# Check that a failed section is reported under, where the section is not a check of its own.
_CHECKS = {"system": disk.CHECK, "links": links.CHECK, "share": share.CHECK}


def judge(cluster: Cluster, host: Host, documents: Mapping[str, object]) -> Iterator[Finding]:
    """One finding per check; UNKNOWN for a section whose probe failed, none for one that was not asked for.

    `documents`: those of all hosts, by name, which some checks compare the host with.
    """
    document = Reading(documents[host.name])
    system = document.part("system")
    serves = Reading(documents.get(cluster.head.name)).part("export").boolean("answers") is True
    for section, check in (
        ("clock", lambda about: clock.judge(cluster, host, documents)),
        ("system", lambda about: [*disk.judge(host, about), *units.judge(host, about)]),
        ("machine", lambda about: machine.judge(host, about, system)),
        ("network", lambda about: network.judge(cluster, host, about)),
        ("links", lambda about: links.judge(host, about, links.speeds(host, documents))),
        ("share", lambda about: share.judge(cluster, host, about, serves=serves)),
        ("export", lambda about: export.judge(host, about)),
        ("runtime", lambda about: runtime.judge(host, about)),
    ):
        about = document.part(section)
        if about.has_only("error"):
            cause = f"the probe failed: {about.text('error')}"
            yield error(host.name, _CHECKS.get(section, section), "UNKNOWN", cause, "see whether the host is in order")
        elif about:
            yield from check(about)
