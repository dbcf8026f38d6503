"""The cluster's interface as a link: its speed, the way to the head, and whose hardware answers for each address."""

import json
import os
import re
from typing import Any, Dict, Optional

from clusteradm.node.probe.programs import output
from clusteradm.node.texts import number, read

_COUNT, _INTERVAL, _TRIES = 5, 0.1, 3
# ICMP and IP headers: what an echo of the link's whole size leaves for its body.
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
    """Loss (0 to 1) and round trip (ms, the mean) of a few echoes."""
    said = output(["ping", "-n", "-q", "-c", str(_COUNT), "-i", str(_INTERVAL), "-W", "1", address])
    return parse_ping(said or "")


def parse_ping(text: str) -> Dict[str, Any]:
    """What iputils' ping says at its end."""
    loss = re.search(r"([\d.]+)% packet loss", text)
    times = re.search(r"= [\d.]+/([\d.]+)/[\d.]+", text)
    return {
        "loss": float(loss.group(1)) / 100 if loss else None,
        "milliseconds": float(times.group(1)) if times else None,
    }


def whole(address: str, mtu: Optional[int]) -> Optional[bool]:
    """Whether a packet of the interface's whole size arrives in one piece; null where that cannot be asked.

    One may be lost for another reason.
    """
    if mtu is None or mtu > 9216:
        return None
    loss = None
    for _ in range(_TRIES):
        said = output(["ping", "-n", "-q", "-c", "1", "-W", "1", "-M", "do", "-s", str(mtu - _HEADERS), address])
        loss = parse_ping(said or "")["loss"]
        if loss != 1:
            break
    return None if loss is None else bool(loss < 1)


def neighbours(interface: str) -> Dict[str, str]:
    """Address -> MAC of whoever answers for it on this interface, as the kernel has learnt it."""
    try:
        rows = json.loads(output(["ip", "-json", "-4", "neigh", "show", "dev", interface]) or "[]")
    except ValueError:
        return {}
    # One that is stale was true once.
    known = [row for row in rows if "lladdr" in row and "STALE" not in row.get("state", ())]
    return {row["dst"]: row["lladdr"].lower() for row in known}
