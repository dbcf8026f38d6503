"""Memory that a process of servables may take."""

import resource
from typing import Optional

from clusteradm.node.spec.wire.servables import Servable

SHARED = 1024  # MiB, of all tables, transforms and steps of ensembles together


def of(servable: Optional[Servable]) -> int:
    """MiB for one."""
    return servable.python.memory if servable is not None and servable.python is not None else SHARED


def limit(mebibytes: int) -> None:
    """Let this process take so much memory besides what it has now (Linux 4.7 counts all that is its own)."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        has = next((int(line.split()[1]) << 10 for line in file if line.startswith("VmData:")), 0)
    most = has + (mebibytes << 20)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
