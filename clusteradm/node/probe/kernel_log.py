"""The kernel's log about Edge TPUs: their driver and its module, the cards, and the bridges above them.

Read from /dev/kmsg, which needs no program and gives one record at a time.
"""

import os
import re
from typing import Dict, List, Optional, Set

from clusteradm.node.probe import pcie

# Lines that are told, those of the boot and the latest; and how often one text is told, at its beginning and its end.
_FIRST, _LAST = 60, 140
_REPEATS = 2
_LONGEST = 1000
# The driver, its chip by its ids, and what the kernel says of a module that it does not load, without its name.
_ABOUT_THEM = re.compile(
    r"\b(apex|gasket)\b|\b1ac1:089a\b|map pfn RAM range req uncached-minus|[Ll]oading of .* is rejected"
    r"|unsigned module loading is restricted|[Kk]ey was rejected by service|Required key not available"
    r"|signature not signed with a trusted key"
)
# What bridges say when a link or a card fails, or gets no address space.
_TROUBLE = re.compile(
    r"\bAER\b|\bDPC\b|PCIe Bus Error|error status/mask|Link Down|[Ll]ink down|not present|Link Active|inaccessible"
    r"|change power state|can't assign|no space for|failed to assign|recover|not ready|retraining"
)
# The first line of a crash, of a hang or of a warning, and a line of its trace that names the driver. It names every
# module that is loaded, too.
_CRASH = re.compile(
    r"Internal error: |\bOops: |BUG: unable to handle|nable to handle kernel|general protection fault|WARNING: CPU"
    r"|INFO: task .* blocked for more than"
)
_IN_DRIVER = re.compile(r"\[(apex|gasket)\]")
_LOADED = re.compile(r"Modules linked in:|\b(apex|gasket)\([A-Z]+[+-]?\)")
_LONGEST_TRACE = 150
_ADDRESS = re.compile(r"(?<![0-9a-f:.])(?:[0-9a-f]{4,}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7](?![0-9a-f])")
_PRIORITY = re.compile(r"^\d+,\d+,(\d+),[^;]*;(.*)$")


def log(root: str) -> Optional[List[str]]:
    """Every line of the kernel's log, "[seconds] text", not too long; None if it cannot be read."""
    records = _records(os.path.join(root, "dev/kmsg"))
    if records is None:
        return None
    matches = [match for match in map(_PRIORITY.match, records) if match]
    return ["[%.6f] %s" % (int(match.group(1)) / 1e6, match.group(2)[:_LONGEST]) for match in matches]


def kernel_log(root: str) -> Optional[List[str]]:
    """Lines about the Edge TPUs, "[seconds] text", in order and bounded in number; None if the log cannot be read."""
    found = log(root)
    if found is None:
        return None
    cards = {card["address"] for card in pcie.cards(root)}
    # A card that was there when the host started may be gone.
    for text in (line.partition("] ")[2] for line in found):
        if "1ac1:089a" in text or text.startswith("apex "):
            cards.update(address for address in _ADDRESS.findall(text) if address.count(":") == 2)
    # An IOMMU writes an address without its domain.
    cards |= {card.partition(":")[2] for card in cards}
    bridges = {bridge["address"] for bridge in pcie.bridges(root)}
    return _bounded(_about_them(found, cards, bridges))


def _about_them(lines: List[str], cards: Set[str], bridges: Set[str]) -> List[str]:
    """The lines about the driver, cards and bridges; before those of a trace, the first line of the crash."""
    kept: Set[int] = set()
    crash = None
    for number, line in enumerate(lines):
        text = line.partition("] ")[2]
        if crash is None or number - crash > _LONGEST_TRACE or "end trace" in text:
            crash = number if _CRASH.search(text) else None
        if _is_about(text, cards, bridges):
            kept.add(number)
            if crash is not None and _IN_DRIVER.search(text):
                kept.add(crash)
    return [lines[number] for number in sorted(kept)]


def _is_about(text: str, cards: Set[str], bridges: Set[str]) -> bool:
    if _ABOUT_THEM.search(text) and not _LOADED.search(text):
        return True
    addresses = set(_ADDRESS.findall(text))
    return bool(cards & addresses) or bool(bridges & addresses and _TROUBLE.search(text))


def _bounded(lines: List[str]) -> List[str]:
    """The lines without the middle of what is repeated, and without the middle of the rest if there are too many."""
    places: Dict[str, List[int]] = {}
    for number, line in enumerate(lines):
        # What differs between the repeats of one message are its time and its hexadecimal numbers.
        text = re.sub(r"0x[0-9a-f]+", "0x", line.partition("] ")[2])
        places.setdefault(text, []).append(number)
    kept = sorted({number for each in places.values() for number in each[:_REPEATS] + each[-_REPEATS:]})
    if len(kept) > _FIRST + _LAST:
        kept = kept[:_FIRST] + kept[-_LAST:]
    return [lines[number] for number in kept]


def _records(path: str) -> Optional[List[str]]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    data: List[bytes] = []
    try:
        while True:
            try:
                piece = os.read(descriptor, 1 << 16)
            except BlockingIOError:  # the device: all records are read
                break
            except BrokenPipeError:  # this record was overwritten meanwhile; the next is there
                continue
            except OSError:
                return None
            if not piece:
                break
            data.append(piece)
    finally:
        os.close(descriptor)
    return b"".join(data).decode("utf-8", "replace").splitlines()
