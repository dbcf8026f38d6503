"""The board itself: heat, power, memory, worn-out storage, time, and what waits for a reboot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from clusteradm.health.finding import Finding, doubtful, ill, well
from clusteradm.inventory import Host

# Below what a zone calls critical, in milli-degrees: the kernel powers the board off there.
CRITICAL_MARGIN = 5_000
# What the driver of an Edge TPU allocates its page tables and buffers from, on a board that has one area for it.
MIN_CMA_FREE = 16 * 1024**2
# JEDEC 5.0: life used in tenths, 10 is 90 to 100 %.
WORN = 9


def judge(host: Host, machine: Mapping[str, Any]) -> Iterator[Finding]:
    """One finding per kind of trouble; one of health where there is none."""
    troubles = [
        *_heat(host, machine),
        *_power(host, machine),
        *_memory(host, machine),
        *_storage(host, machine),
        *_time(host, machine),
    ]
    yield from troubles
    if not troubles:
        yield well(host.name, "machine", _detail(machine))


def _detail(machine: Mapping[str, Any]) -> str:
    parts = [f"{_hottest(machine) / 1000:.0f} °C"] if machine["zones"] else []
    parts += [f"{fan['rpm']} rpm" for fan in machine["fans"] if fan["rpm"]]
    return ", ".join(parts) or "ok"


def _hottest(machine: Mapping[str, Any]) -> int:
    return max(int(zone["temp"]) for zone in machine["zones"])


def _heat(host: Host, machine: Mapping[str, Any]) -> Iterator[Finding]:
    for zone in machine["zones"]:
        name, temperature = zone["type"] or zone["zone"], zone["temp"]
        detail = f"{name} {temperature / 1000:.0f} °C"
        critical, passive = zone["critical"], zone["passive"]
        if critical and temperature >= critical - CRITICAL_MARGIN:
            cause = (
                f"{name} has {temperature / 1000:.0f} °C; at {critical / 1000:.0f} °C the kernel powers the board off"
            )
            yield ill(
                host.name, "heat", "CRITICAL", cause, "see to its fan and heat sink, and to the air", detail=detail
            )
            return
        if passive and temperature >= passive:
            cause = f"{name} has {temperature / 1000:.0f} °C, and is slowed down from {passive / 1000:.0f} °C on"
            yield doubtful(
                host.name, "heat", "HOT", cause, "see to its fan and heat sink, and to the air", detail=detail
            )
            return


def _power(host: Host, machine: Mapping[str, Any]) -> Iterator[Finding]:
    if machine["power_alarms"]:
        cause = f"a voltage is or was too low: {', '.join(machine['power_alarms'])}"
        remedy = "a power supply that gives what the board asks for (a Dev Board: 5 V, 3 A), on a short cable"
        yield doubtful(host.name, "power", "LOW", cause, remedy)


def _memory(host: Host, machine: Mapping[str, Any]) -> Iterator[Finding]:
    total, free = machine["cma_total"], machine["cma_free"]
    if total and free is not None and total >= 2 * MIN_CMA_FREE and free < MIN_CMA_FREE:
        cause = f"{free / 2**20:.0f} MiB of {total / 2**20:.0f} MiB are left of the memory for devices (CMA)"
        yield doubtful(host.name, "memory", "NO_CMA", cause, "reboot the board, or give it more: the boot option cma=")


def _storage(host: Host, machine: Mapping[str, Any]) -> Iterator[Finding]:
    for chip in machine["emmc"]:
        if chip["life"] >= WORN or (chip["pre_eol"] or 0) >= 2:
            cause = f"the eMMC {chip['card']} is worn out (life {chip['life']} of 10, pre-EOL {chip['pre_eol']})"
            yield doubtful(host.name, "storage", "WORN", cause, "save what is on it, and replace the board in time")


def _time(host: Host, machine: Mapping[str, Any]) -> Iterator[Finding]:
    if machine["reboot"]:
        cause = "a new kernel or library waits for a reboot (/run/reboot-required)"
        yield doubtful(host.name, "reboot", "PENDING", cause, "reboot the host when no job runs on it")
