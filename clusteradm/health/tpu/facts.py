"""Facts about a host's Edge TPUs, decoded from its probe's document; None for a value that is missing or malformed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from clusteradm.health.reading import Reading
from clusteradm.node.spec.wire.job_names import SERVER

# A USB Accelerator after its firmware (1a6e:089a before it).
_USB_READY = "18d1:9302"


@dataclass(frozen=True)
class Card:
    """An Edge TPU on the PCI bus. `vectors`: MSI-X vectors that the kernel assigned to it; `numa`: its memory node."""

    address: str
    driver: str | None
    driver_override: str | None
    link_speed: str | None
    link_width: int | None
    max_link_speed: str | None
    vectors: int | None
    numa: int | None = None


@dataclass(frozen=True)
class DeviceNode:
    """A device node. `mode`: permission bits."""

    path: str
    mode: int | None
    owner: str
    group: str


@dataclass(frozen=True)
class Owner:
    """The process that has a TPU open. `job`: id of the job that it belongs to; `pod`: whether it is in one."""

    pid: int | None
    user: str | None
    command: str | None
    job: str | None
    pod: bool = False

    @property
    def holder(self) -> str:
        """The job, or the server, in words."""
        return "the host's server" if self.job == SERVER else f"job {self.job}"


@dataclass(frozen=True)
class Device:
    """The driver's device for a card (/sys/class/apex). Temperatures in milli-degrees, `poll_interval` in ms.

    `in_place`: what is at the path of a missing device node, "nothing" or such as "a plain file"; None if unknown.
    """

    name: str
    status: str | None
    version: str | None
    unique_id: str | None
    interrupts: bool
    temperature: int | None
    trips: tuple[int, ...]
    poll_interval: int | None
    owned: bool
    owner_pid: str | None
    owner: Owner | None
    node: DeviceNode | None
    in_place: str | None

    @property
    def path(self) -> str:
        return f"/dev/{self.name}"

    @property
    def leaving(self) -> bool:
        """Whether the driver is being unloaded."""
        return self.status == "DRIVER_EXITING"


@dataclass(frozen=True)
class Accelerator:
    """A USB Accelerator. `address`: usb:PORT; `name`: the device in sysfs; `id`: vendor and product; `ready`: with its
    firmware; `speed`: Mbit/s; `path`: of its device node; `over_current`: how often its port was switched
    off."""

    address: str
    name: str
    id: str
    ready: bool
    speed: float | None
    max_power: str | None
    configured: bool
    authorized: bool | None
    over_current: int
    path: str | None
    node: DeviceNode | None
    owner: Owner | None
    user_in_group: bool | None

    @property
    def listed_as(self) -> str:
        """Its path in libedgetpu's list."""
        return f"/sys/bus/usb/devices/{self.name}"


@dataclass(frozen=True)
class Attempt:
    """Trial of a TPU: the delegate loaded onto it and one inference run (clusteradm/node/probe/trial.py)."""

    ok: bool
    stage: str | None
    error: str | None
    signal: int | None
    timeout: bool
    count: int | None
    access: bool | None
    stderr: tuple[str, ...]
    owner: Owner | None
    inference: bool
    interrupts: bool | None

    @property
    def failed(self) -> bool:
        """Whether it failed, and proves something of its TPU: a host too busy to import a runtime, or a job that has
        the TPU, does not."""
        busy = self.timeout and self.stage == "import"
        return not (self.ok or busy or (self.owner and self.owner.job))

    @property
    def infers(self) -> bool:
        """Whether an inference ran to its end."""
        return self.ok and self.inference

    @property
    def last_words(self) -> str:
        """The last line that it wrote, at most 300 characters, or its error."""
        return next((line for line in reversed(self.stderr) if line.strip()), self.error or "no reason given")[:300]


@dataclass(frozen=True)
class Bridge:
    """A PCI bridge. `below`: addresses directly behind it."""

    address: str
    name: str
    below: tuple[str, ...]


