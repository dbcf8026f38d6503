"""Section "links": the cluster's interface, the path to the head, and the MAC that answers for each address."""

import json
import os
import re
from typing import Any, Dict, Optional

from clusteradm.node.probe.programs import output
from clusteradm.node.texts import number, read

_COUNT, _INTERVAL, _TRIES = 5, 0.1, 3
# Bytes of the ICMP and IP headers.
_HEADERS = 28


def probe(root: str, options: Dict[str, Any]) -> Dict[str, Any]:
    """`options`: "interface" of the cluster, "head": the head's address (null on the head itself)."""
    interface = str(options.get("interface"))
    base = os.path.join(root, "sys/class/net", interface)
    mtu = number(read(base, "mtu"))
    head = options.get("head")
    return {
        "interface": interface,
        "mac": read(base, "address"),
        "speed": number(read(base, "speed")),
        "duplex": read(base, "duplex"),
        "mtu": mtu,
        "head": None if head is None else {**reach(str(head)), "whole": whole(str(head), mtu)},
        "neighbours": neighbours(interface),
    }


def reach(address: str) -> Dict[str, Any]:
    """Loss (0 to 1) and mean round trip (ms) of a few echo requests."""
    text = output(["ping", "-n", "-q", "-c", str(_COUNT), "-i", str(_INTERVAL), "-W", "1", address])
    return parse_ping(text or "")


def parse_ping(text: str) -> Dict[str, Any]:
    """The summary of iputils' ping."""
    loss = re.search(r"([\d.]+)% packet loss", text)
    times = re.search(r"= [\d.]+/([\d.]+)/[\d.]+", text)
    return {
        "loss": float(loss.group(1)) / 100 if loss else None,
        "milliseconds": float(times.group(1)) if times else None,
    }


def whole(address: str, mtu: Optional[int]) -> Optional[bool]:
    """Whether a packet of the interface's MTU arrives unfragmented; null if that cannot be asked.

    Tried a few times: one may be lost for another reason.
    """
    if mtu is None or mtu > 9216:
        return None
    loss = None
    for _ in range(_TRIES):
        text = output(["ping", "-n", "-q", "-c", "1", "-W", "1", "-M", "do", "-s", str(mtu - _HEADERS), address])
        loss = parse_ping(text or "")["loss"]
        if loss != 1:
            break
    return None if loss is None else bool(loss < 1)


def neighbours(interface: str) -> Dict[str, str]:
    """Address -> MAC that answers for it on this interface, from the kernel's neighbour table."""
    try:
        rows = json.loads(output(["ip", "-json", "-4", "neigh", "show", "dev", interface]) or "[]")
    except ValueError:
        return {}
    # A stale entry may be out of date.
    known = [row for row in rows if "lladdr" in row and "STALE" not in row.get("state", ())]
    return {row["dst"]: row["lladdr"].lower() for row in known}
