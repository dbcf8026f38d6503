"""Wait for a host that reboots."""

from __future__ import annotations

import time
from collections.abc import Callable

from clusteradm.errors import ClusteradmError, HostFailed
from clusteradm.inventory import Host
from clusteradm.node.spec.wire.node import Hello
from clusteradm.transport.connections import Connections


def await_boot(connections: Connections, host: Host, boot: str, seconds: float, pause: Callable[[float], None]) -> None:
    """Wait until the host answers from another boot than the one with the kernel's id `boot`.

    Raises, after `seconds`, the error with which it did not answer; HostFailed where it has not shut down.
    """
    deadline = time.monotonic() + seconds
    while True:
        failure: ClusteradmError
        try:
            pause(1.0)
            connections.drop(host)
            node = connections.reconnect(host, within=max(1.0, deadline - time.monotonic()))
            if node.call(Hello(), timeout=10).boot != boot:
                return
            failure = HostFailed("the host has not shut down", where=host.name)
        except ClusteradmError as error:
            failure = error
        if time.monotonic() > deadline:
            raise failure
