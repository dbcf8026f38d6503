"""Topology of a lab: names, addresses, interfaces and Edge TPUs of its boards. Pure data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clusteradm.lab.suites import DEFAULT, SUITES

MANAGEMENT = "10.77.0"
CLUSTER = "10.78.0"
CLUSTER_SUBNET = f"{CLUSTER}.0/24"
# Address of the lab's web server for packages and wheels.
SERVICES = f"{MANAGEMENT}.254"
MAX_NODES = 64
MAX_TPUS = 16
MAX_USB = 8

# The USB gadget of a Dev Board: up, with the same address and the same MAC on every one of them.
DECOY_ADDRESS = "192.168.100.2/24"
DECOY_MAC = "02:22:78:0d:f6:df"

# The tools that may configure a board's network. A Dev Board has NetworkManager; half of the PCs have systemd-networkd,
# and the others ifupdown or NetworkManager.
NETWORKS = ("networkmanager", "networkd", "netplan", "ifupdown")
_PCS = ("networkd", "ifupdown", "networkd", "networkmanager")

_ADJECTIVES = ("orange", "deft", "neat", "quiet", "brisk", "calm", "eager", "fancy")
_NOUNS = ("calf", "goose", "valet", "mole", "heron", "otter", "finch", "snail")


@dataclass(frozen=True)
class Tpu:
    """One Edge TPU: the number of its /dev/apex_N, and its PCI address."""

    number: int
    address: str


@dataclass(frozen=True)
class Accelerator:
    """One USB Accelerator: its number on the board, from 1 on."""

    number: int

    @property
    def name(self) -> str:
        """Of the device in sysfs: the port on bus 2, the bus for USB 3."""
        return f"2-{self.number}"

    @property
    def device(self) -> int:
        """Its number on the bus, behind the root hub."""
        return self.number + 1

    @property
    def node(self) -> str:
        return f"/dev/bus/usb/002/{self.device:03}"


@dataclass(frozen=True)
class Board:
    """One virtual machine. `mendel`: presented as a Dev Board, else as a Debian PC. `network`: one of NETWORKS.

    `suite`: its Debian release (a key of suites.SUITES).
    """

    name: str
    number: int
    mendel: bool
    tpus: tuple[Tpu, ...]
    network: str = "networkmanager"
    suite: str = DEFAULT
    usb: tuple[Accelerator, ...] = ()

    @property
    def address(self) -> str:
        return f"{MANAGEMENT}.{self.number}"

    @property
    def cluster_address(self) -> str:
        return f"{CLUSTER}.{self.number}"

    @property
    def management_interface(self) -> str:
        return "wlan0" if self.mendel else "eth0"

    @property
    def cluster_interface(self) -> str:
        return "eth0" if self.mendel else "enp2s0"

    @property
    def hostname(self) -> str:
        """Host name before bootstrap."""
        if not self.mendel:
            return "debian"
        place = self.number - 1
        return f"{_ADJECTIVES[place % 8]}-{_NOUNS[(place + place // 8) % 8]}"

    def mac(self, interface: str) -> str:
        """A fixed address per board and interface; a Dev Board's two are consecutive and of its maker's range."""
        if interface == "usb0":
            return DECOY_MAC
        prefix = "7c:d9:5c:00" if self.mendel else "52:54:00:00"
        return f"{prefix}:{self.number:02x}:{0x10 + (interface == self.cluster_interface):02x}"


def boards(
    nodes: int, tpus: int, networks: Sequence[str] = (), suites: Sequence[str] = (DEFAULT,), usb: int = 0
) -> tuple[Board, ...]:
    """`nodes` boards with `tpus` Edge TPUs on PCI and `usb` USB Accelerators each: head, w1, w2, ...; the head and
    every second board are Dev Boards, where their release is one that Dev Boards have.

    `networks`: the boards' network tools in turn, from the head on; with none, those that such machines have. `suites`:
    their Debian releases in turn.
    """
    return tuple(_board(place, tpus, networks, suites[place % len(suites)], usb) for place in range(nodes))


def _board(place: int, tpus: int, networks: Sequence[str], suite: str, usb: int) -> Board:
    mendel = place % 2 == 0 and suite in SUITES and SUITES[suite].mendel
    network = networks[place % len(networks)] if networks else _usual(place)
    name = "head" if place == 0 else f"w{place}"
    accelerators = tuple(Accelerator(number) for number in range(1, usb + 1))
    return Board(name, place + 1, mendel, _tpus(tpus, mendel), network, suite, accelerators)


def _usual(place: int) -> str:
    return "networkmanager" if place % 2 == 0 else _PCS[place // 2 % len(_PCS)]


def _tpus(count: int, mendel: bool) -> tuple[Tpu, ...]:
    """TPUs of one board. apex_0 has the *highest* PCI address, so that no program may rely on the order."""
    domain, first = ("0001", 1) if mendel else ("0000", 4)
    return tuple(Tpu(number, f"{domain}:{first + count - 1 - number:02x}:00.0") for number in range(count))
