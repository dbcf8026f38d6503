"""What the board's own sensors and its system say beyond size: heat, fans, power, worn-out storage, time, versions."""

import os
import re
from typing import Any, Dict, List, Optional

from clusteradm.node.probe import names, number, output, read

# What has to be the same on every host of a cluster.
PACKAGES = ("openmpi-bin", "libopenmpi3", "python3-mpi4py", "libedgetpu1-std", "nfs-common", "nfs-ganesha")


def probe(root: str, options: Dict[str, Any]) -> Dict[str, Any]:
    """Temperatures in milli-degrees, sizes in bytes; null for what the machine does not show."""
    memory = dict(re.findall(r"^(\w+):\s+(\d+) kB$", read(root, "proc/meminfo") or "", re.M))
    return {
        "zones": zones(root),
        "fans": fans(root),
        "power_alarms": power_alarms(root),
        "cma_total": int(memory["CmaTotal"]) * 1024 if "CmaTotal" in memory else None,
        "cma_free": int(memory["CmaFree"]) * 1024 if "CmaFree" in memory else None,
        "emmc": emmc(root),
        "ntp": ntp(),
        "reboot": read(root, "run/reboot-required") is not None,
        "packages": packages(),
    }


def zones(root: str) -> List[Dict[str, Any]]:
    """Thermal zones (the kernel's ABI/testing/sysfs-class-thermal): type, temperature, where it is critical."""
    base = os.path.join(root, "sys/class/thermal")
    found = []
    for name in names(base):
        temperature = number(read(base, name, "temp"))
        if not name.startswith("thermal_zone") or temperature is None:
            continue
        trips = {
            read(base, name, "trip_point_%d_type" % trip): number(read(base, name, "trip_point_%d_temp" % trip))
            for trip in range(12)
        }
        found.append(
            {
                "zone": name,
                "type": read(base, name, "type"),
                "temp": temperature,
                "passive": trips.get("passive"),
                "critical": trips.get("critical"),
            }
        )
    return found


def fans(root: str) -> List[Dict[str, Any]]:
    """Fans of hwmon: turns per minute, and how fast they are told to turn (0 to 255)."""
    return [
        {
            "fan": "%s %s" % (read(folder, "name") or "", name[: -len("_input")]),
            "rpm": number(read(folder, name)),
            "pwm": number(read(folder, "pwm" + name[len("fan") : -len("_input")])),
        }
        for folder in _hwmon(root)
        for name in names(folder)
        if re.match(r"fan\d+_input\Z", name)
    ]


def power_alarms(root: str) -> List[str]:
    """The voltages that a sensor calls too low, now or since it was last asked (hwmon: in*_lcrit_alarm, in*_alarm)."""
    return [
        "%s %s" % (read(folder, "name") or "", name.split("_")[0])
        for folder in _hwmon(root)
        for name in names(folder)
        if re.match(r"in\d+_(lcrit_|min_)?alarm\Z", name) and read(folder, name) == "1"
    ]


def emmc(root: str) -> List[Dict[str, Any]]:
    """eMMC chips that tell of their wear (JEDEC 5.0): tenths of the life used (11: beyond it), and pre-EOL 1 to 3."""
    base = os.path.join(root, "sys/class/mmc_host")
    found = []
    for host in names(base):
        for card in names(base, host):
            life = read(base, host, card, "life_time")
            if life is None:
                continue
            used = [int(part, 16) for part in life.split()]
            found.append({"card": card, "life": max(used), "pre_eol": _hex(read(base, host, card, "pre_eol_info"))})
    return found


def ntp() -> Optional[bool]:
    """Whether the clock follows a time server; null where systemd does not say."""
    said = output(["timedatectl", "show", "--property=NTPSynchronized", "--value"])
    return {"yes": True, "no": False}.get((said or "").strip())


def packages() -> Dict[str, str]:
    """Versions of those of PACKAGES that are installed."""
    said = output(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status} ${Version}\\n", *PACKAGES]) or ""
    rows = [line.split() for line in said.splitlines()]
    return {row[0]: row[2] for row in rows if len(row) == 3 and row[1] == "installed"}


def _hwmon(root: str) -> List[str]:
    base = os.path.join(root, "sys/class/hwmon")
    return [os.path.join(base, name) for name in names(base)]


def _hex(text: Optional[str]) -> Optional[int]:
    try:
        return int(text, 16) if text is not None else None
    except ValueError:
        return None
