"""Figures of a survey: measured values, independent of the findings; a value that is missing is left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from clusteradm.health import Survey, tpu
from clusteradm.health.reading import Reading, as_number
from clusteradm.health.tpu import facts
from clusteradm.inventory import Cluster
from clusteradm.node.spec.wire.job_requests import JobDetails


@dataclass(frozen=True)
class Family:
    """Metric. `kind`: gauge, counter or histogram (Prometheus), whose figures have names of their own, PARTS after its
    own; `meaning`: its help text; `labels`: names of its labels."""

    kind: str
    meaning: str
    labels: tuple[str, ...] = ("host",)


# Of a histogram: how many values were at most `le`; their sum; how many there are.
HISTOGRAM = "histogram"
PARTS = BUCKET, SUM, COUNT = ("_bucket", "_sum", "_count")
# Names by Prometheus' convention: quantity, then base unit.
FAMILIES = {
    "host_info": Family("gauge", "The host's kernel and system; always 1.", ("host", "kernel", "os", "model")),
    "host_place": Family("gauge", "The host's rack and slot, by the inventory; always 1.", ("host", "rack", "slot")),
    "host_uptime_seconds": Family("gauge", "Time since the host started."),
    "host_load": Family("gauge", "Load average of the host over one minute."),
    "host_processors": Family("gauge", "Processors of the host."),
    "host_clock_skew_seconds": Family("gauge", "Offset of the host's clock from the admin's; positive if ahead."),
    "host_memory_total_bytes": Family("gauge", "Memory of the host."),
    "host_memory_available_bytes": Family("gauge", "Memory available to programs."),
    "host_disk_size_bytes": Family("gauge", "Size of the file system at a path.", ("host", "path")),
    "host_disk_free_bytes": Family("gauge", "Free space, for users, of the file system at a path.", ("host", "path")),
    "host_disk_inodes": Family("gauge", "Inodes of the file system at a path.", ("host", "path")),
    "host_disk_inodes_free": Family("gauge", "Free inodes of the file system at a path.", ("host", "path")),
    "host_failed_units": Family("gauge", "Failed systemd units."),
    "host_cma_total_bytes": Family("gauge", "Memory reserved for devices (CMA)."),
    "host_cma_free_bytes": Family("gauge", "Free memory of the CMA reserve."),
    "host_reboot_pending": Family("gauge", "1 if a reboot is pending."),
    "host_temperature_celsius": Family("gauge", "Temperature of a thermal zone of the host.", ("host", "zone")),
    "host_head_round_trip_seconds": Family("gauge", "Time of an echo from the host to the head and back."),
    "host_head_loss_ratio": Family("gauge", "Share of the echoes between host and head that were lost."),
    "host_share_seconds": Family("gauge", "Time to write a small file to the shared file system and read it back."),
    "host_tpus": Family("gauge", "Edge TPUs on the host's PCI bus."),
    "host_tpus_expected": Family("gauge", "Edge TPUs that the inventory declares for the host (cluster_tpus)."),
    "host_tpus_simulated": Family("gauge", "1 if the host's Edge TPUs are simulated, as those of clusteradm lab are."),
    "tpu_info": Family(
        "gauge", "The TPU's device node and driver version; always 1.", ("host", "tpu", "device", "driver")
    ),
    "tpu_temperature_celsius": Family("gauge", "Temperature of the TPU's chip.", ("host", "tpu")),
    "tpu_trip_point_celsius": Family(
        "gauge", "Temperature above which the driver slows the TPU down, by number.", ("host", "tpu", "point")
    ),
    "tpu_clock_hertz": Family("gauge", "Clock of the TPU, as its driver sets it by the temperature.", ("host", "tpu")),
    "tpu_owned": Family("gauge", "1 if a process has the TPU open.", ("host", "tpu")),
    "tpu_interrupts_total": Family("counter", "Interrupts of the TPU since its driver was loaded.", ("host", "tpu")),
    # Of the running jobs; a rank without a TPU has tpu="cpu".
    "job_inputs": Family("gauge", "Inputs of a running job.", ("job", "model")),
    "job_inputs_done": Family("gauge", "Inputs of a running job that have a result.", ("job", "model")),
    "rank_images_total": Family("counter", "Inputs that a rank has processed in this attempt.", ("job", "host", "tpu")),
    "rank_seconds_total": Family("counter", "Working time of a rank in this attempt.", ("job", "host", "tpu")),
    "rank_busy_seconds_total": Family("counter", "Time of that in which its TPU computed.", ("job", "host", "tpu")),
}
CPU = "cpu"


@dataclass(frozen=True)
class Figure:
    """One value. `name`: a key of FAMILIES, with one of PARTS after that of a histogram; `labels`: with "host", but for
    figures of the survey itself."""

    name: str
    labels: Mapping[str, str]
    value: float


def figures(cluster: Cluster, survey: Survey) -> Iterator[Figure]:
    """Every figure of a survey, host by host. Raises nothing, whatever the documents hold."""
    # A host that does not answer has its TPUs all the same.
    for each in cluster.hosts.values():
        expected = as_number(cluster.setting("cluster_tpus", each))
        if each.name not in survey.documents and each.name not in survey.errors:
            continue
        if expected is not None:
            yield Figure("host_tpus_expected", {"host": each.name}, expected)
        rack, slot = (cluster.setting(name, each) for name in ("cluster_rack", "cluster_slot"))
        if rack is not None or slot is not None:
            place = {"rack": str(rack or ""), "slot": "" if slot is None else str(slot)}
            yield Figure("host_place", {"host": each.name, **place}, 1)
    for name, raw in survey.documents.items():
        document, host = Reading(raw), {"host": name}
        for figure, value in _host(document):
            if value is not None:
                yield Figure(figure, host, value)
        system = document.part("system")
        kernel, release = system.text("kernel") or "", system.text("name") or ""
        if kernel or release:
            labels = {**host, "kernel": kernel, "os": release, "model": system.text("model") or ""}
            yield Figure("host_info", labels, 1)
        for path, disk in system.parts_by_name("disks").items():
            for key in ("size", "free", "inodes", "inodes_free"):
                if (number := disk.number(key)) is not None:
                    unit = "" if "inodes" in key else "_bytes"
                    yield Figure(f"host_disk_{key}{unit}", {**host, "path": path}, number)
        for zone in document.part("machine").parts("zones"):
            if (millidegrees := zone.number("temp")) is not None:
                yield Figure("host_temperature_celsius", {**host, "zone": zone.text("type") or ""}, millidegrees / 1000)
        for device in document.part("tpu").parts("apex"):
            yield from _tpu(name, device)
        known = facts.read(raw)
        for one in known.accelerators:
            labels = {**host, "tpu": one.address}
            yield Figure("tpu_info", {**labels, "device": one.path or "", "driver": one.id}, 1)
            yield Figure("tpu_owned", labels, int(one.owner is not None))
        for address, about in known.devices.items():
            if (megahertz := tpu.clock(about)) is not None:
                yield Figure("tpu_clock_hertz", {**host, "tpu": address}, megahertz * 1e6)


def _host(document: Reading) -> Iterator[tuple[str, float | None]]:
    clock, system, machine, edge = (document.part(name) for name in ("clock", "system", "machine", "tpu"))
    head, use = document.part("links").part("head"), document.part("share").part("use")
    units, cards, reboot = system.values("failed_units"), edge.values("pci"), machine.boolean("reboot")
    accelerators = edge.values("usb") or ()
    milliseconds = head.number("milliseconds")
    yield "host_uptime_seconds", system.number("uptime")
    yield "host_load", system.number("load")
    yield "host_processors", system.number("processors")
    yield "host_clock_skew_seconds", clock.number("skew")
    yield "host_memory_total_bytes", system.number("memory_total")
    yield "host_memory_available_bytes", system.number("memory_available")
    yield "host_failed_units", None if units is None else len(units)
    yield "host_cma_total_bytes", machine.number("cma_total")
    yield "host_cma_free_bytes", machine.number("cma_free")
    yield "host_reboot_pending", None if reboot is None else int(reboot)
    yield "host_head_round_trip_seconds", None if milliseconds is None else milliseconds / 1000
    yield "host_head_loss_ratio", head.number("loss")
    yield "host_share_seconds", use.number("seconds") if use.boolean("ok") else None
    yield "host_tpus", None if cards is None else len(cards) + len(accelerators)
    library = document.part("runtime").text("library")
    yield "host_tpus_simulated", None if library is None else int("SIMULATED" in library)


def _tpu(host: str, device: Reading) -> Iterator[Figure]:
    address = device.text("pci_address")
    if not address:
        return
    labels = {"host": host, "tpu": address}
    node, driver = device.text("name") or "", device.text("driver_version") or ""
    yield Figure("tpu_info", {**labels, "device": node, "driver": driver}, 1)
    if (owned := device.number("is_device_owned")) is not None:
        yield Figure("tpu_owned", labels, owned)
    if (millidegrees := device.number("temp")) is not None:
        yield Figure("tpu_temperature_celsius", labels, millidegrees / 1000)
    for point in range(3):
        if (millidegrees := device.number(f"trip_point{point}_temp")) is not None:
            yield Figure("tpu_trip_point_celsius", {**labels, "point": str(point)}, millidegrees / 1000)
    # One line per vector, "0x00: 12".
    counts = [as_number(line.partition(":")[2]) for line in (device.text("interrupt_counts") or "").splitlines()]
    if counts and None not in counts:
        yield Figure("tpu_interrupts_total", labels, sum(count for count in counts if count is not None))


def of_jobs(jobs: Iterable[JobDetails]) -> Iterator[Figure]:
    """Figures of running jobs and of their ranks."""
    for details in jobs:
        status, progress, job = details.status, details.progress, details.spec.job
        labels = {"job": job, "model": f"{details.spec.model.name}:{details.spec.model.version}"}
        yield Figure("job_inputs", labels, status.total)
        if progress is None:
            continue
        yield Figure("job_inputs_done", labels, progress.done)
        for rank in progress.ranks:
            place = {"job": job, "host": rank.host, "tpu": rank.pci_address or CPU}
            yield Figure("rank_images_total", place, rank.images)
            yield Figure("rank_seconds_total", place, rank.seconds)
            yield Figure("rank_busy_seconds_total", place, rank.busy)
