"""Reset of one Edge TPU on its bus, PCI or USB, which recovers some that hang, and the remedy where it does not."""

from __future__ import annotations

from dataclasses import dataclass

from clusteradm.errors import HostFailed, UsageError
from clusteradm.inventory import Host
from clusteradm.node.spec.wire.fleet import (
    BUSY,
    DENIED,
    FOUND,
    LOST,
    STAYS,
    UNDRIVEN,
    UNKNOWN,
    Card,
    Owner,
    ResetOutcome,
    ResetTpu,
)
from clusteradm.node.spec.wire.job_names import SERVER, USB
from clusteradm.transport import Connections

# Twice the ten seconds that the node waits, and as much again as a slow board needs besides.
SECONDS = 60.0
POWER = "switch the host off and on (a reboot is not enough), or move the card to another slot"
PLUG = "unplug it and plug it in again; a hub that can switch its ports does so by uhubctl"


@dataclass(frozen=True)
class Reset:
    """A TPU that came back. `before`: None where it was not on the bus; `seconds`: until it was a device again."""

    host: str
    before: Card | None
    after: Card
    seconds: float


def reset(connections: Connections, host: Host, tpu: str) -> Reset:
    """Reset a TPU of a host, named by its PCI address, as apex_N, or as usb:PORT.

    One that is off the PCI bus is found by a scan. Raises UsageError where the host has no such TPU; HostFailed, with
    the remedy, where it has no driver, a process has it open, the kernel refuses, or it did not come back.
    """
    request = ResetTpu(tpu, connections.cluster.setting("cluster_user", host))
    return judge(host.name, tpu, connections.node(host).call(request, timeout=SECONDS))


def judge(host: str, name: str, outcome: ResetOutcome) -> Reset:
    """The reset that the host reports, or the error for its outcome."""
    kind, before, after = outcome.outcome, outcome.before, outcome.after
    address = before.address if before is not None else name
    is_usb = name.startswith(USB)
    if kind == UNKNOWN:
        there = ", ".join(" = ".join(filter(None, (card.address, card.device))) for card in outcome.tpus)
        what = f"{host} has no Edge TPU {name!r} on its bus, and a scan of the bus finds none"
        if is_usb:
            what = f"{host} has no USB Accelerator {name!r}"
        raise UsageError(what, next_step=f"it has: {there or 'none'}")
    if kind == UNDRIVEN:
        raise _undriven(host, address, before)
    if kind == BUSY:
        what = f"{name} is in use by {_owner(outcome.owner)}; nothing was done"
        raise HostFailed(what, where=host, next_step="wait for its end, or stop it")
    if kind == DENIED:
        raise HostFailed(
            f"its kernel does not let {'it be taken out of use' if is_usb else 'the bus be scanned'}: {outcome.reason}",
            where=host,
            next_step="run it for the machine itself: in a container sysfs may be read-only",
        )
    if kind == FOUND and after is not None:
        if after.device is None:
            raise _undriven(host, after.address, after, "a scan brought it back on the bus, but ")
        return Reset(host, None, after, outcome.seconds)
    if kind == STAYS:
        what = f"{address} could not be taken {'out of use' if is_usb else 'off the bus'}"
        raise HostFailed(what, where=host, next_step=PLUG if is_usb else POWER)
    if kind == LOST or before is None or after is None:
        what = f"{address} did not come back: it {_seen(after, is_usb)}"
        raise HostFailed(what, where=host, next_step=PLUG if is_usb else POWER)
    return Reset(host, before, after, outcome.seconds)


def _undriven(host: str, address: str, card: Card | None, first: str = "") -> HostFailed:
    """The error for a card that a reset cannot help: it has no driver that would take it up again."""
    if card is not None and card.driver not in (None, "apex"):
        what = (
            f"{first}{address} belongs to the driver {card.driver}, as a card does that is passed to a virtual machine"
        )
        return HostFailed(what, where=host, next_step="reset it there; or give it back to the driver apex first")
    what = f"{first}{address} has no driver: a reset does not help"
    step = f"on the host: modprobe apex; where there is no such module: clusteradm bootstrap --limit {host} --tags tpu"
    return HostFailed(what, where=host, next_step=step)


def _seen(after: Card | None, is_usb: bool) -> str:
    if after is None:
        return "is not on the bus any more"
    if is_usb:
        return "is on the bus, but does not answer the kernel that configures it, or has no device node"
    if after.driver is None:
        return "is on the bus again, but the driver gave up on it"
    return "is on the bus again, but has no device node"


def _owner(owner: Owner | None) -> str:
    if owner is None:
        return "a process that does not show who it is"
    if owner.job == SERVER:
        return "the host's server"
    if owner.job:
        return f"job {owner.job} of this cluster"
    return f"process {owner.pid} of {owner.user or 'an unknown user'} ({owner.command or 'no command line'})"
