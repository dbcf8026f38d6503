"""Edge TPUs as cards on the PCI bus: missing ones, ones without a driver, their links and interrupt vectors."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Iterator

from clusteradm.health.finding import Finding, warning
from clusteradm.health.tpu import patterns
from clusteradm.health.tpu.facts import Card, Facts

VECTORS_PER_TPU = 13
RECENT_SECONDS = 600
_STAMP = re.compile(r"\[\s*(\d{1,12})[.\]]")
_GIGATRANSFERS, _LANES = 5.0, 1
_ADDRESS = re.compile(r"\b[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\b")
# Device tree of a Dev Board, whose Edge TPU is soldered on: there is nothing to reseat.
_SOLDERED = "imx8mq-phanbell"
_DEEPEST = 16  # limit of nested bridges
# Drivers that keep a card for a virtual machine.
_MODULES = ("vfio-pci", "pci-stub", "uio_pci_generic")
# Words of a shell for a process that was ended by one of these signals.
SIGNALS = {
    int(signal.SIGSEGV): "Segmentation fault",
    int(signal.SIGILL): "Illegal instruction",
}


def log_of(card: Card, facts: Facts) -> list[str]:
    """Lines of the kernel's log about this card, and those about no card in particular."""
    return [line for line in facts.kernel_log if card.address in line or not _ADDRESS.search(line)]


def recent(lines: Iterable[str], facts: Facts) -> list[str]:
    """Lines ("[seconds] text") of the last RECENT_SECONDS: not every driver logs that a TPU works again."""
    if facts.uptime is None:
        return list(lines)
    found = []
    for line in lines:
        stamp = _STAMP.match(line)
        if stamp is None or facts.uptime - float(stamp[1]) < RECENT_SECONDS:
            found.append(line)
    return found


def judge(host: str, facts: Facts) -> Iterator[Finding]:
    """Findings about the bus as a whole: lspci missing; lspci, /proc and sysfs count different numbers of Edge TPUs."""
    if facts.lspci is None:
        yield warning(host, "bus", "NO_LSPCI", "there is no lspci on the host", "run clusteradm bootstrap")
    sources = {"lspci": facts.lspci, "/proc/bus/pci/devices": facts.proc, "sysfs": len(facts.cards)}
    counts = {name: count for name, count in sources.items() if count is not None}
    if len(set(counts.values())) > 1:
        cause = "different numbers of Edge TPUs: " + ", ".join(f"{name} {count}" for name, count in counts.items())
        remedy = "power-cycle the host: a card fell off the bus, or came too late"
        yield warning(host, "bus", "DISAGREES", cause, remedy)


def unbound(card: Card, facts: Facts) -> tuple[str, str, str, str]:
    """State, cause, remedy and source for a card that has no device of the driver."""
    driver, see = facts.driver, "see `dmesg | grep apex` on the host; a power cycle (not a reboot) often helps"
    if card.driver is not None and card.driver != "apex":
        cause = f"the driver {card.driver} has it, not apex"
        cause += ": it is kept for a virtual machine" if card.driver in _MODULES else ""
        remedy = f"remove 1ac1:089a from {card.driver}'s ids (/etc/modprobe.d, kernel command line), then reboot"
        return "NO_DRIVER", cause, remedy, "MBS#53"
    if driver.loaded and (match := patterns.in_force(log_of(card, facts), {"NO_NODE"})):
        return "NO_NODE", match.cause, match.pattern.remedy, match.pattern.source
    if card.driver == "apex":
        return "NO_NODE", "the driver apex has it, but made no device of it", see, "ET#343, ET#729"
    versions = f" (Linux {driver.kernel})" if driver.kernel else ""
    if driver.loaded:
        cause = f"no driver is bound to it, though apex {driver.version or ''} is loaded".replace("  ", " ") + versions
        return "NO_DRIVER", cause, see, "ET#343, ET#729"
    cause = f"no driver is bound to it, and the module apex is not loaded{versions}"
    if match := patterns.in_force(log_of(card, facts), {"NO_DRIVER"}):
        return "NO_DRIVER", f"{cause}: {match.cause}", match.pattern.remedy, match.pattern.source
    if driver.dkms_built is False:
        return _not_built(cause, facts)
    if driver.file:
        how = "blacklisted in /etc/modprobe.d" if driver.blacklisted else "not loaded"
        return "NO_DRIVER", f"{cause}; {driver.file} is there, but {how}", "modprobe apex on the host", "ET#328"
    remedy = "run clusteradm bootstrap; on a PC see `dkms status` and `modprobe apex` on the host"
    return "NO_DRIVER", cause, remedy, "coral.ai/docs/m2/get-started"


def _not_built(cause: str, facts: Facts) -> tuple[str, str, str, str]:
    driver = facts.driver
    cause += f"; DKMS has not built gasket {driver.dkms_version or ''} for it".replace("  ", " ")
    if match := patterns.first("dkms", driver.dkms_log):
        return "NO_DRIVER", f"{cause}: {match.cause}", match.pattern.remedy, match.pattern.source
    last = next((line for line in reversed(driver.dkms_log) if "rror" in line), "")
    remedy = "dkms autoinstall on the host; /var/lib/dkms/gasket/*/build/make.log says why it fails"
    return "NO_DRIVER", cause + (f": {last.strip()[:200]}" if last else ""), remedy, "ET#808, ET#866, ET#905"


def vectors(card: Card, facts: Facts) -> str:
    """Interrupt vectors of the card and of all cards, assigned and needed, in words; empty if unknown."""
    if card.vectors is None:
        return ""
    count, given = len(facts.cards), sum(each.vectors or 0 for each in facts.cards)
    text = f"; it has {card.vectors} of {VECTORS_PER_TPU} vectors"
    if count > 1:
        text += f", the host's {count} Edge TPUs {given} of {count * VECTORS_PER_TPU}"
    return text + ("" if facts.vectors_free is None else f"; {facts.vectors_free} are free")


def slow_link(card: Card) -> str:
    """Difference of the link's speed or width from the chip's own, in words; empty if there is none or it is unknown.

    "5 GT/s" and "5.0 GT/s PCIe" are the spellings of older and newer kernels.
    """
    found = re.search(r"(\d{1,4}(?:\.\d{1,4})?)\s*GT/s", (card.link_speed or "")[:100])
    speed = float(found[1]) if found else None
    if speed is not None and speed < _GIGATRANSFERS:
        able = f", of {card.max_link_speed}" if card.max_link_speed else ""
        return f"its link runs at {speed:g} GT/s{able}: models larger than its memory are slower to run"
    if card.link_width is not None and card.link_width < _LANES:
        return f"its link is x{card.link_width}"
    return ""


def absent(missing: int, expected: int, facts: Facts) -> tuple[str, str]:
    """Cause and remedy for TPUs that are not on the bus; the cause names empty slots."""
    cause = f"{missing} of {expected} Edge TPUs (cluster_tpus) are not on the PCI bus"
    off = sorted(name for name, status in facts.cores.items() if status not in ("okay", "ok"))
    if off:
        return f"{cause}; the device tree has {', '.join(off)} disabled", "enable them in the overlay, then reboot"
    empty = empty_slots(facts)
    if empty:
        cause += f"; empty: {', '.join(empty)}"
    if any(_SOLDERED in name for name in facts.compatible) and not facts.cores:
        return (
            cause,
            "take the board's power away for ten seconds (a reboot does not do): its Edge TPU is soldered on",
        )
    return (
        cause,
        "power the host off, reseat the module, power it on; if that does not help, try another slot or module",
    )


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
