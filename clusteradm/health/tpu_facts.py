"""What a probe's document says of a host's Edge TPUs, in types: whatever is missing or makes no sense is None.

Reading never raises: a document may come from another version, a hand-edited file, or a host that is half dead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What a sane number of sysfs fits into; anything larger is no number that may be computed with.
_LARGEST = 2**40


@dataclass(frozen=True)
class Card:
    """An Edge TPU on the PCI bus. `vectors`: MSI-X vectors that the kernel gave it."""

    address: str
    driver: str | None
    link_speed: str | None
    link_width: int | None
    max_link_speed: str | None
    vectors: int | None


@dataclass(frozen=True)
class Node:
    """A device node. `mode`: None where it is no octal number."""

    path: str
    mode: int | None
    owner: str
    group: str


@dataclass(frozen=True)
class Owner:
    """The process that has a TPU open; `job`: the cluster's own job that it belongs to."""

    pid: int | None
    user: str | None
    command: str | None
    job: str | None


@dataclass(frozen=True)
class Device:
    """What the driver made of a card. Temperatures are in thousandths of a degree."""

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
    node: Node | None

    @property
    def path(self) -> str:
        return f"/dev/{self.name}"

    @property
    def leaving(self) -> bool:
        """Whether the driver is being unloaded."""
        return self.status == "DRIVER_EXITING"


@dataclass(frozen=True)
class Attempt:
    """How loading the delegate onto a TPU went (node/probe/trial.py)."""

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


@dataclass(frozen=True)
class Bridge:
    """A PCI bridge; `below`: the addresses directly behind it."""

    address: str
    name: str
    below: tuple[str, ...]


