"""Sections of a probe that gave no facts: a busy host is told from an ill one."""

from __future__ import annotations

from clusteradm.health.finding import Finding, error, warning
from clusteradm.health.reading import Reading

# A host is busy from so many processes on that run or wait to run, for each CPU; from so many seconds on that a section
# takes to start (a Dev Board takes half a second).
BUSY_PER_CPU, BUSY_LAG = 2, 2.0


def judge(host: str, check: str, about: Reading, load: Reading) -> Finding:
    """Finding for a section ("error", and "timeout" if it took too long); `load`: the document's section."""
    what, late = about.text("error"), is_late(about)
    if late and (words := busy(load)):
        remedy = "wait, and ask again; top on the host says what keeps it busy"
        return warning(host, check, "BUSY", f"the host is busy ({words}): the probe gave {what}", remedy)
    remedy = "see on the host what hangs: ps -eo pid,stat,wchan:20,args | grep ' D'; dmesg | tail"
    if not late:
        remedy = "see whether the host is in order: dmesg | tail, df -h, systemctl --failed"
    return error(host, check, "UNKNOWN", f"the probe failed: {what}", remedy)


def is_late(about: Reading) -> bool:
    """Whether the section ran out of time."""
    return about.boolean("timeout") is True


def busy(load: Reading) -> str:
    """How busy a host is, in words; empty if it is not too busy to be judged by what it did not do in time."""
    cpus, running, lag = load.integer("cpus"), load.integer("running"), load.number("lag")
    words = []
    if cpus and running is not None and running > BUSY_PER_CPU * cpus:
        words.append(f"{running} processes run on {cpus} CPUs")
    if lag is not None and lag > BUSY_LAG:
        words.append(f"a process takes {lag:.1f} s to start")
    return ", ".join(words)
