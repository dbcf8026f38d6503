"""Account that work on a host is done as: the login's, or root's."""

from __future__ import annotations

import os
import pwd

from clusteradm.inventory import Host
from clusteradm.transport import Connections
from clusteradm.transport.password import user_of


def account(connections: Connections, host: Host, sudo: bool) -> str:
    """Name of the login's user on the host, as the inventory and ssh_config have it; root with `sudo`."""
    if sudo:
        return "root"
    if host.is_local:
        return pwd.getpwuid(os.geteuid()).pw_name
    return user_of(connections.resolved(host))
