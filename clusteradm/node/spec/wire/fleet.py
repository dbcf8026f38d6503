"""Requests about hosts as hosts: what is out of service, and the reset of a TPU."""

from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple

from clusteradm.node.spec.wire import names
from clusteradm.node.spec.wire.decode import Record, WireError, limits
from clusteradm.node.spec.wire.request import Request
from clusteradm.node.spec.wire.serving import BoardTpus

BY_JOB = "job "  # before the job's id: who has drained a TPU that failed in the middle of it
_LATEST = 1 << 37  # seconds since 1970, in the year 6325: no calendar of Python ends before


@dataclass(eq=False, repr=False)
class DrainReason(Record):
    """Reason for which a subject is out of service, and the person who said so."""

    reason: str
    by: str


@dataclass(eq=False, repr=False)
class DrainEntry(DrainReason):
    """Entry in the list of drains. `since`: seconds since 1970, by the head's clock."""

    since: int

    def __post_init__(self) -> None:
        if not 0 <= self.since < _LATEST:
            raise WireError("no time", ".since")


@dataclass(eq=False, repr=False)
class DrainTable(Record):
    """Everything that is out of service, by subject: HOST, or HOST:PCI-ADDRESS.

    `serving`: the TPUs that serving has, of a host that is not named all; None where nothing is served.
    """

    drains: Dict[str, DrainEntry]
    serving: Optional[Tuple[BoardTpus, ...]] = None


@dataclass(eq=False, repr=False)
class ChangeDrains(Request[DrainTable]):
    """Take subjects out of service, return others to it; with neither, only ask. `shared`: where the servers of the
    boards are told."""

    drain: Dict[str, DrainReason] = field(default_factory=dict)
    undrain: Tuple[str, ...] = ()
    shared: Optional[str] = None
    do = names.DRAINS


@dataclass(eq=False, repr=False)
class Card(Record):
    """An Edge TPU on the PCI bus, or on USB, whose `driver` is its identity there, as 18d1:9302. `device`: apex_N, or
    bus/usb/BUS/DEVICE; `node`: mode and owner of its device file, as "0660 root:apex".

    From `status` on: files of the driver, as they are; on USB `device_owner` alone. What there is not is None.
    """

    address: str
    driver: Optional[str] = None
    device: Optional[str] = None
    node: Optional[str] = None
    status: Optional[str] = None
    temp: Optional[str] = None
    unique_id: Optional[str] = None
    is_device_owned: Optional[str] = None
    device_owner: Optional[str] = None
    write_open_count: Optional[str] = None

    @property
    def owned(self) -> bool:
        """Whether a process has it open."""
        files = (self.is_device_owned, self.device_owner, self.write_open_count)
        return any(text not in (None, "", "0") for text in files)


@dataclass(eq=False, repr=False)
class Owner(Record):
    """The process that has a TPU open. `job`: the cluster's job that it is a rank of."""

    pid: Optional[int] = None
    user: Optional[str] = None
    command: Optional[str] = None
    job: Optional[str] = None


# done; unknown: no such TPU (`tpus` are there); busy: `owner` has it open; denied: the kernel refuses (`reason`);
# stays: it was not taken off the bus; lost: it did not come back as a device.
DONE, FOUND, UNKNOWN, BUSY, DENIED = "done", "found", "unknown", "busy", "denied"
UNDRIVEN, STAYS, LOST = "undriven", "stays", "lost"


@dataclass(eq=False, repr=False)
class ResetOutcome(Record):
    """Outcome of a reset. After unknown, busy, denied and undriven nothing was changed. `seconds`: until it was back.

    undriven: no apex driver is loaded, or another driver has it; found: a scan of the bus brought it back.
    """

    outcome: str = field(metadata=limits(choices=(DONE, FOUND, UNKNOWN, BUSY, DENIED, UNDRIVEN, STAYS, LOST)))
    tpus: Tuple[Card, ...] = ()
    before: Optional[Card] = None
    after: Optional[Card] = None
    owner: Optional[Owner] = None
    reason: Optional[str] = None
    seconds: float = 0.0


@dataclass(eq=False, repr=False)
class ResetTpu(Request[ResetOutcome]):
    """Remove a TPU (PCI address or apex_N) from its bus and scan the bus, or have the kernel configure one on USB
    (usb:PORT) anew, waiting `seconds` for each.

    `user`: the cluster's, whose processes may be jobs; `root`: of the file system, another one in tests.
    """

    tpu: str
    user: Optional[str]
    seconds: float = 10.0
    root: str = "/"
    do = names.TPU_RESET
