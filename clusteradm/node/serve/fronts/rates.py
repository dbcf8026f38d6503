"""Rates of clients in streams: HAProxy counts a stream of gRPC as one request, and says the rate of its client here."""

import time
from collections import OrderedDict
from typing import Mapping, Tuple

from clusteradm.node.serve.plane import OVERLOADED, Refusal

# Of the client whose token the head knows: its name, and how many requests a second it may send.
CLIENT_NAME, CLIENT_RATE = "clusteradm-client-name", "clusteradm-client-rate"

_MOST_CLIENTS = 1024
_MOST_DIGITS = 7


class Rates:
    """How many more messages each client may send now, over all of its streams to this front process."""

    def __init__(self) -> None:
        self._left: "OrderedDict[str, Tuple[float, float]]" = OrderedDict()  # messages, and when they were so many

    def take(self, metadata: Mapping[str, str]) -> None:
        """Count a message. Raises Refusal for one above the rate."""
        text = metadata.get(CLIENT_RATE, "")
        if not text.isdecimal() or len(text) > _MOST_DIGITS:
            return
        rate, name, now = float(text), metadata.get(CLIENT_NAME, ""), time.monotonic()
        left, at = self._left.pop(name, (rate, now))
        left = min(rate, left + rate * (now - at))
        allowed = left >= 1
        self._left[name] = (left - 1 if allowed else left, now)
        if len(self._left) > _MOST_CLIENTS:
            self._left.popitem(last=False)
        if not allowed:
            raise Refusal(OVERLOADED, "more requests a second than the token is for", 1.0)
