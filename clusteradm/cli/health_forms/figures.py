"""The figures of a survey: what was measured, whatever the judge thinks of it. What is not there is not told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from clusteradm.health import Survey
from clusteradm.inventory import Cluster


@dataclass(frozen=True)
class Family:
    """What one name stands for. `kind`: gauge or counter, as Prometheus has them; `labels`: what a figure is of."""

    kind: str
    meaning: str
    labels: tuple[str, ...] = ("host",)


# Names by Prometheus' convention: what, then the unit, always a base unit.
FAMILIES = {
    "host_info": Family("gauge", "The host's kernel and system; always 1.", ("host", "kernel", "os", "model")),
    "host_uptime_seconds": Family("gauge", "Time since the host started."),
    "host_clock_skew_seconds": Family("gauge", "How far the host's clock is ahead of the admin's."),
    "host_memory_total_bytes": Family("gauge", "Memory of the host."),
    "host_memory_available_bytes": Family("gauge", "Memory that programs could still get."),
    "host_disk_size_bytes": Family("gauge", "Size of the file system at a path.", ("host", "path")),
    "host_disk_free_bytes": Family("gauge", "Free space, for users, of the file system at a path.", ("host", "path")),
    "host_disk_inodes": Family("gauge", "Inodes of the file system at a path.", ("host", "path")),
    "host_disk_inodes_free": Family("gauge", "Free inodes of the file system at a path.", ("host", "path")),
    "host_failed_units": Family("gauge", "Units that systemd calls failed."),
    "host_cma_total_bytes": Family("gauge", "Memory that the kernel keeps for devices (CMA)."),
    "host_cma_free_bytes": Family("gauge", "What of it is free."),
    "host_reboot_pending": Family("gauge", "1 if the host wants a reboot."),
    "host_temperature_celsius": Family("gauge", "Temperature of a thermal zone of the host.", ("host", "zone")),
    "host_head_round_trip_seconds": Family("gauge", "Time of an echo from the host to the head and back."),
    "host_head_loss_ratio": Family("gauge", "Share of the echoes between host and head that were lost."),
    "host_share_seconds": Family("gauge", "Time to write a small file to the shared file system and read it back."),
    "host_tpus": Family("gauge", "Edge TPUs on the host's PCI bus."),
    "host_tpus_expected": Family("gauge", "Edge TPUs that the inventory says the host has (cluster_tpus)."),
    "tpu_info": Family(
        "gauge", "The TPU's device node and driver version; always 1.", ("host", "tpu", "device", "driver")
    ),
    "tpu_temperature_celsius": Family("gauge", "Temperature of the TPU's chip.", ("host", "tpu")),
    "tpu_trip_point_celsius": Family(
        "gauge", "Temperature above which the driver slows the TPU down, by number.", ("host", "tpu", "point")
    ),
    "tpu_owned": Family("gauge", "1 if a process has the TPU open.", ("host", "tpu")),
    "tpu_interrupts_total": Family("counter", "Interrupts of the TPU since its driver was loaded.", ("host", "tpu")),
}


@dataclass(frozen=True)
class Figure:
    """One figure. `name`: a key of FAMILIES; `labels`: what it is of, always with "host"."""

    name: str
    labels: Mapping[str, str]
    value: float


def figures(cluster: Cluster, survey: Survey) -> Iterator[Figure]:
    """Every figure that the survey has, host by host. Never raises: a document may be of any program, and damaged."""
    for name, document in survey.documents.items():
        host = {"host": name}
        for figure, value in _host(document):
            yield Figure(figure, host, value)
        expected = _number(cluster.setting("cluster_tpus", cluster.hosts.get(name)))
        if expected is not None and name in cluster.hosts:
            yield Figure("host_tpus_expected", host, expected)
        system = _dict(document.get("system"))
        kernel, release = _text(system.get("kernel")), _text(system.get("name"))
        if kernel or release:
            yield Figure("host_info", {**host, "kernel": kernel, "os": release, "model": _text(system.get("model"))}, 1)
        for path, disk in _dict(system.get("disks")).items():
            for key in ("size", "free", "inodes", "inodes_free"):
                if (number := _number(_dict(disk).get(key))) is not None:
                    unit = "" if "inodes" in key else "_bytes"
                    yield Figure(f"host_disk_{key}{unit}", {**host, "path": str(path)}, number)
        for zone in map(_dict, _list(_dict(document.get("machine")).get("zones"))):
            if (millidegrees := _number(zone.get("temp"))) is not None:
                yield Figure("host_temperature_celsius", {**host, "zone": _text(zone.get("type"))}, millidegrees / 1000)
        for device in _list(_dict(document.get("tpu")).get("apex")):
            yield from _tpu(name, _dict(device))


def _host(document: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    clock, system, machine = (_dict(document.get(name)) for name in ("clock", "system", "machine"))
    head = _dict(_dict(document.get("links")).get("head"))
    use = _dict(_dict(document.get("share")).get("use"))
    units, cards, reboot = system.get("failed_units"), _dict(document.get("tpu")).get("pci"), machine.get("reboot")
    milliseconds = _number(head.get("milliseconds"))
    for name, value in (
        ("host_uptime_seconds", system.get("uptime")),
        ("host_clock_skew_seconds", clock.get("skew")),
        ("host_memory_total_bytes", system.get("memory_total")),
        ("host_memory_available_bytes", system.get("memory_available")),
        ("host_failed_units", len(units) if isinstance(units, list) else None),
        ("host_cma_total_bytes", machine.get("cma_total")),
        ("host_cma_free_bytes", machine.get("cma_free")),
        ("host_reboot_pending", int(reboot) if isinstance(reboot, bool) else None),
        ("host_head_round_trip_seconds", None if milliseconds is None else milliseconds / 1000),
        ("host_head_loss_ratio", head.get("loss")),
        ("host_share_seconds", use.get("seconds") if use.get("ok") else None),
        ("host_tpus", len(cards) if isinstance(cards, list) else None),
    ):
        if (number := _number(value)) is not None:
            yield name, number


def _tpu(host: str, device: Mapping[str, Any]) -> Iterator[Figure]:
    address = _text(device.get("pci_address"))
    if not address:
        return
    labels = {"host": host, "tpu": address}
    node, driver = _text(device.get("name")), _text(device.get("driver_version"))
    yield Figure("tpu_info", {**labels, "device": node, "driver": driver}, 1)
    if (owned := _number(device.get("is_device_owned"))) is not None:
        yield Figure("tpu_owned", labels, owned)
    if (millidegrees := _number(device.get("temp"))) is not None:
        yield Figure("tpu_temperature_celsius", labels, millidegrees / 1000)
    for point in range(3):
        if (millidegrees := _number(device.get(f"trip_point{point}_temp"))) is not None:
            yield Figure("tpu_trip_point_celsius", {**labels, "point": str(point)}, millidegrees / 1000)
    # One line per vector, "0x00: 12".
    counts = [_number(line.partition(":")[2]) for line in _text(device.get("interrupt_counts")).splitlines()]
    if counts and None not in counts:
        yield Figure("tpu_interrupts_total", labels, sum(count for count in counts if count is not None))


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < float("inf") else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
