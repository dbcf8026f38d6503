"""Requests about a host's power."""

from dataclasses import dataclass, field

from clusteradm.node.spec.wire import names
from clusteradm.node.spec.wire.decode import Record, limits
from clusteradm.node.spec.wire.request import Request

REBOOT, POWEROFF = "reboot", "poweroff"


@dataclass(eq=False, repr=False)
class PowerBegun(Record):
    """The host ends a moment after this. `boot`: the kernel's id of the present boot."""

    boot: str


@dataclass(eq=False, repr=False)
class ChangePower(Request[PowerBegun]):
    """Restart the host, or switch it off. `message`: to those who are logged in."""

    action: str = field(metadata=limits(choices=(REBOOT, POWEROFF)))
    message: str
    do = names.CHANGE_POWER
