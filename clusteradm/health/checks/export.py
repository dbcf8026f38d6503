"""The head's NFS server: answers, exports the shared directory, refuses clients from outside the cluster's subnet."""

from __future__ import annotations

from collections.abc import Iterator

from clusteradm.health.finding import BOOTSTRAP, Finding, error, ok
from clusteradm.health.reading import Reading
from clusteradm.inventory import Host

CHECK = "export"


def judge(host: Host, export: Reading) -> Iterator[Finding]:
    """One finding."""
    outsider = export.part("outsider")
    if export.boolean("handles") is False:
        cause = "the shared directory is on a file system without file handles, which no NFS server can export"
        remedy = (
            "put a file system under it that has some (ext4, xfs, btrfs), or choose another cluster_shared: "
            "findmnt -T on the head says what it is on; then run clusteradm bootstrap"
        )
        yield error(host.name, CHECK, "NO_HANDLES", cause, remedy)
    elif not export.boolean("answers"):
        cause = f"the NFS server does not answer: {export.text('error') or 'no reason given'}"
        remedy = "on the head: systemctl restart nfs-ganesha; journalctl -u nfs-ganesha says what became of it"
        yield error(host.name, CHECK, "NOT_SERVING", cause, remedy)
    elif export.boolean("exports") is False:
        cause = f"the NFS server does not export the share: {export.text('error') or 'no reason given'}"
        yield error(host.name, CHECK, "NOT_EXPORTED", cause, BOOTSTRAP)
    elif outsider.boolean("refused") is False:
        cause = f"the NFS server lets in who comes from {outsider.text('from')}, which is not in the cluster's subnet"
        yield error(host.name, CHECK, "OPEN", cause, f"{BOOTSTRAP}: the export is for the subnet alone")
    else:
        yield ok(host.name, CHECK, f"refused from outside: {outsider.text('said') or 'n/a'}")
