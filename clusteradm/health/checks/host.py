"""All checks of one host but those of its Edge TPUs, section by section of its document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from clusteradm.health.checks import clock, disk, export, links, machine, network, runtime, share, units
from clusteradm.health.finding import Finding, error, warning
from clusteradm.health.reading import Reading
from clusteradm.inventory import Cluster, Host

# A host is busy from so many processes on that run or wait to run, for each CPU; from so many seconds on that a section
# takes to start (a Dev Board takes half a second).
BUSY_PER_CPU, BUSY_LAG = 2, 2.0

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
        ("links", lambda about: links.judge(host, about, links.speeds(host, documents), _busy(document.part("load")))),
        ("share", lambda about: share.judge(cluster, host, about, serves=serves)),
        ("export", lambda about: export.judge(host, about)),
        ("runtime", lambda about: runtime.judge(host, about, tpus=_has_tpus(cluster, host, document))),
    ):
        about = document.part(section)
        if about.boolean("timeout") or about.has_only("error"):
            yield _failed(host, section, about, document.part("load"), serves=serves)
        elif about:
            yield from check(about)


def _has_tpus(cluster: Cluster, host: Host, document: Reading) -> bool:
    """Whether it has Edge TPUs, or is to have some, by the rule of playbooks/tpu.yml (`has_tpu`)."""
    declared = cluster.setting("cluster_tpus", host)
    return bool(document.part("tpu").values("pci")) or (isinstance(declared, int) and declared > 0)


def _failed(host: Host, section: str, about: Reading, load: Reading, *, serves: bool) -> Finding:
    """Finding for a section that has no facts: busy is told from ill."""
    check, what = _CHECKS.get(section, section), about.text("error")
    late = about.boolean("timeout") is True
    if late and (words := _busy(load)):
        remedy = "wait, and ask again; top on the host says what keeps it busy"
        return warning(host.name, check, "BUSY", f"the host is busy ({words}): the probe gave {what}", remedy)
    if late and section == "share":
        return share.stale(host, f"the shared directory gave {what}", serves=serves)
    remedy = "see on the host what hangs: ps -eo pid,stat,wchan:20,args | grep ' D'; dmesg | tail"
    if not late:
        remedy = "see whether the host is in order: dmesg | tail, df -h, systemctl --failed"
    return error(host.name, check, "UNKNOWN", f"the probe failed: {what}", remedy)


def _busy(load: Reading) -> str:
    """How busy a host is, in words; empty if it is not too busy to be judged by what it did not do in time."""
    cpus, running, lag = load.integer("cpus"), load.integer("running"), load.number("lag")
    words = []
    if cpus and running is not None and running > BUSY_PER_CPU * cpus:
        words.append(f"{running} processes run on {cpus} CPUs")
    if lag is not None and lag > BUSY_LAG:
        words.append(f"a process takes {lag:.1f} s to start")
    return ", ".join(words)
