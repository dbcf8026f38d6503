"""Edge TPUs as cards on the PCI bus: missing ones, ones without a driver, their links and interrupt vectors."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator

from clusteradm.health.finding import Finding, warning
from clusteradm.health.tpu import kernel_log
from clusteradm.health.tpu.facts import Card, Facts

VECTORS_PER_TPU = 13
_GIGATRANSFERS = 5.0
# Width of a link whose register reads all ones, as that of a card that does not answer.
_ALL_ONES = 63
# A link has fewer lanes than this.
_NO_WIDTH = 32
# Device tree of a Dev Board, whose Edge TPU is soldered on: there is nothing to reseat.
_SOLDERED = "imx8mq-phanbell"
# Processors of the Raspberry Pi 4 and Compute Module 4, and of the 5 and its Compute Module, as their device trees say.
_PI_4, _PI_5 = "brcm,bcm2711", "brcm,bcm2712"
# Bytes of a memory page that the chip's page table is made of.
_PAGE = 4096
# Vendors of the bridges of virtual machines: QEMU and VMware.
_GUESTS = {"1b36", "15ad"}
_DEEPEST = 16  # limit of nested bridges
# Words of a shell for a process that was ended by one of these signals.
SIGNALS = {
    int(signal.SIGSEGV): "Segmentation fault",
    int(signal.SIGILL): "Illegal instruction",
}


def judge(host: str, facts: Facts) -> Iterator[Finding]:
    """Findings about the host as a whole.

    lspci missing; lspci, /proc and sysfs count different numbers of Edge TPUs; a processor or pages of memory that the
    chip does not work with.
    """
    if facts.lspci is None:
        yield warning(host, "bus", "NO_LSPCI", "there is no lspci on the host", "run clusteradm bootstrap")
    sources = {"lspci": facts.lspci, "/proc/bus/pci/devices": facts.proc, "sysfs": len(facts.cards)}
    counts = {name: count for name, count in sources.items() if count is not None}
    if len(set(counts.values())) > 1:
        cause = "different numbers of Edge TPUs: " + ", ".join(f"{name} {count}" for name, count in counts.items())
        remedy = "power-cycle the host: a card fell off the bus, or came too late"
        yield warning(host, "bus", "DISAGREES", cause, remedy)
    if facts.cards and _PI_4 in facts.compatible:
        # ET#280, ET#256, geerlingguy/raspberry-pi-pcie-devices#44: nobody has made it compute there.
        cause = "its processor (BCM2711) makes no 64-bit accesses to a card on PCIe, and an Edge TPU needs them"
        yield warning(host, "bus", "UNFIT", cause, "use the card in a Raspberry Pi 5, a Compute Module 5 or a PC")
    if facts.cards and facts.page_size not in (None, _PAGE):
        cause = (
            f"the kernel has pages of {facts.page_size} bytes, and driver and library agree only on those of {_PAGE}"
        )
        remedy = f"boot a kernel with pages of {_PAGE} bytes"
        if _PI_5 in facts.compatible:
            remedy = (
                "write kernel=kernel8.img into /boot/firmware/config.txt, reboot, and build the driver for that kernel"
            )
        yield warning(host, "bus", "PAGE_SIZE", cause, remedy)


def vectors(card: Card, facts: Facts) -> str:
    """Interrupt vectors of the card and of all cards, assigned and needed, in words; empty if unknown."""
    if card.vectors is None or card.vectors >= VECTORS_PER_TPU:
        return ""
    count, given = len(facts.cards), sum(each.vectors or 0 for each in facts.cards)
    text = f"; it has {card.vectors} of {VECTORS_PER_TPU} vectors"
    if count > 1:
        text += f", the host's {count} Edge TPUs {given} of {count * VECTORS_PER_TPU}"
    return text + ("" if facts.vectors_free is None else f"; {facts.vectors_free} are free")


def slow_link(card: Card) -> str:
    """Difference of the link's speed from the chip's own, in words; empty if there is none or it is unknown.

    "5 GT/s" and "5.0 GT/s PCIe" are the spellings of older and newer kernels. A guest may be told neither speed nor
    width ("Unknown", x0, of x255), or any (x32): that is no measure of the link (QEMU hw/vfio/pci.c; ET#343).
    """
    speed = _gigatransfers(card.link_speed)
    if speed is None or speed >= _GIGATRANSFERS:
        return ""
    if card.link_width is not None and not 0 < card.link_width < _NO_WIDTH:
        return ""
    able = f", of {card.max_link_speed}" if _gigatransfers(card.max_link_speed) else ""
    return f"its link runs at {speed:g} GT/s{able}: models larger than its memory are slower to run"


def silent(card: Card) -> bool:
    """Whether the card's registers read all ones: it does not answer on the bus any more."""
    return card.link_width == _ALL_ONES and _gigatransfers(card.link_speed) is None


def _gigatransfers(text: str | None) -> float | None:
    found = re.search(r"(\d{1,4}(?:\.\d{1,4})?)\s*GT/s", (text or "")[:100])
    return float(found[1]) if found else None


def absent(missing: int, expected: int, facts: Facts) -> tuple[str, str]:
    """Cause and remedy for TPUs that are not on the bus; the cause names empty slots, and quotes the kernel's log."""
    where = "on the PCI bus or USB" if facts.accelerators else "on the PCI bus"
    cause = f"{missing} of {expected} Edge TPUs (cluster_tpus) are not {where}"
    cause += f", {expected - missing} are" if expected > missing else ""
    off = sorted(name for name, status in facts.cores.items() if status not in ("okay", "ok"))
    if off:
        return f"{cause}; the device tree has {', '.join(off)} disabled", "enable them in the overlay, then reboot"
    empty = empty_slots(facts)
    if empty:
        cause += f"; empty: {', '.join(empty)}"
    cause += kernel_log.lost(facts)
    usb = facts.accelerators
    if any(_SOLDERED in name for name in facts.compatible) and not facts.cores:
        return (
            cause,
            "take the board's power away for ten seconds (a reboot does not do): its Edge TPU is soldered on",
        )
    if _GUESTS & {bridge.name[:4] for bridge in facts.bridges}:
        return cause, "pass it through to this virtual machine, each chip of a dual card as a device of its own"
    remedy = "power the host off, reseat the module, power it on; if that does not help, try another slot or module"
    if _PI_5 in facts.compatible:
        # raspberrypi/linux, overlays/README: pciex1, off unless a board on the connector says otherwise.
        remedy = f"write dtparam=pciex1 into /boot/firmware/config.txt, which turns the connector on; {remedy}"
    if missing * 2 == expected and not usb:
        remedy += "; half of a dual card needs a slot that has both of its lanes, or an adapter with a switch"
    return cause, remedy


def empty_slots(facts: Facts) -> list[str]:
    """Names of bridges without a device behind them, and of slots without a card."""
    named = {address: name for name, address in facts.slots.items()}
    found = [f"bridge {bridge.address} ({bridge.name})" for bridge in facts.bridges if not bridge.below]
    there = {card.address for card in facts.cards} | {below for bridge in facts.bridges for below in bridge.below}
    for address, name in named.items():
        if facts.bridges and not any(other.startswith(address) for other in there):
            found.append(f"slot {name}")
    return found


def tree(facts: Facts) -> str:
    """The bridges and what is behind them, in one line: "0000:00:1c.0 > [0000:03:00.0 > empty, 0000:04:00.0 TPU]"."""
    bridges = {bridge.address: bridge for bridge in facts.bridges}
    cards = {card.address for card in facts.cards}
    behind = {address for bridge in facts.bridges for address in bridge.below}

    def show(address: str, depth: int) -> str:
        # Each bridge is shown once, even if a damaged document has a loop.
        bridge = bridges.pop(address, None) if depth < _DEEPEST else None
        if bridge is None:
            return f"{address} TPU" if address in cards else address
        below = [show(each, depth + 1) for each in bridge.below]
        text = "empty" if not below else below[0] if len(below) == 1 else f"[{', '.join(below)}]"
        return f"{address} > {text}"

    roots = [address for address in bridges if address not in behind]
    return "; ".join(show(address, 0) for address in roots)
