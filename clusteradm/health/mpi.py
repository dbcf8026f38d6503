"""MPI as the head's cluster user sees it: can it start a process on every host, and do all write to one share?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from clusteradm.health.finding import Finding, ill, well
from clusteradm.inventory import Host

CHECK = "mpi"


def judge(hosts: Iterable[Host], document: Mapping[str, Any]) -> Iterator[Finding]:
    """One finding per host."""
    hello = document["hello"]
    for host in hosts:
        login = document["login"].get(host.name)
        if login is None:
            continue
        if not login["ok"]:
            cause = f"the head's cluster user cannot log in: {login['error']}"
            yield ill(host.name, CHECK, "NO_LOGIN", cause, "run clusteradm bootstrap")
        elif host.name in hello.get("said", ()) and host.name in hello.get("wrote", ()):
            yield well(host.name, CHECK, "ok")
        elif host.name in hello.get("said", ()):
            cause = "its MPI process wrote a file that the head does not see"
            yield ill(host.name, CHECK, "OTHER_SHARE", cause, "run clusteradm bootstrap; see the finding on nfs")
        else:
            cause = f"mpirun did not start a process there: {hello.get('error', 'no reason given')}"
            yield ill(host.name, CHECK, "NO_START", cause, "run clusteradm bootstrap; see the finding on the network")
