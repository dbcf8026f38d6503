"""All checks of one host but those of its Edge TPUs, section by section of its document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from clusteradm.health import unanswered
from clusteradm.health.checks import clock, disk, export, links, machine, network, runtime, share, units
from clusteradm.health.finding import Finding
from clusteradm.health.reading import Reading
from clusteradm.inventory import Cluster, Host

# Check that a failed section is reported under, where the section is not a check of its own.
_CHECKS = {"system": disk.CHECK, "links": links.CHECK, "share": share.CHECK}


def judge(cluster: Cluster, host: Host, documents: Mapping[str, object]) -> Iterator[Finding]:
    """One finding per check; UNKNOWN for a section whose probe failed, none for one that was not asked for.

    `documents`: those of all hosts, by name, which some checks compare the host with.
    """
    document = Reading(documents[host.name])
    system, load = document.part("system"), document.part("load")
    serves = Reading(documents.get(cluster.head.name)).part("export").boolean("answers") is True
    for section, check in (
        ("clock", lambda about: clock.judge(cluster, host, documents)),
        ("system", lambda about: [*disk.judge(host, about), *units.judge(host, about)]),
        ("machine", lambda about: machine.judge(host, about, system)),
        ("network", lambda about: network.judge(cluster, host, about)),
        ("links", lambda about: links.judge(host, about, links.speeds(host, documents), unanswered.busy(load))),
        ("share", lambda about: share.judge(cluster, host, about, serves=serves)),
        ("export", lambda about: export.judge(host, about)),
        ("runtime", lambda about: runtime.judge(host, about, tpus=_has_tpus(cluster, host, document))),
    ):
        about = document.part(section)
        if about.boolean("timeout") or about.has_only("error"):
            yield _failed(host, section, about, load, serves=serves)
        elif about:
            yield from check(about)


def _has_tpus(cluster: Cluster, host: Host, document: Reading) -> bool:
    """Whether it has Edge TPUs, or is to have some, by the rule of playbooks/tpu.yml (`has_tpu`)."""
    declared = cluster.setting("cluster_tpus", host)
    return bool(document.part("tpu").values("pci")) or (isinstance(declared, int) and declared > 0)


def _failed(host: Host, section: str, about: Reading, load: Reading, *, serves: bool) -> Finding:
    """Finding for a section that has no facts: a share that hangs is the server's, unless the host is busy."""
    if section == "share" and unanswered.is_late(about) and not unanswered.busy(load):
        return share.stale(host, f"the shared directory gave {about.text('error')}", serves=serves)
    return unanswered.judge(host.name, _CHECKS.get(section, section), about, load)
