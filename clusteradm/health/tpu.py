"""The state of each Edge TPU: one, the one that explains the others (coral-facts: gasket and apex drivers)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from clusteradm.health.finding import Finding, doubtful, ill, well

CHECK = "tpu"
# A chip that fell off the bus reads all ones, which the driver's formula turns into -89.7 °C; `status` stays ALIVE.
WEDGED_MILLIDEGREES = -50_000
# The apex driver divides the 500 MHz clock at each trip point.
CLOCKS_MHZ = (500.0, 250.0, 125.0, 62.5)


@dataclass(frozen=True)
class Tpu:
    """One Edge TPU of a host: its stable PCI address, and the device node that it has now."""

    pci_address: str
    device_path: str


def judge(host: str, expected: int | None, document: Mapping[str, Any]) -> Iterator[Finding]:
    """One finding per TPU of the host, and one for those that are missing."""
    about = document["tpu"]
    runtime = document.get("runtime", {})
    if "error" in about:
        yield ill(host, CHECK, "UNKNOWN", f"the probe failed: {about['error']}", "report this as a defect")
        return
    yield from _witnesses(host, about)
    devices = {device["pci_address"]: device for device in about["apex"]}
    for card in about["pci"]:
        yield _one(host, card, devices.get(card["address"]), about, runtime)
    missing = (expected or 0) - len(about["pci"])
    if missing > 0:
        yield ill(
            host,
            CHECK,
            "ABSENT",
            f"{missing} of {expected} Edge TPUs (cluster_tpus) are not on the PCI bus",
            "power the host off, reseat the module, power it on; if that does not help, try another slot or module",
        )


def _witnesses(host: str, about: Mapping[str, Any]) -> Iterator[Finding]:
    """The bus is asked in three ways; where they do not tell the same, something is half gone."""
    if about["lspci"] is None:
        yield doubtful(host, "bus", "NO_LSPCI", "there is no lspci on the host", "run clusteradm bootstrap")
    told = {"lspci": about["lspci"], "/proc/bus/pci/devices": about["proc"], "sysfs": about["pci"]}
    counts = {name: len(found) for name, found in told.items() if found is not None}
    if len(set(counts.values())) > 1:
        cause = "different numbers of Edge TPUs: " + ", ".join(f"{name} {count}" for name, count in counts.items())
        yield doubtful(
            host, "bus", "DISAGREES", cause, "power-cycle the host: a card fell off the bus, or came too late"
        )


def healthy(host: str, document: Mapping[str, Any]) -> tuple[Tpu, ...]:
    """The TPUs that a job may use now, in the order of their PCI addresses."""
    found = {finding.subject: finding for finding in judge(host, None, document)}
    about = document["tpu"]
    if "error" in about:
        return ()
    devices = {device["pci_address"]: device for device in about["apex"]}
    return tuple(
        Tpu(card["address"], f"/dev/{devices[card['address']]['name']}")
        for card in about["pci"]
        if found[f"{host} {card['address']}"].ok
    )


def _one(
    host: str,
    card: Mapping[str, Any],
    device: Mapping[str, Any] | None,
    about: Mapping[str, Any],
    runtime: Mapping[str, Any],
) -> Finding:
    subject = f"{host} {card['address']}"
    if device is None:
        if card["driver"] is None:
            return ill(
                subject,
                CHECK,
                "NO_DRIVER",
                "no driver is bound to it"
                + ("" if about["driver"]["loaded"] else ", and the module apex is not loaded"),
                "run clusteradm bootstrap; on a PC see `dkms status` and `modprobe apex` on the host",
            )
        return ill(
            subject,
            CHECK,
            "NO_NODE",
            f"the driver {card['driver']} has it, but made no device of it",
            "see `dmesg | grep apex` on the host; a power cycle (not a reboot) often helps",
        )
    path = f"/dev/{device['name']}"
    detail = _detail(device, path, runtime)
    node = device["node"]
    if node is None:
        return ill(subject, CHECK, "NO_NODE", f"{path} is not there", "udevadm trigger on the host, or reboot it")
    permission = _permission(node, about["user_in_group"])
    if permission:
        return ill(subject, CHECK, "NO_PERMISSION", permission, "run clusteradm bootstrap", detail=detail)
    if device["interrupt_counts"] is None or device["status"] == "LAMED":
        return ill(
            subject,
            CHECK,
            "LAMED",
            "its interrupts are not configured (MSI-X): the driver has no interrupt_counts for it",
            "the host must give it 13 MSI-X vectors: another slot, or another host (virtual machines often cannot)",
            detail=detail,
        )
    temperature = _number(device["temp"])
    if temperature is not None and temperature <= WEDGED_MILLIDEGREES:
        return ill(
            subject,
            CHECK,
            "WEDGED",
            f"it reads {temperature / 1000:.1f} °C, as a chip that fell off the bus (status says {device['status']})",
            f"echo 1 > /sys/bus/pci/devices/{card['address']}/remove; echo 1 > /sys/bus/pci/rescan; else a power cycle",
            detail=detail,
        )
    if device["status"] not in (None, "ALIVE"):
        return ill(
            subject, CHECK, "WEDGED", f"the driver calls it {device['status']}", "power-cycle the host", detail=detail
        )
    if device["is_device_owned"] == "1":
        owner = device["owner"] or {}
        who = f"process {owner.get('pid', device['device_owner'])}"
        who += f" of {owner['user']}" if owner.get("user") else ""
        who += f": {owner['command']}" if owner.get("command") else ""
        return doubtful(subject, CHECK, "BUSY", f"it is in use by {who}", "wait for it, or end it", detail=detail)
    hot = _hot(subject, device, temperature, detail)
    return hot or well(subject, CHECK, detail)


def _permission(node: Mapping[str, Any], in_group: bool | None) -> str:
    """Why the cluster user may not open the node; empty if it may."""
    mode = int(node["mode"], 8)
    if mode & 0o006 == 0o006:
        return ""
    if node["group"] != "apex" or mode & 0o060 != 0o060:
        return f"{node['path']} is {node['owner']}:{node['group']} {node['mode']}, not root:apex 0660"
    return "" if in_group else "the cluster user is not in the group apex"


def _hot(subject: str, device: Mapping[str, Any], temperature: int | None, detail: str) -> Finding | None:
    trips = [_number(device[f"trip_point{number}_temp"]) for number in range(3)]
    if temperature is None or None in trips:
        return None
    step = sum(temperature >= trip for trip in trips if trip is not None)
    if step == 0:
        return None
    cause = f"{temperature / 1000:.1f} °C is above its trip point {step - 1} ({(trips[step - 1] or 0) / 1000:.1f} °C)"
    remedy = "more air over the module: a fan, a heat sink, fewer modules side by side"
    if _number(device["temp_poll_interval"]) == 0:
        return doubtful(
            subject,
            CHECK,
            "HOT",
            f"{cause}; this driver does not throttle (temp_poll_interval 0)",
            remedy,
            detail=detail,
        )
    return doubtful(
        subject, CHECK, "THROTTLED", f"{cause}: it runs at {CLOCKS_MHZ[step]:g} of 500 MHz", remedy, detail=detail
    )


def _detail(device: Mapping[str, Any], path: str, runtime: Mapping[str, Any]) -> str:
    temperature = _number(device["temp"])
    parts = [path, f"apex {device['driver_version'] or 'n/a'}"]
    parts.append("temperature n/a" if temperature is None else f"{temperature / 1000:.1f} °C")
    library = re.search(r"SIMULATED[^)]*", str(runtime.get("library", "")))
    if library:
        parts.append(library[0])
    return ", ".join(parts)


def _number(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None
