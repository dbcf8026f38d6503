"""MPI as the head's cluster user sees it: can it start a process on every host, and do all write to one share?"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from clusteradm.health.finding import Finding, doubtful, ill, well
from clusteradm.health.reading import Reading, real
from clusteradm.inventory import Host

CHECK = "mpi"
# Links of one switch differ by less.
SLOW_SHARE = 0.4


@dataclass(frozen=True)
class Pair:
    """What MPI measured between two hosts: bytes per second, and seconds for the smallest message one way."""

    a: str
    b: str
    seconds: float
    rate: float


def judge(hosts: Iterable[Host], document: object) -> Iterator[Finding]:
    """One finding per host that the head's probe was asked about (node/probe/cluster.py)."""
    about = Reading(document)
    hello, logins, apart = about.part("hello"), about.named("login"), about.named("apart")
    said, wrote = hello.texts("said") or (), hello.texts("wrote") or ()
    # Who could not use the share anyway was not asked to write there; a survey of before asked everybody.
    asked = about.texts("writers") if about.has("writers") else tuple(logins)
    together = about.texts("hosts")
    guilty = [name for name, alone in apart.items() if name not in (alone.texts("said") or ())]
    pairs = _pairs(hello)
    slow = _slow(pairs)
    for host in hosts:
        login = logins.get(host.name)
        if login is None:
            continue
        if not login.truth("ok"):
            cause = f"the head's cluster user cannot log in: {login.text('error')}"
            yield ill(host.name, CHECK, "NO_LOGIN", cause, "run clusteradm bootstrap")
        elif host.name in said and host.name in (asked or ()) and host.name not in wrote:
            cause = "its MPI process wrote a file that the head does not see"
            yield ill(host.name, CHECK, "OTHER_SHARE", cause, "run clusteradm bootstrap; see the finding on nfs")
        elif host.name in said:
            yield slow.get(host.name) or well(host.name, CHECK, _detail(host.name, pairs))
        elif host.name in apart and host.name not in guilty and together is not None and host.name not in together:
            yield well(host.name, CHECK, "ok, asked alone")
        elif host.name in apart and host.name not in guilty:
            cause = f"mpirun starts a process there, but not together with {', '.join(guilty) or 'the others'}"
            yield ill(host.name, CHECK, "HELD_UP", cause, "see the finding on mpi of the others")
        else:
            alone = apart.get(host.name, Reading(None))
            reason = alone.text("error") or hello.text("error") or "no reason given"
            cause = f"mpirun did not start a process there: {reason}"
            yield ill(host.name, CHECK, "NO_START", cause, "run clusteradm bootstrap; see the finding on the network")


def _pairs(hello: Reading) -> list[Pair]:
    found = []
    for row in hello.values("pairs") or ():
        if not isinstance(row, list) or len(row) != 4 or not all(isinstance(name, str) for name in row[:2]):
            continue
        seconds, rate = real(row[2]), real(row[3])
        if seconds is not None and rate is not None:
            found.append(Pair(row[0], row[1], seconds, rate))
    return found


def _detail(host: str, pairs: Iterable[Pair]) -> str:
    """The slowest of the host's links."""
    own = [
        (pair.rate, pair.seconds, pair.b if pair.a == host else pair.a) for pair in pairs if host in (pair.a, pair.b)
    ]
    if not own:
        return "ok"
    rate, seconds, other = min(own)
    return f"{rate / 1e6:.0f} MB/s and {seconds * 1e6:.0f} µs to {other}, the slowest"


def _slow(pairs: Sequence[Pair]) -> dict[str, Finding]:
    """A host whose links are all much slower than the usual one."""
    if len(pairs) < 3:
        return {}
    usual = statistics.median(pair.rate for pair in pairs)
    best: dict[str, tuple[float, str]] = {}
    for pair in pairs:
        for one, other in ((pair.a, pair.b), (pair.b, pair.a)):
            best[one] = max(best.get(one, (0.0, "")), (pair.rate, other))
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
