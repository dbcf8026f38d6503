"""Failed systemd units of a host."""

from __future__ import annotations

from collections.abc import Iterator

from clusteradm.health.finding import Finding, ok, warning
from clusteradm.health.reading import Reading
from clusteradm.inventory import Host

CHECK = "units"


def judge(host: Host, system: Reading) -> Iterator[Finding]:
    """One finding."""
    failed = system.texts("failed_units")
    if failed:
        cause = f"failed units: {', '.join(failed)}"
        yield warning(host.name, CHECK, "FAILED", cause, f"systemctl status {failed[0]} on the host says why")
    else:
        yield ok(host.name, CHECK, "n/a" if failed is None else "ok")
