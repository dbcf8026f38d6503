"""MPI as the head's cluster user sees it: can it start a process on every host, and do all write to one share?"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from clusteradm.health.finding import Finding, doubtful, ill, well
from clusteradm.inventory import Host

CHECK = "mpi"


# Links of one switch differ by less.
SLOW_SHARE = 0.4


def judge(hosts: Iterable[Host], document: Mapping[str, Any]) -> Iterator[Finding]:
    """One finding per host."""
    hello = document["hello"]
    apart = document.get("apart", {})
    guilty = [name for name, alone in apart.items() if name not in alone.get("said", ())]
    slow = _slow(hello.get("pairs", ()))
    for host in hosts:
        login = document["login"].get(host.name)
        if login is None:
            continue
        if not login["ok"]:
            cause = f"the head's cluster user cannot log in: {login['error']}"
            yield ill(host.name, CHECK, "NO_LOGIN", cause, "run clusteradm bootstrap")
        elif host.name in hello.get("said", ()) and host.name in hello.get("wrote", ()):
            yield slow.get(host.name) or well(host.name, CHECK, _detail(host.name, hello.get("pairs", ())))
        elif host.name in hello.get("said", ()):
            cause = "its MPI process wrote a file that the head does not see"
            yield ill(host.name, CHECK, "OTHER_SHARE", cause, "run clusteradm bootstrap; see the finding on nfs")
        elif host.name in apart and host.name not in guilty:
            cause = f"mpirun starts a process there, but not together with {', '.join(guilty) or 'the others'}"
            yield ill(host.name, CHECK, "HELD_UP", cause, "see the finding on mpi of the others")
        else:
            reason = apart.get(host.name, {}).get("error") or hello.get("error", "no reason given")
            cause = f"mpirun did not start a process there: {reason}"
            yield ill(host.name, CHECK, "NO_START", cause, "run clusteradm bootstrap; see the finding on the network")


def _detail(host: str, pairs: Iterable[Any]) -> str:
    """The slowest of the host's links."""
    own = [(rate, seconds, b if a == host else a) for a, b, seconds, rate in pairs if host in (a, b)]
    if not own:
        return "ok"
    rate, seconds, other = min(own)
    return f"{rate / 1e6:.0f} MB/s and {seconds * 1e6:.0f} µs to {other}, the slowest"


def _slow(pairs: Iterable[Any]) -> dict[str, Finding]:
    """A host whose links are all much slower than the usual one."""
    rates = [rate for _, _, _, rate in pairs]
    if len(rates) < 3:
        return {}
    usual = statistics.median(rates)
    best: dict[str, tuple[float, str]] = {}
    for a, b, _, rate in pairs:
        for one, other in ((a, b), (b, a)):
            best[one] = max(best.get(one, (0.0, "")), (rate, other))
    return {
        name: doubtful(
            name,
            CHECK,
            "SLOW_LINK",
            f"its best link, to {other}, carries {rate / 1e6:.0f} MB/s; the usual one {usual / 1e6:.0f} MB/s",
            "the cable, the switch's port; and what else uses the network now",
        )
        for name, (rate, other) in best.items()
        if rate < SLOW_SHARE * usual
    }
