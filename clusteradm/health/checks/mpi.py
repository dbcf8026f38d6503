"""MPI from the head, as the cluster user: starts a process on every host, exchanges messages, writes to one share."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from clusteradm.health.checks import login as logins_of
from clusteradm.health.finding import Finding, error, ok, warning
from clusteradm.health.reading import Reading, as_number
from clusteradm.inventory import Host

CHECK = "mpi"
# A link below this share of the usual rate is slow; links of one switch differ by less.
SLOW_SHARE = 0.4
_SUBNET_REMEDY = (
    "MPI's messages go by the cluster's subnet alone: see /etc/openmpi/openmpi-mca-params.conf on the hosts, and "
    "firewalls between them (any TCP port)"
)
_TRY_REMEDY = "try on the head, as the cluster user: mpirun --hostfile /etc/clusteradm/hostfile hostname"


@dataclass(frozen=True)
class Pair:
    """Measurement between two hosts: `rate` in bytes per second; `seconds` for the smallest message, one way."""

    a: str
    b: str
    seconds: float
    rate: float


def judge(hosts: Iterable[Host], document: object, documents: Mapping[str, object]) -> Iterator[Finding]:
    """One finding for each host that the head's cluster probe was asked about (clusteradm/node/probe/cluster.py).

    `documents`: those of the hosts, by name.
    """
    about = Reading(document)
    hello, logins, apart = about.part("hello"), about.parts_by_name("login"), about.parts_by_name("apart")
    said, wrote = hello.texts("said") or (), hello.texts("wrote") or ()
    # A host that cannot use the share is not asked to write to it; older surveys asked every host.
    asked = about.texts("writers") if about.has("writers") else tuple(logins)
    together = about.texts("hosts")
    failed = [name for name, alone in apart.items() if name not in (alone.texts("said") or ())]
    blocking = [name for name in failed if together is None or name in together]
    reason = hello.text("error") or "no reason given"
    hosts = list(hosts)
    pairs = _pairs(hello)
    slow = _slow(pairs)
    joined = [name for name in logins if together is None or name in together]
    reporter = None if pairs else _reporter(hosts, hello, joined)
    for host in hosts:
        login = logins.get(host.name)
        if login is None:
            continue
        if not login.boolean("ok"):
            section = Reading(documents.get(host.name)).part("login")
            cause, remedy = logins_of.refused(host, login.text("error") or "no reason given", section)
            yield error(host.name, CHECK, "NO_LOGIN", cause, remedy)
        elif host is reporter:
            cause = f"mpirun starts a process on each host, but they cannot exchange messages: {reason}"
            yield error(host.name, CHECK, "NO_MESSAGES", cause, _SUBNET_REMEDY)
        elif host.name in said and host.name in (asked or ()) and host.name not in wrote:
            cause = "its MPI process wrote a file that the head does not see"
            yield error(host.name, CHECK, "OTHER_SHARE", cause, "run clusteradm bootstrap; see the finding on nfs")
        elif host.name in said:
            yield slow.get(host.name) or ok(host.name, CHECK, _detail(host.name, pairs))
        elif host.name in apart and host.name not in failed and together is not None and host.name not in together:
            yield ok(host.name, CHECK, "ok, asked alone")
        elif host.name in apart and host.name not in failed and blocking:
            cause = f"mpirun starts a process there, but not together with {', '.join(blocking)}"
            yield error(host.name, CHECK, "HELD_UP", cause, "see the finding on mpi of the others")
        elif host.name in apart and host.name not in failed:
            cause = f"mpirun starts a process there alone, but not together with the others: {reason}"
            yield error(host.name, CHECK, "HELD_UP", cause, _TRY_REMEDY)
        elif host.name not in apart and together is not None:
            yield ok(host.name, CHECK, "n/a, not asked")
        else:
            # Older surveys have no runs of single hosts.
            why = apart[host.name].text("error") or "no reason given" if host.name in apart else reason
            cause = f"mpirun did not start a process there: {why}"
            yield error(host.name, CHECK, "NO_START", cause, "run clusteradm bootstrap; see the finding on the network")


def _reporter(hosts: Sequence[Host], hello: Reading, asked: Sequence[str]) -> Host | None:
    """Host of the finding NO_MESSAGES: the head if it was asked. None unless MPI failed after every host started."""
    said = hello.texts("said") or ()
    if hello.boolean("ok") is not False or not all(name in said for name in asked):
        return None
    there = [host for host in hosts if host.name in asked]
    return next((host for host in there if host.is_head), there[0] if there else None)


def _pairs(hello: Reading) -> list[Pair]:
    found = []
    for row in hello.values("pairs") or ():
        if not isinstance(row, list) or len(row) != 4 or not all(isinstance(name, str) for name in row[:2]):
            continue
        seconds, rate = as_number(row[2]), as_number(row[3])
        if seconds is not None and rate is not None:
            found.append(Pair(row[0], row[1], seconds, rate))
    return found


def _detail(host: str, pairs: Iterable[Pair]) -> str:
    """Rate and latency of the host's slowest link, in words."""
    own = [
        (pair.rate, pair.seconds, pair.b if pair.a == host else pair.a) for pair in pairs if host in (pair.a, pair.b)
    ]
    if not own:
        return "ok"
    rate, seconds, other = min(own)
    return f"{rate / 1e6:.0f} MB/s and {seconds * 1e6:.0f} µs to {other}, the slowest"


def _slow(pairs: Sequence[Pair]) -> dict[str, Finding]:
    """Host -> its finding, for hosts whose links are all much slower than the usual one."""
    if len(pairs) < 3:
        return {}
    usual = statistics.median(pair.rate for pair in pairs)
    links: dict[str, list[tuple[float, str]]] = {}
    for pair in pairs:
        for one, other in ((pair.a, pair.b), (pair.b, pair.a)):
            links.setdefault(one, []).append((pair.rate, other))
    # A single link may be slow because of the other host.
    best = {name: max(own) for name, own in links.items() if len(own) > 1}
    return {
        name: warning(
            name,
            CHECK,
            "SLOW_LINK",
            f"its best link, to {other}, carries {rate / 1e6:.0f} MB/s; the usual one {usual / 1e6:.0f} MB/s",
            "the cable, the switch's port; and what else uses the network now",
        )
        for name, (rate, other) in best.items()
        if rate < SLOW_SHARE * usual
    }
