"""The rest of a host: clock, disk, failed units, private network, shared file system, inference runtime."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

from clusteradm.health import links, machine, runtimes
from clusteradm.health.finding import Finding, doubtful, ill, well
from clusteradm.inventory import Cluster, Host

BOOTSTRAP = "run clusteradm bootstrap"
# Above this, certificates and file times begin to disagree.
MAX_SKEW_SECONDS = 5.0
MIN_FREE_BYTES = 200 * 1024**2
MIN_FREE_SHARE = 0.05
NFS_TYPES = ("nfs4", "fuse.nfs4")


def judge(cluster: Cluster, host: Host, document: Mapping[str, Any], speeds: Mapping[str, int]) -> Iterator[Finding]:
    """One finding per check of the host. `speeds`: those of all hosts' links."""
    for section, check in (
        ("clock", _clock),
        ("system", _disk),
        ("system", _units),
        ("machine", lambda cluster, host, about: machine.judge(host, about)),
        ("network", _network),
        ("links", lambda cluster, host, about: links.judge(host, about, speeds)),
        ("share", _share),
        ("runtime", _runtime),
    ):
        about = document.get(section)
        if about is None:
            continue
        if set(about) == {"error"}:
            cause = f"the probe failed: {about['error']}"
            yield ill(host.name, section, "UNKNOWN", cause, "see whether the host is in order")
        else:
            yield from check(cluster, host, about)


def _clock(cluster: Cluster, host: Host, clock: Mapping[str, Any]) -> Iterator[Finding]:
    skew, doubt = clock["skew"], clock["doubt"]
    detail = f"{skew:+.2f} s"
    if abs(skew) - doubt > MAX_SKEW_SECONDS:
        yield ill(
            host.name,
            "clock",
            "SKEWED",
            f"the clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the admin's",
            BOOTSTRAP + ", which sets it",
            detail=detail,
        )
    else:
        yield well(host.name, "clock", detail)


def _disk(cluster: Cluster, host: Host, system: Mapping[str, Any]) -> Iterator[Finding]:
    worst = None
    for path, disk in system["disks"].items():
        if disk is None or not disk["size"]:
            continue
        free = disk["free"] / disk["size"]
        if disk["free"] < MIN_FREE_BYTES or free < MIN_FREE_SHARE:
            cause = f"{path} has {disk['free'] / 1e6:.0f} MB free of {disk['size'] / 1e9:.1f} GB"
            yield ill(host.name, "disk", "FULL", cause, "make room: apt-get clean, journalctl --vacuum-size=50M")
            return
        if disk["inodes"] and disk["inodes_free"] / disk["inodes"] < MIN_FREE_SHARE:
            yield ill(host.name, "disk", "FULL", f"{path} has no free inodes", "remove what makes so many small files")
            return
        worst = free if worst is None else min(worst, free)
    yield well(host.name, "disk", "n/a" if worst is None else f"{worst:.0%} free")


def _units(cluster: Cluster, host: Host, system: Mapping[str, Any]) -> Iterator[Finding]:
    failed = system["failed_units"]
    if failed:
        cause = f"failed units: {', '.join(failed)}"
        yield doubtful(host.name, "units", "FAILED", cause, f"systemctl status {failed[0]} on the host says why")
    else:
        yield well(host.name, "units", "n/a" if failed is None else "ok")


def _network(cluster: Cluster, host: Host, network: Mapping[str, Any]) -> Iterator[Finding]:
    name, prefix = host.cluster_interface, ipaddress.ip_network(cluster.setting("cluster_subnet")).prefixlen
    wanted = f"{host.cluster_ip}/{prefix}"
    interface = network["interfaces"].get(name)
    if interface is None:
        there = ", ".join(network["interfaces"])
        cause = f"there is no interface {name} (there are: {there})"
        yield ill(host.name, "network", "NO_INTERFACE", cause, "correct cluster_interface in the inventory")
    elif wanted not in interface["addresses"]:
        has = ", ".join(interface["addresses"]) or "no address"
        cause = f"{name} has {has}, not {wanted}"
        yield ill(host.name, "network", "NO_ADDRESS", cause, BOOTSTRAP)
    elif interface["state"] == "down":
        yield ill(host.name, "network", "DOWN", f"{name} has no carrier", "check the cable and the switch")
    else:
        yield from _names(cluster, host, network["resolved"], f"{name} {wanted}")


def _names(cluster: Cluster, host: Host, resolved: Mapping[str, Any], detail: str) -> Iterator[Finding]:
    wrong = [name for name, found in resolved.items() if found != [cluster.hosts[name].cluster_ip]]
    if wrong:
        found = ", ".join(resolved[wrong[0]]) or "nothing"
        cause = f"the name {wrong[0]} leads to {found}, not to {cluster.hosts[wrong[0]].cluster_ip}"
        yield ill(host.name, "network", "NAMES", cause, BOOTSTRAP, detail=detail)
    else:
        yield well(host.name, "network", detail)


def _share(cluster: Cluster, host: Host, share: Mapping[str, Any]) -> Iterator[Finding]:
    mount, use, path = share["mount"], share["use"], share["path"]
    if not host.is_head and mount is None:
        yield ill(host.name, "nfs", "NOT_MOUNTED", f"nothing is mounted on {path}", f"{BOOTSTRAP}, or mount {path}")
    elif not host.is_head and mount["type"] not in NFS_TYPES:
        cause = f"{path} is {mount['source']} ({mount['type']}), not the head's export"
        yield ill(host.name, "nfs", "FOREIGN", cause, f"unmount it, then {BOOTSTRAP}")
    elif not use["ok"] and use.get("timeout"):
        cause = f"{path} does not answer"
        yield ill(host.name, "nfs", "STALE", cause, "see on the head: systemctl status nfs-ganesha")
    elif not use["ok"]:
        yield ill(host.name, "nfs", "UNUSABLE", f"the cluster user cannot use {path}: {use['error']}", BOOTSTRAP)
    elif (share.get("root") or {}).get("squashed") is False:
        cause = "root of this host is root on the export as well"
        yield ill(host.name, "nfs", "ROOT", cause, f"{BOOTSTRAP}: the export squashes root")
    elif host.is_head and (elsewhere := [one for one in share.get("listens", ()) if one != host.cluster_ip]):
        places = ", ".join("every address" if one == "*" else one for one in elsewhere)
        cause = f"the NFS server listens at {places}, not only in the cluster's network"
        yield doubtful(host.name, "nfs", "EXPOSED", cause, BOOTSTRAP)
    else:
        source = "its own" if mount is None else f"{mount['source']} ({mount['type']})"
        yield well(host.name, "nfs", f"{source}, write and read {use['seconds'] * 1000:.0f} ms")


def _runtime(cluster: Cluster, host: Host, runtime: Mapping[str, Any]) -> Iterator[Finding]:
    if problem := runtimes.problem(runtime):
        yield ill(host.name, "runtime", problem.state, problem.cause, problem.remedy, source=problem.source)
    elif not runtime["mpi4py"]:
        yield ill(host.name, "runtime", "NO_MPI4PY", "mpi4py is not installed for the ranks' Python", BOOTSTRAP)
    else:
        tflite = (runtime["litert"] and f"ai-edge-litert {runtime['litert']}") or (
            runtime["tflite_runtime"] and f"tflite-runtime {runtime['tflite_runtime']}"
        )
        parts = ["pycoral" if runtime["google_pycoral"] else "", tflite or "", f"Python {runtime['python']}"]
        parts.append(f"libedgetpu {runtime['package'] or runtime['library']}")
        yield well(host.name, "runtime", ", ".join(part for part in parts if part))