@dataclass(frozen=True)
class Driver:
    """Drivers apex and gasket of a host. `dkms_built`: for the running kernel; None if DKMS does not have them.

    `file`: the module for the running kernel; `headers`: whether that kernel's are there; `blacklist`: what excludes
    the module; `secure_boot`: whether the kernel loads only what is signed; `dma_bit_mask`: gasket's option.
    """

    version: str | None
    loaded: bool
    kernel: str | None
    file: str | None
    headers: bool | None
    blacklisted: bool
    blacklist: str | None
    secure_boot: bool | None
    dma_bit_mask: str | None
    dkms_name: str | None
    dkms_version: str | None
    dkms_built: bool | None
    dkms_log: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """Facts about the Edge TPUs of one host.

    `error`: of a probe that failed; then nothing else is set. `lspci`, `proc`: number of TPUs that each of them lists.
    `devices`, `attempts`: by PCI address. `uptime`: seconds, on the clock of the kernel's log. `page_size`: bytes of a
    page of memory. `tried`: whether the free TPUs were tried; `untried`: why none was, if a trial was asked for.
    """

    error: str | None
    cards: tuple[Card, ...]
    devices: Mapping[str, Device]
    lspci: int | None
    proc: int | None
    bridges: tuple[Bridge, ...]
    slots: Mapping[str, str]
    vectors_free: int | None
    driver: Driver
    kernel_log: tuple[str, ...]
    uptime: int | None
    page_size: int | None
    compatible: tuple[str, ...]
    cores: Mapping[str, str]
    members: tuple[str, ...] | None
    user_in_group: bool | None
    listed: tuple[str, ...] | None
    attempts: Mapping[str, Attempt]
    untried: str | None
    tried: bool
    runtime: Reading
    accelerators: tuple[Accelerator, ...] = ()

    @property
    def addresses(self) -> dict[str, str]:
        """Addresses by what names a TPU: the address itself, and on PCI its device's name."""
        there = [*(card.address for card in self.cards), *(each.address for each in self.accelerators)]
        return {each: each for each in there} | {device.name: address for address, device in self.devices.items()}

    @property
    def simulated(self) -> tuple[str, ...]:
        """What the library says of its TPUs being simulated; empty if it says nothing."""
        found = re.search(r"SIMULATED[^)]*", (self.runtime.text("library") or "")[:1000])
        return (found[0],) if found else ()


def read(document: object) -> Facts:
    """Facts of a document with the section "tpu" and, if they were asked for, "runtime" and "trial"."""
    about, runtime, trial = (Reading(document).part(section) for section in ("tpu", "runtime", "trial"))
    cards = {card.address: card for card in map(_card, about.parts("pci")) if card}
    devices = {}
    for each in about.parts("apex"):
        device, address = _device(each), each.text("pci_address")
        if device and address:
            devices[address] = device
    lspci, proc = about.values("lspci"), about.values("proc")
    tree = about.part("device_tree")
    return Facts(
        error=about.text("error"),
        cards=tuple(cards.values()),
        devices=devices,
        lspci=None if lspci is None else len(lspci),
        proc=None if proc is None else len(proc),
        bridges=tuple(bridge for bridge in map(_bridge, about.parts("bridges")) if bridge),
        slots=about.texts_by_name("slots"),
        vectors_free=about.part("vectors").integer("free"),
        driver=_driver(about.part("driver")),
        # The later log: a trial may have made the driver log more.
        kernel_log=trial.texts("kernel_log") or about.texts("kernel_log") or (),
        uptime=about.integer("uptime"),
        page_size=about.integer("page_size"),
        compatible=tree.texts("compatible") or (),
        cores=tree.texts_by_name("cores"),
        members=about.part("group").texts("members"),
        user_in_group=about.boolean("user_in_group"),
        listed=runtime.texts("devices"),
        attempts={
            address: _attempt(each) for address, each in trial.parts_by_name("attempts").items() if each.text("stage")
        },
        untried=trial.text("error"),
        tried=trial.has("attempts"),
        runtime=runtime,
        accelerators=tuple(each for each in map(_accelerator, about.parts("usb")) if each),
    )


