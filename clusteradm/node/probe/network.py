"""Section "network": interfaces with their addresses, and what the cluster's names resolve to."""

import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, Dict, Iterable, List

from clusteradm.node.probe import pace
from clusteradm.node.probe.programs import output
from clusteradm.node.texts import names, read

_SECONDS = 5.0


def probe(root: str, options: Dict[str, Any]) -> Dict[str, Any]:
    """Interfaces by name, those with a way out of the local network, and what the cluster's names resolve to.

    `options["names"]`: the names.
    """
    return {
        "interfaces": interfaces(root),
        "onward": onward(read(root, "proc/net/route") or ""),
        "resolved": resolved(options.get("names", ())),
    }


def onward(routes: str) -> List[str]:
    """The interfaces with a default route, from /proc/net/route."""
    rows = (line.split() for line in routes.splitlines()[1:])
    return sorted({row[0] for row in rows if len(row) > 7 and row[1] == row[7] == "00000000"})


def interfaces(root: str) -> Dict[str, Any]:
    """Per interface: state ("up", "down", "unknown"), MAC, speed (Mbit/s, text) and IPv4 addresses with prefix."""
    addresses = _addresses()
    base = os.path.join(root, "sys/class/net")
    return {
        name: {
            "state": read(base, name, "operstate"),
            "mac": read(base, name, "address"),
            "speed": read(base, name, "speed"),
            "addresses": addresses.get(name, []),
        }
        for name in names(base)
    }


def _addresses() -> Dict[str, List[str]]:
    try:
        links = json.loads(output(["ip", "-json", "-4", "address"]) or "[]")
    except ValueError:
        return {}
    return {
        link["ifname"]: ["%s/%s" % (info["local"], info["prefixlen"]) for info in link.get("addr_info", ())]
        for link in links
        if "ifname" in link
    }


def resolved(names: Iterable[str]) -> Dict[str, List[str]]:
    """The addresses of each name, resolved at the same time: a dead name server costs a few seconds in all."""
    # Not closed: that would wait for threads that hang.
    pool = ThreadPoolExecutor(64)
    asked = {name: pool.submit(resolve, name) for name in names}
    wait(asked.values(), pace.seconds(_SECONDS))
    return {name: answer.result() if answer.done() else [] for name, answer in asked.items()}


def resolve(name: str) -> List[str]:
    """The IPv4 addresses of a name, by this host's resolver; none if there are none."""
    try:
        return sorted({str(found[4][0]) for found in socket.getaddrinfo(name, None, socket.AF_INET)})
    except OSError:
        return []