@dataclass(frozen=True)
class Driver:
    """The drivers apex and gasket on the host. `dkms_built`: for the running kernel; None where DKMS knows nothing."""

    version: str | None
    loaded: bool
    kernel: str | None
    file: str | None
    blacklisted: bool
    dkms_version: str | None
    dkms_built: bool | None
    dkms_log: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """Everything of one host. `error`: the probe itself failed. `lspci`, `proc`: how many each of them counts.

    `uptime`: seconds, as the kernel's log counts them.
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
    compatible: tuple[str, ...]
    cores: Mapping[str, str]
    members: tuple[str, ...] | None
    user_in_group: bool | None
    listed: tuple[str, ...] | None
    attempts: Mapping[str, Attempt]
    runtime: Mapping[str, Any]


def read(document: object) -> Facts:
    """The facts of a document with the section "tpu" and, where they were asked for, "runtime" and "trial"."""
    about, runtime, trial = (_map(_map(document).get(section)) for section in ("tpu", "runtime", "trial"))
    cards = {card.address: card for card in map(_card, _list(about.get("pci"))) if card}
    devices = {}
    for each in _list(about.get("apex")):
        device, address = _device(_map(each)), _text(_map(each).get("pci_address"))
        if device and address:
            devices[address] = device
    lspci, proc = about.get("lspci"), about.get("proc")
    tree, group = _map(about.get("device_tree")), about.get("group")
    return Facts(
        error=_text(about.get("error")),
        cards=tuple(cards.values()),
        devices=devices,
        lspci=len(lspci) if isinstance(lspci, list) else None,
        proc=len(proc) if isinstance(proc, list) else None,
        bridges=tuple(bridge for bridge in map(_bridge, _list(about.get("bridges"))) if bridge),
        slots={name: text for name, text in _map(about.get("slots")).items() if isinstance(text, str)},
        vectors_free=_number(_map(about.get("vectors")).get("free")),
        driver=_driver(_map(about.get("driver"))),
        # The later one, where an attempt made the driver say more.
        kernel_log=_texts(trial.get("kernel_log")) or _texts(about.get("kernel_log")),
        uptime=_number(about.get("uptime")),
        compatible=_texts(tree.get("compatible")),
        cores={name: text for name, text in _map(tree.get("cores")).items() if isinstance(text, str)},
        members=_texts(_map(group).get("members")) if isinstance(group, Mapping) else None,
        user_in_group=_truth(about.get("user_in_group")),
        listed=_texts(runtime.get("devices")) if isinstance(runtime.get("devices"), list) else None,
        attempts={
            str(address): _attempt(_map(each))
            for address, each in _map(trial.get("attempts")).items()
            if _text(_map(each).get("stage"))
        },
        runtime=runtime,
    )


def _card(about: object) -> Card | None:
    card = _map(about)
    address = _text(card.get("address"))
    if not address:
        return None
    return Card(
        address,
        _text(card.get("driver")),
        _text(card.get("link_speed")),
        _number(card.get("link_width")),
        _text(card.get("max_link_speed")),
        _number(card.get("vectors")),
    )


def _device(about: Mapping[str, Any]) -> Device | None:
    name = _text(about.get("name"))
    if not name:
        return None
    trips = tuple(_number(about.get(f"trip_point{number}_temp")) for number in range(3))
    return Device(
        name=name,
        status=_text(about.get("status")),
        version=_text(about.get("driver_version")),
        unique_id=_text(about.get("unique_id")),
        interrupts=_text(about.get("interrupt_counts")) is not None,
        temperature=_number(about.get("temp")),
        trips=tuple(trip for trip in trips if trip is not None) if None not in trips else (),
        poll_interval=_number(about.get("temp_poll_interval")),
        owned=_text(about.get("is_device_owned")) == "1",
        owner_pid=_text(about.get("device_owner")),
        owner=_owner(about.get("owner")),
        node=_node(about.get("node")),
    )


def _node(about: object) -> Node | None:
    if not isinstance(about, Mapping):
        return None
    try:
        mode: int | None = int(_text(about.get("mode")) or "", 8)
    except ValueError:
        mode = None
    return Node(
        _text(about.get("path")) or "its node", mode, _text(about.get("owner")) or "?", _text(about.get("group")) or "?"
    )


def _owner(about: object) -> Owner | None:
    if not isinstance(about, Mapping):
        return None
    job = about.get("job")
    return Owner(
        _number(about.get("pid")),
        _text(about.get("user")),
        _text(about.get("command")),
        str(job) if isinstance(job, (str, int)) and job != "" else None,
    )


def _attempt(about: Mapping[str, Any]) -> Attempt:
    return Attempt(
        ok=about.get("ok") is True,
        stage=_text(about.get("stage")),
        error=_text(about.get("error")),
        signal=_number(about.get("signal")),
        timeout=about.get("timeout") is True,
        count=_number(about.get("count")),
        access=_truth(about.get("access")),
        stderr=_texts(about.get("stderr")),
        owner=_owner(about.get("owner")),
        inference=about.get("inference") is True,
        interrupts=_truth(about.get("interrupts")),
    )


def _bridge(about: object) -> Bridge | None:
    bridge = _map(about)
    address = _text(bridge.get("address"))
    return Bridge(address, _text(bridge.get("id")) or "?", _texts(bridge.get("below"))) if address else None


def _driver(about: Mapping[str, Any]) -> Driver:
    dkms = about.get("dkms")
    return Driver(
        version=_text(about.get("version")),
        loaded=about.get("loaded") is True,
        kernel=_text(about.get("kernel")),
        file=_text(about.get("file")),
        blacklisted=about.get("blacklisted") is True,
        dkms_version=_text(_map(dkms).get("version")),
        dkms_built=_map(dkms).get("built") is True if isinstance(dkms, Mapping) else None,
        dkms_log=_texts(_map(dkms).get("log")),
    )


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: object) -> tuple[str, ...]:
    return tuple(each for each in _list(value) if isinstance(each, str))


def _truth(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _number(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    try:
        number = int(value)
    except ValueError:
        return None
    return number if abs(number) < _LARGEST else None
