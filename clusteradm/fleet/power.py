"""Reboot and power-off of hosts: in turns, with a drain, or all at once, the head last."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from clusteradm import health
from clusteradm.errors import ClusteradmError, HostFailed, HostUnreachable, UsageError
from clusteradm.fleet.drains import Drains
from clusteradm.health import Severity
from clusteradm.inventory import Host
from clusteradm.node.spec.wire.node import Hello
from clusteradm.node.spec.wire.power import POWEROFF, REBOOT, ChangePower
from clusteradm.transport import Connections, Outcome
from clusteradm.transport.boot import await_boot
from clusteradm.transport.fanout import fan_out

_MESSAGE = "by clusteradm"
_POLL = 2.0
_OFF_SECONDS = 90.0
# What is judged before and after: what can be asked without opening a TPU.
_SECTIONS = health.LIGHT

# Called with a host's name and what is done there.
Say = Callable[[str, str], None]
# The running jobs by host.
Busy = Callable[[], Mapping[str, Sequence[str]]]


@dataclass(frozen=True)
class Waits:
    """Longest times, in seconds: for a host to answer again, for it to be healthy then, for the jobs on it to end.

    `jobs`: None for not at all: they go on on other hosts.
    """

    boot: float = 600.0
    health: float = 300.0
    jobs: float | None = 3600.0


@dataclass
class Turns:
    """What came of a rolling reboot. `errors`: of the hosts at which it stopped; `drained`: those that were left out of
    service; `left`: hosts that had no turn then."""

    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    errors: dict[str, ClusteradmError] = field(default_factory=dict)
    drained: list[str] = field(default_factory=list)


def head_last(hosts: Iterable[Host]) -> list[Host]:
    """The hosts in their order, the head at the end. Raises UsageError for the machine that clusteradm runs on."""
    chosen = list(hosts)
    for host in chosen:
        if host.is_local:
            raise UsageError(f"{host.name} is this machine: do it by hand, or leave it out: --limit 'all:!{host.name}'")
    return sorted(chosen, key=lambda host: host.is_head)


def at_once(connections: Connections, hosts: Sequence[Host], action: str, waits: Waits, say: Say) -> Outcome[float]:
    """Reboot the hosts, or switch them off, all at once and the head after the others. Seconds until each was done.

    A host that is rebooted is done when it answers again; one that is switched off, when it does not answer any more.
    """
    ordered = head_last(hosts)
    connections.open(ordered)
    outcome: Outcome[float] = Outcome()
    for some in ([host for host in ordered if not host.is_head], [host for host in ordered if host.is_head]):
        # All at once, whatever --forks is: each of them waits.
        part = fan_out(some, lambda host: _change(connections, host, action, waits, say), forks=max(1, len(some)))
        outcome.ok.update(part.ok)
        outcome.failed.update(part.failed)
    return outcome


def in_turns(
    connections: Connections,
    hosts: Sequence[Host],
    number: int,
    waits: Waits,
    busy: Busy,
    by: str,
    say: Say,
    turns: Turns,
) -> None:
    """Reboot `number` hosts at a time. Each is drained, waited for until no job is on it, rebooted, and returned to
    service when it is as healthy as before. After a host that is not, no other is begun, and it stays drained.

    `busy` asks the head for the running jobs; `by`: who drains; `turns`: what comes of it, also where Ctrl-C ends it.
    """
    ordered = head_last(hosts)
    connections.open([connections.cluster.head, *ordered])
    asked = threading.Lock()
    turns.left = [host.name for host in ordered]
    while ordered and not turns.errors:
        # The head by itself: the others' drains are kept there.
        count = next((index for index, host in enumerate(ordered) if host.is_head), len(ordered)) or 1
        some, ordered = ordered[: min(number, count)], ordered[min(number, count) :]
        turns.left = [host.name for host in ordered]
        outcome = fan_out(
            some,
            lambda host: _Turn(connections, host, waits, by, say, asked, turns.drained).run(busy),
            forks=max(1, len(some)),
        )
        turns.done += [host.name for host in some if host.name in outcome.ok]
        turns.errors.update(outcome.failed)


@dataclass
class _Turn:
    """The turn of one host. `asked`: held while the head is asked, whose conversation all turns share; `drained`: the
    hosts that are out of service now because of this run."""

    connections: Connections
    host: Host
    waits: Waits
    by: str
    say: Say
    asked: threading.Lock
    drained: list[str]

    def run(self, busy: Busy) -> None:
        host, say = self.host, self.say
        drains = Drains(self.connections)
        with self.asked if host.is_head else contextlib.nullcontext():
            before = _errors(self.connections, host)
        if any(check == "ssh" for check, _ in before):
            raise HostUnreachable("it does not answer: it cannot be rebooted", where=host.name)
        with self.asked:
            mine = host.name not in {drain.subject for drain in drains.all()}
            if mine:
                # Before it is asked: Ctrl-C or a lost connection may come between the drain and its answer.
                self.drained.append(host.name)
                try:
                    drains.drain([host.name], reason="clusteradm reboot", by=self.by)
                except HostFailed:  # the head has refused it
                    self.drained.remove(host.name)
                    raise
                say(host.name, "drained")
        try:
            if self.waits.jobs is not None:
                self._await_jobs(self.waits.jobs, busy)
        except BaseException:
            if mine:  # nothing was done to it
                with contextlib.suppress(ClusteradmError):
                    self._undrain(drains)
            raise
        _change(self.connections, host, REBOOT, self.waits, say)
        _await_health(self.connections, host, before, self.waits.health, say)
        if mine:
            self._undrain(drains)
        say(host.name, "in service" if mine else "healthy; it was drained before, and stays so")

    def _undrain(self, drains: Drains) -> None:
        with self.asked:
            drains.undrain([self.host.name])
            self.drained.remove(self.host.name)

    def _await_jobs(self, seconds: float, busy: Busy) -> None:
        end = time.monotonic() + seconds
        told: list[str] = []
        while jobs := self._jobs(busy):
            if time.monotonic() > end:
                raise HostFailed(
                    f"job {', '.join(jobs)} still uses it after {seconds:.0f} s; it was not rebooted",
                    where=self.host.name,
                    next_step="wait longer (--job-timeout S), or have its work go on on other hosts: --hand-on",
                )
            if jobs != told:
                self.say(self.host.name, f"waiting for the end of job {', '.join(jobs)}")
                told = jobs
            time.sleep(_POLL)

    def _jobs(self, busy: Busy) -> list[str]:
        """The jobs on the host; on the head, which gives out their work, all."""
        with self.asked:
            found = busy()
        return sorted(
            {job for host, jobs in found.items() if self.host.is_head or host == self.host.name for job in jobs}
        )


def _change(connections: Connections, host: Host, action: str, waits: Waits, say: Say) -> float:
    started = time.monotonic()
    boot = connections.node(host).call(ChangePower(action, _MESSAGE), timeout=60.0).boot
    say(host.name, "rebooting" if action == REBOOT else "switching off")
    if action == POWEROFF:
        _await_off(connections, host, boot)
        say(host.name, "does not answer any more")
    else:
        try:
            await_boot(connections, host, boot, waits.boot, time.sleep)
        except ClusteradmError as error:
            raise type(error)(
                f"it did not come back within {waits.boot:.0f} s: {error.what}",
                where=host.name,
                next_step=error.next_step or "look at its console; then: clusteradm health",
            ) from None
        say(host.name, "answers again")
    return time.monotonic() - started


def _await_off(connections: Connections, host: Host, boot: str) -> None:
    end = time.monotonic() + _OFF_SECONDS
    while time.monotonic() < end:
        time.sleep(1.0)
        connections.drop(host)
        try:
            if connections.node(host).call(Hello(), timeout=10.0).boot != boot:
                raise HostFailed("it has started again instead", where=host.name)
        except HostUnreachable:
            return
    raise HostFailed(
        f"it still answers {_OFF_SECONDS:.0f} s after it was told to switch off",
        where=host.name,
        next_step="see what holds it up: systemctl list-jobs",
    )


def _errors(connections: Connections, host: Host) -> set[tuple[str, str]]:
    """The errors of the host by its health: check (with the TPU that it is about) and state."""
    survey = health.collect(connections, [host], sections=_SECTIONS)
    found = health.judge(connections.cluster, survey)
    return {
        (f"{finding.subject} {finding.check}" if finding.subject != host.name else finding.check, finding.state)
        for finding in found
        if finding.severity is Severity.ERROR
    }


def _await_health(connections: Connections, host: Host, before: set[tuple[str, str]], seconds: float, say: Say) -> None:
    end = time.monotonic() + seconds
    told = False
    while new := _errors(connections, host) - before:
        words = ", ".join(f"{check}: {state}" for check, state in sorted(new))
        if time.monotonic() > end:
            raise HostFailed(
                f"it is back, but not healthy after {seconds:.0f} s: {words}",
                where=host.name,
                next_step=f"clusteradm health --limit {host.name}",
            )
        if not told:
            say(host.name, f"waiting for its health: {words}")
            told = True
        time.sleep(_POLL)
