"""The kernel's log about one Edge TPU: which lines are about it, and which of them explain its state."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable

from clusteradm.health.tpu import patterns
from clusteradm.health.tpu.facts import Bridge, Card, Facts

# Age of a line, in seconds, up to which it says something about a TPU that nobody has tried since: not every driver
# logs that a TPU works again.
RECENT_SECONDS = 600
_STAMP = re.compile(r"\[\s*(\d{1,12})[.\]]")
# "0000:01:00.0", and as an IOMMU writes it, "01:00.0".
_ADDRESS = re.compile(r"(?<![0-9a-f:.])((?:[0-9a-f]{4,}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])(?![0-9a-f])")
# What stands below a crash or a warning of any part of the kernel: all modules by name, and the calls that led there.
_TRACE = re.compile(r"Modules linked in:|\b(apex|gasket)\([A-Z]+[+-]?\)|\+0x[0-9a-f]+/0x[0-9a-f]+ \[(apex|gasket)\]$")
_DEEPEST = 16  # limit of nested bridges


def about(card: Card, facts: Facts) -> list[str]:
    """Lines about this card, about the bridges above it, and about no device in particular; in the log's order."""
    above = {bridge.address for bridge in _above(card.address, facts.bridges)}
    others = {other.address for other in facts.cards} - {card.address}
    found = []
    for line in facts.kernel_log:
        if _TRACE.search(line[:2000]):
            continue
        named = [_whole(address, (card.address, *above, *others)) for address in _ADDRESS.findall(line[:2000])]
        # A bridge's line may name the card that it is about. Where no bridge is known, any may be above the card.
        bridge = above & set(named) if above else "pcieport" in line
        if not named or card.address in named or (bridge and not others & set(named)):
            found.append(line)
    return found


def recent(lines: Iterable[str], facts: Facts) -> list[str]:
    """Lines ("[seconds] text") of the last RECENT_SECONDS."""
    if facts.uptime is None:
        return list(lines)
    found = []
    for line in lines:
        stamp = _STAMP.match(line)
        if stamp is None or facts.uptime - float(stamp[1]) < RECENT_SECONDS:
            found.append(line)
    return found


def explained(card: Card, facts: Facts, states: Container[str]) -> patterns.Match | None:
    """The message in force with one of these states."""
    return patterns.in_force(about(card, facts), states)


def last_words(card: Card, facts: Facts) -> str:
    """Sentence that quotes the last line about the card that no pattern knows; empty if there is none."""
    line = patterns.unexplained(about(card, facts))
    return f'; the kernel\'s last line about it: "{patterns.quoted(line)}"' if line else ""


def lost(facts: Facts) -> str:
    """Sentence that quotes what the log says about cards or slots that are empty now; empty if there is nothing."""
    there = {card.address for card in facts.cards}
    empty = {bridge.address for bridge in facts.bridges if not bridge.below}
    gone = {
        address
        for line in facts.kernel_log
        if "1ac1:089a" in line or re.search(r"\bapex [0-9a-f]{4,}:", line)
        for address in _ADDRESS.findall(line[:2000])
        if address not in there
    }
    lines = [line for line in facts.kernel_log if (gone | empty) & set(_ADDRESS.findall(line[:2000]))]
    # They are of several cards and slots: that one was found says nothing of another.
    matches = [match for line in lines if (match := patterns.match("kernel", line))]
    found = patterns.foremost(match for match in matches if match.pattern.state in ("WEDGED", "NO_NODE"))
    last = found.line if found else patterns.unexplained(lines)
    return f'; the kernel: "{patterns.named(last)}"' if last else ""


def _above(address: str, bridges: Iterable[Bridge]) -> list[Bridge]:
    """The bridges between a device and its root, the nearest first."""
    found: list[Bridge] = []
    over = {below: bridge for bridge in bridges for below in bridge.below}
    while (bridge := over.get(address)) and len(found) < _DEEPEST:
        found.append(bridge)
        address = bridge.address
    return found


def _whole(address: str, known: Iterable[str]) -> str:
    """The address with its domain, where it is one of the known."""
    if address.count(":") == 2:
        return address
    return next((each for each in known if each.endswith(":" + address)), address)
