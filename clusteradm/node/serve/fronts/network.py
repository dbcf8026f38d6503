"""Networks whose clients a board answers: its own addresses in the cluster's network can be reached through the others
that it has as well, by whoever says that the way is there."""

import functools
import ipaddress
from typing import Optional

from clusteradm.node.serve.plane import FORBIDDEN, Refusal

REFUSED = "this is for the network of the cluster alone: ask the head"


class Network:
    """The one of the cluster, such as "10.0.0.0/24"; None for every network."""

    def __init__(self, text: Optional[str]) -> None:
        self.text = text
        self._network = ipaddress.ip_network(text) if text else None
        self._has = functools.lru_cache(maxsize=1024)(self._look)

    def has(self, address: str) -> bool:
        """Whether a client at this address is answered; this machine's own are."""
        return self._network is None or self._has(address)

    def _look(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return found.is_loopback or found in self._network  # type: ignore[operator]

    def admit(self, peer: str) -> None:
        """Raise Refusal for a peer as gRPC names it (ipv4:10.0.0.1:5000) that is not answered."""
        kind, _, place = peer.partition(":")
        if not self.has(place.rpartition(":")[0] if kind == "ipv4" else ""):
            raise Refusal(FORBIDDEN, REFUSED)
