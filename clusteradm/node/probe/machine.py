"""What the board's own sensors and its system say beyond size: heat, fans, power, worn-out storage, time, versions."""

import os
import re
from typing import Any, Dict, List, Optional

from clusteradm.node.probe.driver import kernel_log
from clusteradm.node.probe.programs import output
from clusteradm.node.probe.system import meminfo
from clusteradm.node.texts import names, number, read

# What has to be the same on every host of a cluster.
PACKAGES = ("openmpi-bin", "libopenmpi3", "python3-mpi4py", "libedgetpu1-std", "nfs-common", "nfs-ganesha")
# The kernel's drivers of fans that a device tree describes (drivers/hwmon), by what they call their cooling devices.
FANS = ("gpio-fan", "pwm-fan")
# For each program that is asked: the section has but a few seconds in all, and is lost with what takes longer.
_SECONDS = 3.0
_TRIPS = 12
_KILLED = 10


def probe(root: str, options: Dict[str, Any]) -> Dict[str, Any]:
    """Temperatures in milli-degrees, sizes in bytes; null for what the machine does not show."""
    memory = meminfo(root)
    return {
        "zones": zones(root),
        "fans": fans(root),
        "cooling": cooling(root),
        "power_alarms": power_alarms(root),
        "cma_total": memory.get("CmaTotal"),
        "cma_free": memory.get("CmaFree"),
        "killed": killed(root),
        "emmc": emmc(root),
        "ntp": ntp(),
        "reboot": read(root, "run/reboot-required") is not None,
        "packages": packages(),
    }


def zones(root: str) -> List[Dict[str, Any]]:
    """Thermal zones (the kernel's ABI/testing/sysfs-class-thermal): type, temperature, the lowest trip points."""
    base = os.path.join(root, "sys/class/thermal")
    found = []
    for name in names(base):
        temperature = number(read(base, name, "temp"))
        if not name.startswith("thermal_zone") or temperature is None:
            continue
        trips = _trips(os.path.join(base, name))
        found.append(
            {
                "zone": name,
                "type": read(base, name, "type"),
                "temp": temperature,
                "active": trips.get("active"),
                "passive": trips.get("passive"),
                "critical": trips.get("critical"),
            }
        )
    return found


def _trips(zone: str) -> Dict[str, int]:
    """The lowest trip point of each kind: from there on a fan turns (active), the CPU is slowed down (passive)."""
    lowest: Dict[str, int] = {}
    for trip in range(_TRIPS):
        kind = read(zone, "trip_point_%d_type" % trip)
        temperature = number(read(zone, "trip_point_%d_temp" % trip))
        # One that is not in use is at 0, or below absolute zero (linux/thermal.h, THERMAL_TEMP_INVALID).
        if kind and temperature and temperature > 0:
            lowest[kind] = min(temperature, lowest.get(kind, temperature))
    return lowest


def fans(root: str) -> List[Dict[str, Any]]:
    """Fans of hwmon: whose they are, turns per minute, and how fast they are told to turn (0 to 255)."""
    return [
        {
            "fan": "%s %s" % (read(folder, "name") or "", name[: -len("_input")]),
            "chip": read(folder, "name"),
            "rpm": number(read(folder, name)),
            "pwm": number(read(folder, "pwm" + name[len("fan") : -len("_input")])),
        }
        for folder in _hwmon(root)
        for name in names(folder)
        if re.match(r"fan\d+_input\Z", name)
    ]


def cooling(root: str) -> List[Dict[str, Any]]:
    """Fans that the kernel turns on and off by a zone's temperature: their step (0: still), and the fastest."""
    base = os.path.join(root, "sys/class/thermal")
    return [
        {
            "device": name,
            "type": read(base, name, "type"),
            "state": number(read(base, name, "cur_state")),
            "max": number(read(base, name, "max_state")),
        }
        for name in names(base)
        if name.startswith("cooling_device") and read(base, name, "type") in FANS
    ]


def power_alarms(root: str) -> List[str]:
    """The voltages that a sensor calls too low, now or since it was last asked (hwmon: in*_lcrit_alarm, in*_alarm)."""
    return [
        "%s %s" % (read(folder, "name") or "", voltage)
        for folder in _hwmon(root)
        for voltage in dict.fromkeys(name.split("_")[0] for name in names(folder) if re.match(r"in\d+_", name))
        if _too_low(os.path.join(folder, voltage))
    ]


def _too_low(voltage: str) -> bool:
    """Whether an alarm is on that speaks of a lower limit; `voltage`: what its files begin with."""
    if read(voltage + "_lcrit_alarm") == "1":
        return True
    # Most chips of PCs have limits that nobody has set, and alarms that are on for ever.
    least, measured = number(read(voltage + "_min")), number(read(voltage + "_input"))
    if least is None or least <= 0:
        return False
    # This one is of both limits.
    general = read(voltage + "_alarm") == "1" and measured is not None and measured < least
    return general or read(voltage + "_min_alarm") == "1"


def killed(root: str) -> Optional[List[Dict[str, Any]]]:
    """Whom the kernel killed last for want of the host's memory: the name, and when, in seconds since the start.

    From the kernel's log (mm/oom_kill.c); None where that is not told. Who only reached the limit of a container is
    not among them.
    """
    lines = kernel_log(root, ["Kill process ", "Killed process "])
    if lines is None:
        return None
    found = []
    contained = False
    for line in lines:
        # Whose memory it was: newer kernels say it on the same line, older ones (4.14) on one before.
        reason = re.match(r"\[\S+\] (.*?): Kill(?:ed)? process ", line)
        if reason:
            contained = reason.group(1).startswith("Memory cgroup ")
        death = re.match(r"\[(\d+\.\d+)\] .*\bKilled process \d+ \((.*)\).*\btotal-vm:", line)
        if death and not contained:
            found.append({"name": death.group(2), "at": float(death.group(1))})
    return found[-_KILLED:]


def emmc(root: str) -> List[Dict[str, Any]]:
    """eMMC chips that tell of their wear (JEDEC 5.0): tenths of the life used (11: beyond it), and pre-EOL 1 to 3."""
    base = os.path.join(root, "sys/class/mmc_host")
    found = []
    for host in names(base):
        for card in names(base, host):
            # One number for each kind of its cells.
            parts = [_hex(part) for part in (read(base, host, card, "life_time") or "").split()]
            life = max((part for part in parts if part is not None), default=None)
            pre_eol = _hex(read(base, host, card, "pre_eol_info"))
            if life is not None or pre_eol is not None:
                found.append({"card": card, "life": life, "pre_eol": pre_eol})
    return found


def ntp() -> Dict[str, Optional[bool]]:
    """The clock's time service: whether there is one, it is on, and the clock follows it; None where it is not told."""
    about = {"can": "CanNTP", "enabled": "NTP", "synchronized": "NTPSynchronized"}
    said = output(["timedatectl", "show", *("--property=" + name for name in about.values())], _SECONDS) or ""
    told = dict(re.findall(r"^(\w+)=(\w+)$", said, re.M))
    return {key: {"yes": True, "no": False}.get(told.get(name, "")) for key, name in about.items()}


def packages() -> Dict[str, str]:
    """Versions of those of PACKAGES that are installed."""
    form = "${Package} ${db:Status-Status} ${Version}\\n"
    said = output(["dpkg-query", "-W", "-f", form, *PACKAGES], _SECONDS) or ""
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
