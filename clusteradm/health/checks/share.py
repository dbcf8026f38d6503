"""The shared directory on a host: what is mounted there, and whether the cluster user can write and read a file."""

from __future__ import annotations

from collections.abc import Iterator

from clusteradm.health.finding import BOOTSTRAP, Finding, error, ok, warning
from clusteradm.health.reading import Reading
from clusteradm.inventory import Cluster, Host

CHECK = "nfs"
TYPES = ("nfs4", "fuse.nfs4")
# States of a host that cannot use the share; the others are about access that should not be possible.
UNFIT = frozenset({"NOT_MOUNTED", "FOREIGN", "STALE", "UNUSABLE", "UNKNOWN", "BUSY"})
# Those of them that a busy machine brings about, too: its probe has a time limit.
SLOW = frozenset({"STALE", "UNKNOWN", "BUSY"})
_DISK = "the head's disk hangs, is worn out, or has much to write: see dmesg and top on the head"


def judge(cluster: Cluster, host: Host, share: Reading, *, serves: bool = False) -> Iterator[Finding]:
    """One finding. `serves`: whether the head's NFS server answered its own check (`export`)."""
    mount, use, path = share.part("mount"), share.part("use"), share.text("path")
    source = mount.text("source") or ""
    if not host.is_head and not mount:
        yield error(host.name, CHECK, "NOT_MOUNTED", f"nothing is mounted on {path}", f"{BOOTSTRAP}, or mount {path}")
    elif not host.is_head and not _from_head(cluster, mount.text("type"), source):
        cause = f"{path} is {source} ({mount.text('type')}), not the head's export"
        yield error(host.name, CHECK, "FOREIGN", cause, f"unmount it, then {BOOTSTRAP}")
    elif not use.boolean("ok") and use.boolean("timeout"):
        if use.boolean("answers") is True:
            yield error(host.name, CHECK, "STALE", f"{path} answers, but takes no small file in time", _DISK)
        else:
            yield stale(host, f"{path} does not answer", serves=serves)
    elif not use.boolean("ok"):
        yield error(host.name, CHECK, "UNUSABLE", f"the cluster user cannot use {path}: {use.text('error')}", BOOTSTRAP)
    elif not host.is_head and share.part("root").boolean("squashed") is False:
        cause = "root of this host is root on the export as well"
        yield error(host.name, CHECK, "ROOT", cause, f"{BOOTSTRAP}: the export squashes root")
    elif host.is_head and (elsewhere := [one for one in share.texts("listens") or () if one != host.cluster_ip]):
        places = ", ".join("every address" if one == "*" else one for one in elsewhere)
        cause = f"the NFS server listens at {places}, not only in the cluster's network"
        yield warning(host.name, CHECK, "EXPOSED", cause, BOOTSTRAP)
    else:
        what = f"{source} ({mount.text('type')})" if mount else "its own"
        yield ok(host.name, CHECK, f"{what}, write and read {(use.number('seconds') or 0) * 1000:.0f} ms")


def stale(host: Host, cause: str, *, serves: bool) -> Finding:
    """Finding of a share that does not answer in time."""
    remedy = "see on the head: systemctl status nfs-ganesha"
    if host.is_head:
        remedy = _DISK
    elif serves:
        cause += ", though the head's server does"
        remedy = "wait half a minute if that has just started; else clusteradm health --fix, which mounts it anew"
    return error(host.name, CHECK, "STALE", cause, remedy)


def _from_head(cluster: Cluster, kind: str | None, source: str) -> bool:
    """Whether a mount of type `kind` is of NFS and `source` names the head: its host name or its cluster address."""
    server = source.partition(":")[0].partition(".")[0] if not source[:1].isdigit() else source.partition(":")[0]
    return kind in TYPES and server in (cluster.head.name.partition(".")[0], cluster.head.cluster_ip)
