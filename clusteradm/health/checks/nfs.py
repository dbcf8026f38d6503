"""The shared file system: on every host what is mounted and how it answers, on the head what it exports and to whom."""

from __future__ import annotations

from collections.abc import Iterator

from clusteradm.health.finding import BOOTSTRAP, Finding, error, ok, warning
from clusteradm.health.reading import Reading
from clusteradm.inventory import Cluster, Host

CHECK, EXPORT = "nfs", "export"
TYPES = ("nfs4", "fuse.nfs4")


# Who is in one of these states cannot use the share; the others are about who else can.
UNFIT = frozenset({"NOT_MOUNTED", "FOREIGN", "STALE", "UNUSABLE", "UNKNOWN"})


def share(cluster: Cluster, host: Host, share: Reading, *, serves: bool = False) -> Iterator[Finding]:
    """How the share is used: one finding. `serves`: whether the head's server is known to answer."""
    mount, use, path = share.part("mount"), share.part("use"), share.text("path")
    source = mount.text("source") or ""
    if not host.is_head and not mount:
        yield error(host.name, CHECK, "NOT_MOUNTED", f"nothing is mounted on {path}", f"{BOOTSTRAP}, or mount {path}")
    elif not host.is_head and not _from_head(cluster, mount.text("type"), source):
        cause = f"{path} is {source} ({mount.text('type')}), not the head's export"
        yield error(host.name, CHECK, "FOREIGN", cause, f"unmount it, then {BOOTSTRAP}")
    elif not use.truth("ok") and use.truth("timeout"):
        cause, remedy = f"{path} does not answer", "see on the head: systemctl status nfs-ganesha"
        if host.is_head:
            remedy = "its disk hangs, or is worn out: see dmesg on the head"
        elif serves:
            cause += ", though the head's server does"
            remedy = "wait half a minute if that has just started; else clusteradm health --fix, which mounts it anew"
        yield error(host.name, CHECK, "STALE", cause, remedy)
    elif not use.truth("ok"):
        yield error(host.name, CHECK, "UNUSABLE", f"the cluster user cannot use {path}: {use.text('error')}", BOOTSTRAP)
    elif not host.is_head and share.part("root").truth("squashed") is False:
        cause = "root of this host is root on the export as well"
        yield error(host.name, CHECK, "ROOT", cause, f"{BOOTSTRAP}: the export squashes root")
    elif host.is_head and (elsewhere := [one for one in share.texts("listens") or () if one != host.cluster_ip]):
        places = ", ".join("every address" if one == "*" else one for one in elsewhere)
        cause = f"the NFS server listens at {places}, not only in the cluster's network"
        yield warning(host.name, CHECK, "EXPOSED", cause, BOOTSTRAP)
    else:
        what = f"{source} ({mount.text('type')})" if mount else "its own"
        yield ok(host.name, CHECK, f"{what}, write and read {(use.real('seconds') or 0) * 1000:.0f} ms")


def export(host: Host, export: Reading) -> Iterator[Finding]:
    """What the head's own server says to it, and to somebody from elsewhere (node/probe/export.py): one finding."""
    outsider = export.part("outsider")
    if not export.truth("answers"):
        cause = f"the NFS server does not answer: {export.text('error') or 'no reason given'}"
        remedy = "on the head: systemctl restart nfs-ganesha; journalctl -u nfs-ganesha says what became of it"
        yield error(host.name, EXPORT, "NOT_SERVING", cause, remedy)
    elif export.truth("exports") is False:
        cause = f"the NFS server does not export the share: {export.text('error') or 'no reason given'}"
        yield error(host.name, EXPORT, "NOT_EXPORTED", cause, BOOTSTRAP)
    elif outsider.truth("refused") is False:
        cause = f"the NFS server lets in who comes from {outsider.text('from')}, which is not in the cluster's subnet"
        yield error(host.name, EXPORT, "OPEN", cause, f"{BOOTSTRAP}: the export is for the subnet alone")
    else:
        yield ok(host.name, EXPORT, f"refused from outside: {outsider.text('said') or 'n/a'}")


def _from_head(cluster: Cluster, kind: str | None, source: str) -> bool:
    """Whether it is an NFS mount of a server that has the head's name or address in the cluster."""
    server = source.partition(":")[0].partition(".")[0] if not source[:1].isdigit() else source.partition(":")[0]
    return kind in TYPES and server in (cluster.head.name.partition(".")[0], cluster.head.cluster_ip)