def _card(about: Reading) -> Card | None:
    address = about.text("address")
    if not address:
        return None
    return Card(
        address,
        about.text("driver"),
        about.text("driver_override"),
        about.text("link_speed"),
        about.integer("link_width"),
        about.text("max_link_speed"),
        about.integer("vectors"),
        about.integer("numa_node"),
    )


def _device(about: Reading) -> Device | None:
    name = about.text("name")
    if not name:
        return None
    trips = tuple(about.integer(f"trip_point{number}_temp") for number in range(3))
    return Device(
        name=name,
        status=about.text("status"),
        version=about.text("driver_version"),
        unique_id=about.text("unique_id"),
        interrupts=about.text("interrupt_counts") is not None,
        temperature=about.integer("temp"),
        trips=tuple(trip for trip in trips if trip is not None) if None not in trips else (),
        poll_interval=about.integer("temp_poll_interval"),
        owned=about.text("is_device_owned") == "1",
        owner_pid=about.text("device_owner"),
        owner=_owner(about.part("owner")),
        node=_node(about.part("node")),
        in_place=about.text("in_place"),
    )


def _accelerator(about: Reading) -> Accelerator | None:
    address, name = about.text("address"), about.text("name")
    if not address or not name:
        return None
    ident = about.text("id") or ""
    return Accelerator(
        address,
        name,
        ident,
        ready=ident == _USB_READY,
        speed=about.number("speed"),
        max_power=about.text("max_power"),
        configured=bool(about.text("configuration")),
        authorized={"0": False, "1": True}.get(about.text("authorized") or ""),
        over_current=about.integer("over_current") or 0,
        path=about.text("path"),
        node=_node(about.part("node")),
        owner=_owner(about.part("owner")),
        user_in_group=about.boolean("user_in_group"),
    )


def _node(about: Reading) -> DeviceNode | None:
    if not about:
        return None
    try:
        mode: int | None = int(about.text("mode") or "", 8)
    except ValueError:
        mode = None
    return DeviceNode(about.text("path") or "its node", mode, about.text("owner") or "?", about.text("group") or "?")


def _owner(about: Reading) -> Owner | None:
    if not about:
        return None
    job = about.text("job") or about.integer("job")
    named = None if job is None else str(job)
    pod = about.boolean("pod") is True
    return Owner(about.integer("pid"), about.text("user"), about.text("command"), named, pod)


def _attempt(about: Reading) -> Attempt:
    return Attempt(
        ok=about.boolean("ok") is True,
        stage=about.text("stage"),
        error=about.text("error"),
        signal=about.integer("signal"),
        timeout=about.boolean("timeout") is True,
        count=about.integer("count"),
        access=about.boolean("access"),
        stderr=about.texts("stderr") or (),
        owner=_owner(about.part("owner")),
        inference=about.boolean("inference") is True,
        interrupts=about.boolean("interrupts"),
    )


def _bridge(about: Reading) -> Bridge | None:
    address = about.text("address")
    return Bridge(address, about.text("id") or "?", about.texts("below") or ()) if address else None


def _driver(about: Reading) -> Driver:
    dkms = about.part("dkms")
    return Driver(
        version=about.text("version"),
        loaded=about.boolean("loaded") is True,
        kernel=about.text("kernel"),
        file=about.text("file"),
        headers=about.boolean("headers"),
        blacklisted=about.boolean("blacklisted") is True,
        blacklist=about.text("blacklist"),
        secure_boot=about.boolean("secure_boot"),
        dma_bit_mask=about.text("dma_bit_mask"),
        dkms_name=dkms.text("name"),
        dkms_version=dkms.text("version"),
        dkms_built=dkms.boolean("built") is True if dkms else None,
        dkms_log=dkms.texts("log") or (),
    )
